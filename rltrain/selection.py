"""Choosing one action from one row of action values, and the frame of every selector that works so.

Greedy ties are broken uniformly while exploring; evaluation (`Agent.act(explore=False)`) takes the
lowest index, so that it is the same every time. Shapes: N environments, A actions.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import cached_property
from itertools import repeat
from typing import Any, ClassVar, Literal

import numpy as np

from rltrain.compilable import compilable
from rltrain.core import ActionValues, Array, Metrics, State
from rltrain.schedules import Constant
from rltrain.settings import Settings

WAITING = 65_536
"""Values that wait at most before the choices among them are counted: half a megabyte."""


@compilable
def greatest(row: Any) -> Any:
    """The greatest value of a row (A,)."""
    best = row[0]
    for action in range(1, len(row)):
        if row[action] > best:
            best = row[action]
    return best


@compilable
def least(row: Any) -> Any:
    """The least value of a row (A,)."""
    worst = row[0]
    for action in range(1, len(row)):
        if row[action] < worst:
            worst = row[action]
    return worst


@compilable
def first_best(row: Any) -> int:
    """The lowest index of the greatest value of a row (A,)."""
    index = 0
    for action in range(1, len(row)):
        if row[action] > row[index]:
            index = action
    return index


@compilable
def random_best(row: Any, rng: Any) -> int:
    """An index of the greatest value of a row (A,), uniform among ties; draws only where there are ties."""
    index, ties = 0, 1
    for action in range(1, len(row)):
        if row[action] > row[index]:
            index, ties = action, 1
        elif row[action] == row[index]:
            ties += 1
            if rng.random() * ties < 1.0:
                index = action
    return index


@compilable
def random_action(actions: int, rng: Any) -> int:
    """Uniform over 0 ... actions - 1."""
    return int(rng.random() * actions)


@compilable
def share_among_best(scores: Any, share: float, out: Any) -> None:
    """Add `share` to `out` (A,), in equal parts to the indices of the greatest of `scores` (A,)."""
    best = greatest(scores)
    ties = 0
    for action in range(len(scores)):
        ties += scores[action] == best
    for action in range(len(scores)):
        if scores[action] == best:
            out[action] += share / ties


@compilable
def no_probabilities(q: Any, visits: Any, levels: Any, out: Any) -> None:
    """Stands for the probabilities of a selector that has none in closed form; is never called."""


class Choices:
    """How many actions were chosen, and how many of them explore. Counts many rows at once: one by one is slow."""

    def __init__(self) -> None:
        self._made = self._exploratory = 0
        self._size = 0  # values that wait to be counted
        self._waiting: list[tuple[Array, Array]] = []

    def add(self, values: Array, chosen: Array) -> None:
        """Take in values (N, A) and what was chosen from them (N,)."""
        self._waiting.append((values.copy(), chosen.copy()))
        self._size += values.size
        if self._size >= WAITING:
            self._count()

    def take(self) -> tuple[int, int]:
        """Actions chosen since the last time, and those among them that explore."""
        self._count()
        taken = self._made, self._exploratory
        self._made = self._exploratory = 0
        return taken

    def _count(self) -> None:
        if self._waiting:
            values, chosen = (np.concatenate(parts) for parts in zip(*self._waiting, strict=True))
            below = values[np.arange(len(chosen)), chosen] < values.max(axis=1)
            self._made, self._exploratory = self._made + len(chosen), self._exploratory + int(below.sum())
            self._waiting, self._size = [], 0


class Selector(ABC):
    """What every strategy is that turns action values into actions: `pick`, and a count of how often it explores."""

    kind = "selector"
    needs: tuple[str, ...] = ()
    """Fields of `ActionValues` beside `mean`, one of which it must have."""

    @abstractmethod
    def pick(self, values: ActionValues, step: int, rng: np.random.Generator) -> Array:
        """Actions (N,), counted from 0, at an environment step. All that is random comes from `rng`."""

    def select(self, values: ActionValues, step: int, rng: np.random.Generator) -> Array:
        """Actions (N,), counted from 0, and noted in `choices`."""
        chosen = self.pick(values, step, rng)
        self.choices.add(values.mean, chosen)
        return chosen

    @cached_property
    def choices(self) -> Choices:
        """What was chosen since the loop asked. No state: the loop asks before a checkpoint is written."""
        return Choices()

    def metrics(self, step: int) -> Metrics:
        """What the log shows; nothing unless a strategy says more."""
        return {}

    def state_dict(self) -> State:
        """No state, unless a strategy remembers something."""
        return {}

    def load_state_dict(self, state: State) -> None:  # noqa: B027 most strategies remember nothing
        """Restore the state."""


class RowSelector(Selector):
    """A selector that is told by what it does with one row of values.

    A strategy gives two compilable functions. `choose(q, visits, levels, scratch, rng) -> int` draws an
    action from q (A,) and visits (A,), or what else it `reads`, with `levels`, the current numbers of its
    schedules, and `scratch` (A,) to work in. `probabilities(q, visits, levels, out)` writes the distribution that
    `choose` draws from into `out` (A,); None where it has no closed form.
    """

    levels: ClassVar[tuple[str, ...]] = ()
    """Settings that are schedules or plain numbers, in the order in which `choose` takes their values."""
    reads: Literal["visits", "moments"] = "visits"
    """The field of which `choose` gets a row beside q."""
    choose: Callable[..., int]
    probabilities: ClassVar[Callable[..., None] | None] = None

    def __init__(self, config: Settings) -> None:
        settings = {name: getattr(config, name) for name in self.levels}
        self._scheduled = [name for name, value in settings.items() if callable(value)]
        self.schedules = [value if callable(value) else Constant(value=float(value)) for value in settings.values()]

    def levels_at(self, step: int) -> list[float]:
        """The values of the schedules at an environment step."""
        return [schedule(step) for schedule in self.schedules]

    def pick(self, values: ActionValues, step: int, rng: np.random.Generator) -> Array:
        """Actions (N,), drawn row after row."""
        levels = self.levels_at(step)
        known = values.visits if self.reads == "visits" else values.moments
        scratch, choose = [0.0] * values.mean.shape[1], self.choose
        rows = zip(values.mean.tolist(), repeat(()) if known is None else known.tolist(), strict=False)
        return np.array([choose(row, seen, levels, scratch, rng) for row, seen in rows])

    def metrics(self, step: int) -> Metrics:
        """The current value of every schedule."""
        values = dict(zip(self.levels, self.levels_at(step), strict=True))
        return {f"exploration/{name}": values[name] for name in self._scheduled}
