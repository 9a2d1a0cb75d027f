"""Prioritised replay: what surprised more is replayed more often, and weighs less in return.

    P(i) = p_i / sum_k p_k,    p_i = (|delta_i| + eps)^alpha        delta_i: the error when row i was replayed last
    w_i = (M P(i))^-beta / max_j w_j                                the maximum over the batch, M rows

A new row has the greatest priority that there ever was, so that everything is replayed soon. A batch of B rows is drawn
one from each of B equal parts of the sum of the priorities, as in the paper.
Source: Schaul et al. 2016, algorithm 1, equation 1 and section 3.4, https://arxiv.org/abs/1511.05952
"""

from __future__ import annotations

import numpy as np
from pydantic import Field, field_validator

from rltrain.core import Array, State
from rltrain.schedules import Constant, ScheduleSetting
from rltrain.settings import Settings
from rltrain.sum_tree import SumTree


class PrioritySettings(Settings):
    """How strongly replay prefers what surprised."""

    alpha: float = Field(default=0.6, ge=0, le=1)
    """Exponent of the priorities: 0 draws uniformly, 1 in proportion to the errors. The paper's is 0.6."""
    beta: ScheduleSetting = Constant(value=0.4)
    """Exponent of the weights that make up for it: 0 not at all, 1 in full. In the paper a schedule from 0.4 to 1."""
    eps: float = Field(default=1e-6, gt=0)
    """Added to every error, so that nothing is never replayed."""

    @field_validator("beta")
    @classmethod
    def _share(cls, beta: ScheduleSetting) -> ScheduleSetting:
        if not 0 <= beta.bounds[0] <= beta.bounds[1] <= 1:
            raise ValueError("beta must stay between 0 and 1")
        return beta


class Priorities:
    """The priority of every row of a replay buffer. Rows are numbered as in its ring."""

    def __init__(self, settings: PrioritySettings, capacity: int) -> None:
        self._settings, self._capacity = settings, capacity
        self._tree = SumTree(capacity)
        self._greatest = 1.0  # priority that there ever was
        self._new: list[int] = []  # rows that were stored since the last draw

    def add(self, row: int) -> None:
        """A row was stored."""
        self._new.append(row)

    def draw(self, batch_size: int, rows: int, beta: float, rng: np.random.Generator) -> tuple[Array, Array]:
        """Rows (B,) and their weights (B,) float64, of a buffer with so many rows."""
        self._take_in()
        drawn = self._tree.find((np.arange(batch_size) + rng.random(batch_size)) / batch_size)
        return drawn, importance_weights(self._tree[drawn] / self._tree.total, rows, beta)

    def update(self, rows: Array, error: Array) -> None:
        """Take note of the errors (B,) that rows (B,) have now."""
        priority = (np.abs(error, dtype=np.float64) + self._settings.eps) ** self._settings.alpha
        self._tree[rows] = priority
        self._greatest = max(self._greatest, float(priority.max()))

    def _take_in(self) -> None:
        if self._new:
            self._tree[np.array(self._new)] = self._greatest
            self._new = []

    def state_dict(self, rows: int) -> State:
        """The priorities of the rows there are, and the greatest ever."""
        self._take_in()
        return {"priority": self._tree[:rows], "greatest": self._greatest}

    def load_state_dict(self, state: State) -> None:
        """Restore the state."""
        self._tree = SumTree(self._capacity)
        self._tree[np.arange(len(state["priority"]))] = state["priority"]
        self._greatest, self._new = float(state["greatest"]), []


def importance_weights(probability: Array, rows: int, beta: float) -> Array:
    """(M P(i))^-beta, divided by the greatest of the batch: (B,) -> (B,)."""
    weight = (rows * probability) ** -beta
    return np.asarray(weight / weight.max())
