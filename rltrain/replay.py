"""Experience replay: what happened, kept in a ring and drawn uniformly or by priority, with n-step returns inside.

Source: Lin 1992; Mnih et al. 2015. Legend: N environments, B batch, M capacity, n steps.

Rows are finished when they are stored: an n-step row holds r_t + gamma r_(t+1) + ... , the discount
gamma**(actual n), or 0 where the task ended, and the observation that many steps later. At an
episode's end every open row is finished early, so no row ever crosses an episode, and a sample is a
plain gather. Images are kept as frames, each once (`frames.py`), and rows hold their places.
"""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np

from rltrain.array_file import copy_blocks
from rltrain.core import Array, Batch, EnvSpec, RltrainError, State, Transition
from rltrain.encoding import is_image
from rltrain.frames import FrameStore, reach
from rltrain.memory import MEMORY_SHARE, available_bytes
from rltrain.priorities import Priorities, PrioritySettings


class ReplayError(RltrainError):
    """The buffer cannot hold what it was given."""

    exit_code = 65


def stored_dtype(space: gym.Space[Any]) -> np.dtype[Any]:
    """Integers and bytes as they are, floats as float32."""
    if isinstance(space, gym.spaces.Discrete):
        return np.dtype(np.int64)
    dtype = np.dtype(space.dtype or np.float32)
    return np.dtype(np.float32) if dtype.kind == "f" else dtype


