"""Images of a replay buffer, each frame stored once however many stacks and transitions show it.

Legend: N environments, B batch, M transitions, K frames in a stack (1 where nothing is stacked), S slots.

A frame knows the one before it in its stack, and the oldest frame of a stack that repeats it knows itself, so that
going back K - 1 steps from any frame gives what was seen with it and never a frame of another episode. Transitions hold
the slot of the newest frame of an observation. What is stored is compared with what was stored before, never assumed.
"""

from __future__ import annotations

import numpy as np

from rltrain.array_file import copy_blocks
from rltrain.core import Array, State

SPARE = 16
"""A store begins with room for M / SPARE frames beyond M, as an episode has one frame more than transitions."""


def frame_shape(shape: tuple[int, ...], stack: int) -> tuple[int, ...]:
    """Of one frame of an observation."""
    return shape[1:] if stack > 1 else shape


def reach(num_envs: int, n_step: int, stack: int) -> int:
    """The frames that a transition shows are among so many that came last before it was stored, at most.

    A step stores no more than two whole stacks of each environment, and the oldest frame shown is n + K - 1 steps old.
    """
    return num_envs * (n_step + stack) * 2 * stack


class FrameStore:
    """Frames of the newest M transitions. A slot is used again when no transition shows its frame, the oldest first.

    The system gives memory only for what is written to.
    """

    def __init__(self, capacity: int, shape: tuple[int, ...], num_envs: int, *, n_step: int, stack: int) -> None:
        """`shape` is an observation's, (K, *frame) where frames are stacked; `capacity` is M."""
        self._stack, self._reach = stack, reach(num_envs, n_step, stack)
        slots = capacity + capacity // SPARE + self._reach
        self._frames = np.zeros((slots, *frame_shape(shape, stack)), np.uint8)
        self._before = np.zeros(slots, np.int32)  # slot of the frame before in the stack
        self._queue = np.zeros(slots, np.int32)  # slots in the order in which they were filled, as a ring
        self._oldest = self._filled = self._used = 0  # frames filled in all are numbered; slots ever used
        self._needed = 0  # the oldest frame that may still be shown
        self._born = np.zeros(capacity, np.int64)  # how many frames there were when a transition was stored
        self._newest = np.zeros(num_envs, np.int32)  # slot for each environment
        self._seen = np.zeros((0, *shape), np.uint8)  # what was seen last (N, *shape); empty at first

    def place(self, obs: Array, next_obs: Array) -> tuple[Array, Array]:
        """Store what is new in these observations (N, *shape). Returns the slots (N,) that show them."""
        count, newest, stack = len(obs), self._newest, self._stack
        goes_on = (obs == self._seen).reshape(count, -1).all(1) if len(self._seen) else np.zeros(count, bool)
        for env in map(int, np.flatnonzero(~goes_on)):
            newest[env] = self._push_all(obs[env])
        slots = newest.copy()
        if stack == 1:
            for env in range(count):
                newest[env] = self._push(next_obs[env], None)
        else:
            shifted = (next_obs[:, :-1] == obs[:, 1:]).reshape(count, -1).all(1)
            for env in range(count):
                frame = next_obs[env]
                newest[env] = self._push(frame[-1], newest[env]) if shifted[env] else self._push_all(frame)
        self._seen = next_obs
        return slots, newest.copy()

    def _push_all(self, stack: Array) -> int:
        """Store all frames of a stack; one that only repeats the first is not stored again."""
        if self._stack == 1:
            return self._push(stack, None)
        slot = self._push(stack[0], None)
        for frame in stack[1:]:
            if self._before[slot] != slot or not np.array_equal(frame, self._frames[slot]):
                slot = self._push(frame, slot)
        return slot

    def _push(self, frame: Array, before: int | None) -> int:
        """Store a frame, after another or after none."""
        if self._oldest < self._needed:
            slot = int(self._queue[self._oldest % len(self._queue)])
            self._oldest += 1
        else:
            if self._used == len(self._frames):
                self._grow()
            slot, self._used = self._used, self._used + 1
        self._queue[self._filled % len(self._queue)] = slot
        self._filled += 1
        self._frames[slot], self._before[slot] = frame, slot if before is None else before
        return slot

    def _grow(self) -> None:
        """Make room for an eighth more, as episodes of a few steps need; the system moves no memory for it."""
        number = np.arange(self._oldest, self._filled)
        inside, size = self._queue[number % self._used], self._used + self._used // 8 + 1
        try:
            self._frames.resize((size, *self._frames.shape[1:]))
        except ValueError:  # somebody holds a state, which shows this memory
            more = np.zeros((size - self._used, *self._frames.shape[1:]), np.uint8)
            self._frames = np.concatenate([self._frames, more])
        self._before.resize(size, refcheck=False)
        self._queue = np.zeros(size, np.int32)
        self._queue[number % size] = inside

    def stored(self, at: int, oldest: int | None) -> None:
        """A transition was stored in row `at`; `oldest` is the row of the oldest that is left once all are taken."""
        self._born[at] = self._filled
        if oldest is not None:
            self._needed = max(0, int(self._born[oldest]) - self._reach)

    def take(self, slots: Array) -> Array:
        """Observations (B, *shape) that slots (B,) show."""
        if self._stack == 1:
            return self._frames[slots]
        return self._frames[self._stacks(slots)]

    def _stacks(self, slots: Array) -> Array:
        """Slots (B, K) of the frames of each stack, the oldest first."""
        found = np.empty((len(slots), self._stack), np.int32)
        found[:, -1] = slots
        for place in range(self._stack - 2, -1, -1):
            found[:, place] = self._before[found[:, place + 1]]
        return found

    def state_dict(self, rows: int) -> State:
        """Every slot that was ever used; `rows` is how many transitions there are.

        The frames are the store's own memory, not a copy: they change with the next step.
        """
        return {
            "frames": self._frames[: self._used],
            "before": self._before[: self._used].copy(),
            "queue": self._queue[np.arange(self._oldest, self._filled) % len(self._queue)],
            "oldest": self._oldest,
            "born": self._born[:rows].copy(),
            "newest": self._newest.copy(),
            "seen": self._seen.copy(),
        }

    def load_state_dict(self, state: State, oldest: int | None) -> None:
        """Restore the state. `oldest` as in `stored`."""
        count = len(state["frames"])
        if count > len(self._frames):
            self._frames = np.zeros(state["frames"].shape, np.uint8)
            self._before, self._queue = np.zeros(count, np.int32), np.zeros(count, np.int32)
        copy_blocks(state["frames"], self._frames)
        self._before[:count] = state["before"]
        self._oldest = state["oldest"]
        self._filled, self._used = self._oldest + count, count
        self._queue[np.arange(self._oldest, self._filled) % len(self._queue)] = state["queue"]
        self._born[: len(state["born"])] = state["born"]
        self._newest, self._seen = np.array(state["newest"]), np.array(state["seen"])
        self._needed = 0 if oldest is None else max(0, int(self._born[oldest]) - self._reach)
