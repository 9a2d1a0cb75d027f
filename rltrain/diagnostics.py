"""What can be seen of exploration: how actions are spread, how many states were visited, what novelty still pays.

Counting one step at a time would cost as much as a step. What was done and seen is written into memory that is
counted when it is full, or when somebody asks. Shapes: N environments, K parts of an action, A values of a part.
"""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np

from rltrain.core import Array, Metrics, Progress, State
from rltrain.encoding import alternatives
from rltrain.hashing import HashSettings, SimHash
from rltrain.selection import Selector

ROWS = 4_096
"""Rows that wait at most before they are counted."""
SLOT_BITS = 18
"""Observations that are not Discrete are told apart by so many bits."""


class Visited:
    """Which states an action was taken in. Discrete ones are counted exactly, others by their hash (SimHash).

    Hashes are spread over M = 2^18 places; of n of them about n^2 / (2 M) fall on one that is taken and are missed.
    """

    def __init__(self, space: gym.Space[Any]) -> None:
        self._first: int | None = None
        if isinstance(space, gym.spaces.Discrete):
            self._first, size = int(space.start), int(space.n)
        else:
            planes = np.random.default_rng(0)  # the same in every run, so that runs can be compared
            self._hash, size = SimHash(HashSettings(), space, planes), 2**SLOT_BITS
        self.seen = np.zeros(size, bool)

    @staticmethod
    def knows(space: gym.Space[Any]) -> bool:
        """Whether observations can be told apart: one number, several, or a vector of them."""
        return alternatives(space) is not None or (isinstance(space, gym.spaces.Box) and len(space.shape) == 1)

    def add(self, obs: Array) -> None:
        """Take in observations (n, *obs_shape)."""
        if self._first is not None:
            self.seen[obs - self._first] = True
            return
        spread = self._hash(obs)[:, 0].view(np.uint64) * np.uint64(0x9E3779B97F4A7C15)  # 2^64 by the golden ratio
        self.seen[(spread >> np.uint64(64 - SLOT_BITS)).view(np.int64)] = True

    def count(self) -> int:
        """How many there are."""
        return int(np.count_nonzero(self.seen))

    def state_dict(self) -> State:
        """A bit for each."""
        return {"seen": np.packbits(self.seen)}

    def load_state_dict(self, state: State) -> None:
        """Restore the state, in the same memory."""
        self.seen[:] = np.unpackbits(state["seen"], count=len(self.seen)).astype(bool)


class ActionCounts:
    """How often each action was taken, in each part of it: (K, A), with zeros where a part has fewer values."""

    def __init__(self, counts: Array, starts: Array) -> None:
        self._shape = (len(counts), int(counts.max()))
        self._shift = np.arange(len(counts)) * self._shape[1] - starts
        self._taken = np.zeros(self._shape, np.int64)

    def add(self, actions: Array) -> None:
        """Take in actions (n, *action_shape)."""
        place = np.asarray(actions, np.int64).reshape(-1, self._shape[0]) + self._shift
        self._taken += np.bincount(place.ravel(), minlength=self._taken.size).reshape(self._shape)

    def take(self) -> Array:
        """Counts since the last time."""
        taken, self._taken = self._taken, np.zeros(self._shape, np.int64)
        return taken


class Diagnostics:
    """Counts what a loop of N environments does."""

    def __init__(self, obs: gym.Space[Any], action: gym.Space[Any], num_envs: int, exploration: Any) -> None:
        """Spaces of one environment, and the agent's exploration; it is asked where it is a `Selector`."""
        self._selector = exploration if isinstance(exploration, Selector) else None
        self.visited = Visited(obs) if Visited.knows(obs) else None
        parts = alternatives(action)
        self._actions = None if parts is None else ActionCounts(*parts)
        self._steps = max(1, ROWS // num_envs)  # vector steps that wait at most
        self._waiting = 0
        self._seen, self._done = (
            np.zeros((self._steps, num_envs, *(space.shape or ())), space.dtype) if counter is not None else np.zeros(0)
            for space, counter in ((obs, self.visited), (action, self._actions))
        )

    def add(self, obs: Array, action: Array) -> None:
        """Take in what was seen (N, *obs_shape) and done (N, *action_shape) in one step."""
        at = self._waiting
        if self.visited is not None:
            self._seen[at] = obs
        if self._actions is not None:
            self._done[at] = action
        self._waiting = at + 1
        if self._waiting == self._steps:
            self._count()

    def _count(self) -> None:
        count, self._waiting = self._waiting, 0
        for counter, rows in ((self.visited, self._seen), (self._actions, self._done)):
            if counter is not None and count:
                counter.add(rows[:count].reshape(-1, *rows.shape[2:]))

    def report(self, progress: Progress) -> None:
        """Tell what has happened since the last time, and how many states were visited in all."""
        self._count()
        if self._selector is not None:
            progress.choices, progress.exploratory = self._selector.choices.take()
        if self._actions is not None:
            progress.actions = self._actions.take()
        if self.visited is not None:
            progress.metrics["exploration/distinct_states"] = self.visited.count

    def state_dict(self) -> State:
        """The states that were visited. What waits for the log is the log's."""
        self._count()
        return {} if self.visited is None else self.visited.state_dict()

    def load_state_dict(self, state: State) -> None:
        """Restore the state."""
        self._count()
        if self.visited is not None:
            self.visited.load_state_dict(state)


def entropy(counts: Array) -> float:
    """Sum over the parts of H = -sum_a p_a ln p_a, in nats; p are the shares of counts (K, A).

    Of an action of several parts this is what its entropy is at most, and is where they are independent.
    """
    total = counts.sum(axis=1, keepdims=True)
    p = counts / np.maximum(total, 1)
    return float(-(p * np.log(np.where(p > 0, p, 1.0))).sum())


class BonusTrend:
    """The mean bonus of a step since the last entry of the log, and what share it is of that of the first entry."""

    def __init__(self) -> None:
        self._step, self._paid = 0, 0.0  # at the last entry
        self._first: float | None = None

    def __call__(self, step: int, paid: float) -> Metrics:
        """`paid` is the sum of all bonuses up to this step."""
        mean = (paid - self._paid) / (step - self._step)
        self._step, self._paid = step, paid
        if self._first is None and mean > 0:
            self._first = mean
        decay = {} if self._first is None else {"exploration/bonus_decay": mean / self._first}
        return {"exploration/bonus_mean": mean, **decay}

    def state_dict(self) -> State:
        """The last entry, and the first mean that was not 0."""
        return {"step": self._step, "paid": self._paid, "first": self._first}

    def load_state_dict(self, state: State) -> None:
        """Restore the state."""
        self._step, self._paid, self._first = state["step"], state["paid"], state["first"]
