"""Processes that learn one agent together, each from environments of its own.

A run on R ranks with E environments each is the run of one process with R * E environments, of which rank r has those
from r * E on. All that a part has to know of it is a `Team`: what to average, and which rows of a whole are its own.

Legend: R ranks, E environments of each.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]
Tensor = Any
"""An array of NumPy or a tensor of torch."""


class Team(ABC):
    """What a rank tells the others, and hears of them: every rank calls the same methods in the same order."""

    def __init__(self, rank: int, size: int) -> None:
        self.rank = rank
        self.size = size
        self.share = 1.0
        """What part of the latest average was this rank's."""

    @abstractmethod
    def gather(self, x: Tensor) -> Tensor:
        """Everyone's array of this shape, (R, *shape)."""

    @abstractmethod
    def add(self, x: Tensor) -> None:
        """The sum over all ranks, in place; to the last bit the same on each."""

    def average(self, x: Tensor, share: float) -> Tensor:
        """sum_r share_r x_r, in place: the mean over all rows where each `x` is the mean over a share of them."""
        self.share = share
        x *= share
        self.add(x)
        return x

    def any(self, told: bool) -> bool:
        """Whether it is so on any rank."""
        return bool(self.gather(np.array(float(told))).any())

    def rows(self, rows: Array, where: Array | None = None) -> Array:
        """What all environments have (R * E, *shape), from (E, *shape) of each; or only those `where` (E,) is true."""
        chosen = np.ones(len(rows), bool) if where is None else where
        told = self.gather(np.column_stack((rows.reshape(len(rows), -1), chosen)).astype(np.float64))
        told = told.reshape(-1, told.shape[-1])
        return np.asarray(told[told[:, -1] > 0, :-1].reshape(-1, *rows.shape[1:]))

    def part(self, whole: Any) -> Any:
        """This rank's of what all environments have, (R * E, ...) to (E, ...)."""
        own = len(whole) // self.size
        return whole[self.rank * own : (self.rank + 1) * own]

    def spread(self, rows: Array) -> Array:
        """An array (R * E, *shape) of which `part` gives these rows (E, *shape), and others are 0."""
        whole = np.zeros((self.size * len(rows), *rows.shape[1:]), rows.dtype)
        self.part(whole)[:] = rows
        return whole

    def locate(self, rows: Array, envs: int) -> tuple[Array, Array]:
        """Which rows of a whole rollout (T * R * E) are of this rank's `envs`, and their places in its own (T * E)."""
        step, env = np.divmod(rows, self.size * envs)
        env -= self.rank * envs
        here = (env >= 0) & (env < envs)
        return here, (step * envs + env)[here]


class Alone(Team):
    """A team of one, which has nobody to ask: nothing is copied, and nothing costs anything."""

    def __init__(self) -> None:
        super().__init__(0, 1)

    def gather(self, x: Tensor) -> Tensor:
        """The array itself."""
        return x[None]

    def add(self, x: Tensor) -> None:
        """A sum of one."""

    def average(self, x: Tensor, share: float) -> Tensor:
        """The only share is all."""
        return x

    def any(self, told: bool) -> bool:
        """The same."""
        return told

    def rows(self, rows: Array, where: Array | None = None) -> Array:
        """Its own."""
        return rows if where is None else rows[where]

    def spread(self, rows: Array) -> Array:
        """The same."""
        return rows

    def locate(self, rows: Array, envs: int) -> tuple[Array, Array]:
        """All, where they are."""
        return np.ones(len(rows), bool), rows


ALONE = Alone()
"""The team of a run in one process."""