def required_bytes(capacity: int, spec: EnvSpec, n_step: int = 1, *, prioritized: bool = False) -> int:
    """Bytes that a buffer of `capacity` transitions takes, known before it is made.

    Of images, where episodes are long: each has a frame more than transitions.
    """
    obs = int(np.prod(spec.observation_space.shape or ())) * stored_dtype(spec.observation_space).itemsize
    action = int(np.prod(spec.action_space.shape or ())) * stored_dtype(spec.action_space).itemsize
    row = action + 8 + (8 if prioritized else 0)  # reward and discount: 4 bytes each
    if not is_image(spec.observation_space):
        return capacity * (2 * obs + row)
    frames = capacity + reach(spec.num_envs, n_step, spec.frame_stack)
    return frames * (obs // spec.frame_stack + 8) + capacity * (row + 16)  # places of frames: 4 bytes, age: 8


def memory_problem(capacity: int, spec: EnvSpec, n_step: int = 1, *, prioritized: bool = False) -> str | None:
    """Why a buffer of this capacity is refused, or None."""
    need, free = required_bytes(capacity, spec, n_step, prioritized=prioritized), available_bytes()
    if need <= MEMORY_SHARE * free:
        return None
    return (
        f"a buffer of {capacity:,} transitions takes {need / 2**30:.1f} GiB and {free / 2**30:.1f} GiB are free, "
        f"of which it may take {MEMORY_SHARE * 100:.0f} %: at most {int(MEMORY_SHARE * free / (need / capacity)):,} fit"
    )


class ReplayBuffer:
    """A ring of `capacity` transitions. `sample` draws with replacement: uniformly, or by `prioritized`."""

    def __init__(
        self,
        capacity: int,
        spec: EnvSpec,
        *,
        gamma: float,
        n_step: int = 1,
        prioritized: PrioritySettings | None = None,
        rng: np.random.Generator,
    ) -> None:
        if problem := memory_problem(capacity, spec, n_step, prioritized=prioritized is not None):
            raise ReplayError(problem)
        shape, dtype = tuple(spec.observation_space.shape or ()), stored_dtype(spec.observation_space)
        self._frames: FrameStore | None = None
        if is_image(spec.observation_space):
            self._frames = FrameStore(capacity, shape, spec.num_envs, n_step=n_step, stack=spec.frame_stack)
            shape, dtype = (), np.dtype(np.int32)  # rows hold places of frames
        self._capacity = capacity
        self._rng = rng
        self._columns: dict[str, Array] = {
            "obs": np.zeros((capacity, *shape), dtype),
            "action": np.zeros((capacity, *(spec.action_space.shape or ())), stored_dtype(spec.action_space)),
            "reward": np.zeros(capacity, np.float32),
            "discount": np.zeros(capacity, np.float32),
            "next_obs": np.zeros((capacity, *shape), dtype),
        }
        self._position = 0
        self._size = 0
        self._gamma = gamma
        self._priorities = None if prioritized is None else Priorities(prioritized, capacity)
        self._windows = [_Window(n_step, gamma) for _ in range(spec.num_envs)]
        self._n_step = n_step
        self._batches: dict[int, tuple[dict[str, Array], Batch]] = {}

    def __len__(self) -> int:
        return self._size

    def add(self, transition: Transition) -> None:
        """Store one step of N environments. Raises ReplayError for an observation that is not finite."""
        obs, next_obs = self._observations(transition.obs, transition.next_obs)
        if self._n_step == 1:
            discounts = np.where(transition.terminated, 0.0, self._gamma)
            for i in range(len(obs)):
                self._store(obs[i], transition.action[i], transition.reward[i], discounts[i], next_obs[i])
            return
        for i, window in enumerate(self._windows):
            terminated = bool(transition.terminated[i])
            over = terminated or bool(transition.truncated[i])
            window.push(obs[i], transition.action[i], float(transition.reward[i]))
            for first_obs, action, reward, discount in window.finished(over):
                self._store(first_obs, action, reward, 0.0 if terminated else discount, next_obs[i])

    def abandon(self, env: int) -> None:
        """Give up the steps of an open episode that wait for their n-step return."""
        self._windows[env].clear()

    def _observations(self, obs: Array, next_obs: Array) -> tuple[Array, Array]:
        """What rows hold of these observations (N, ...)."""
        if self._frames is not None:
            return self._frames.place(obs, next_obs)
        return self._cast(obs), self._cast(next_obs)

    def _cast(self, obs: Array) -> Array:
        dtype = self._columns["obs"].dtype
        if obs.dtype != dtype:
            with np.errstate(over="ignore"):
                obs = obs.astype(dtype)
        if dtype.kind == "f" and not np.isfinite(obs).all():
            index = int(np.flatnonzero(~np.isfinite(obs.reshape(len(obs), -1)).all(axis=1))[0])
            raise ReplayError(f"environment {index}: an observation is not finite in float32: {obs[index]}")
        return obs

    def _store(self, obs: Array, action: Array, reward: float, discount: float, next_obs: Array) -> None:
        columns, at = self._columns, self._position
        columns["obs"][at] = obs
        columns["action"][at] = action
        columns["reward"][at] = reward
        columns["discount"][at] = discount
        columns["next_obs"][at] = next_obs
        if self._priorities is not None:
            self._priorities.add(at)
        self._position = (at + 1) % self._capacity
        self._size = min(self._size + 1, self._capacity)
        if self._frames is not None:
            self._frames.stored(at, self._oldest)

    @property
    def _oldest(self) -> int | None:
        """Row of the oldest transition, once there is one to be overwritten."""
        return self._position if self._size == self._capacity else None

    def sample(self, batch_size: int, *, beta: float = 1.0) -> Batch:
        """Draw `batch_size` rows. The batch's memory is used again by the next call.

        Where rows have priorities, `beta` is how far weights make up for them, as in `priorities.py`.
        """
        weight = None
        if self._priorities is None:
            indices = self._rng.integers(0, self._size, batch_size)
        else:
            indices, weight = self._priorities.draw(batch_size, self._size, beta, self._rng)
        arrays, batch = self._batches.get(batch_size) or self._make_batch(batch_size)
        for name, column in self._columns.items():
            np.take(column, indices, axis=0, out=arrays[name], mode="clip")
        if self._frames is not None:
            obs, next_obs = (self._frames.take(arrays[name]) for name in ("obs", "next_obs"))
            batch = batch._replace(obs=obs, next_obs=next_obs)
        return batch._replace(indices=indices, weight=batch.weight if weight is None else weight.astype(np.float32))

    def update_priorities(self, indices: Array, error: Array) -> None:
        """Take note of the errors (B,) that rows (B,) have now. Does nothing for a buffer without priorities."""
        if self._priorities is not None:
            self._priorities.update(indices, error)

    def _make_batch(self, batch_size: int) -> tuple[dict[str, Array], Batch]:
        arrays = {
            name: np.empty((batch_size, *column.shape[1:]), column.dtype) for name, column in self._columns.items()
        }
        batch = Batch(**arrays, weight=np.ones(batch_size, np.float32), indices=None)
        self._batches[batch_size] = arrays, batch
        return arrays, batch

    def state_dict(self) -> State:
        """The filled part of the ring, the open n-step rows and the generator.

        The rows are the ring's own memory, not copies: they change with the next step.
        """
        columns = {name: column[: self._size] for name, column in self._columns.items()}
        windows = [each.state_dict() for each in self._windows]
        state: State = {"columns": columns, "position": self._position, "windows": windows}
        if self._frames is not None:
            state["frames"] = self._frames.state_dict(self._size)
        if self._priorities is not None:
            state["priorities"] = self._priorities.state_dict(self._size)
        return state | {"rng": self._rng.bit_generator.state}

    def load_state_dict(self, state: State) -> None:
        """Restore the state."""
        self._size = len(state["columns"]["reward"])
        for name, column in self._columns.items():
            copy_blocks(state["columns"][name], column)
        self._position = state["position"]
        for each, saved in zip(self._windows, state["windows"], strict=True):
            each.load_state_dict(saved)
        if self._priorities is not None:
            self._priorities.load_state_dict(state["priorities"])
        if self._frames is not None:
            self._frames.load_state_dict(state["frames"], self._oldest)
        self._rng.bit_generator.state = state["rng"]


class _Window:
    """The rows of one environment that still wait for rewards, at most n of them, oldest first."""

    def __init__(self, n_step: int, gamma: float) -> None:
        self._n_step = n_step
        self._powers = [gamma**k for k in range(n_step + 1)]
        self._rows: list[tuple[Array, Any]] = []  # (obs, action)
        self._rewards: list[float] = []

    def push(self, obs: Array, action: Any, reward: float) -> None:
        """Begin a row with this step."""
        self._rows.append((obs, action))
        self._rewards.append(reward)

    def clear(self) -> None:
        """Give up the rows that wait."""
        self._rows, self._rewards = [], []

    def finished(self, over: bool) -> list[tuple[Array, Any, float, float]]:
        """Take out the rows that are complete: the oldest when there are n, all at an episode's end."""
        done = []
        while self._rows and (over or len(self._rows) == self._n_step):
            obs, action = self._rows.pop(0)
            value = sum(power * reward for power, reward in zip(self._powers, self._rewards, strict=False))
            done.append((obs, action, value, self._powers[len(self._rewards)]))
            self._rewards.pop(0)
        return done

    def state_dict(self) -> State:
        """The open rows."""
        return {
            "obs": [np.array(obs) for obs, _ in self._rows],
            "action": [np.array(action) for _, action in self._rows],
            "reward": list(self._rewards),
        }

    def load_state_dict(self, state: State) -> None:
        """Restore the open rows."""
        self._rows = list(zip(state["obs"], state["action"], strict=True))
        self._rewards = list(state["reward"])
