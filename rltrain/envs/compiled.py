"""A vector of environments whose steps are compiled: Gymnasium's classic control tasks, to the last bit.

The tasks are in `classic/`. A step of the whole vector is one call of compiled code; nothing is copied between
environments, and infos are made at an episode's end only.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.utils.seeding import np_random
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from rltrain.config.schema import EnvSettings
from rltrain.core import Array, State
from rltrain.envs.classic.task import Task
from rltrain.envs.classic.tasks import TASKS
from rltrain.envs.episode import FOREIGN
from rltrain.jit import compiled, entry_point

AHEAD = 64
"""First states that are drawn at once for an environment: one call of its generator takes longer than many steps."""
MAX_AHEAD = 65_536
"""Of all environments together."""
FLOAT, BOOL = np.dtype(np.float32), np.dtype(np.bool_)


def readable_step(task: Task) -> Callable[..., int]:
    """A step of every environment as plain Python: how many episodes ended, or -1 - the place of a wrong action.

    A row holds the state, then the steps and the return of the open episode.
    """
    valid, move, observe = task.valid, task.move, task.observe

    def step(rows: Any, limit: int, actions: Any, obs: Any, reward: Any, terminated: Any, truncated: Any) -> int:
        elapsed, total, ended = rows.shape[1] - 2, rows.shape[1] - 1, 0
        for index in range(len(rows)):
            if not valid(actions[index]):
                return -1 - index
        for index in range(len(rows)):
            row = rows[index]
            paid, over = move(row, actions[index])
            observe(row, obs[index])
            row[elapsed] += 1.0
            row[total] += paid
            late = row[elapsed] >= limit
            reward[index], terminated[index], truncated[index] = paid, over, late
            ended += over or late
        return ended

    return step


def readable_reset(mask: Any, rows: Any, obs: Any, starts: Any, first_obs: Any, used: Any) -> int:
    """Begin the episodes of `mask`: how many environments have no first state left then."""
    empty, size = 0, starts.shape[2]
    for index in range(len(rows)):
        if mask[index]:
            place = used[index]
            for part in range(rows.shape[1]):
                rows[index, part] = starts[index, place, part] if part < size else 0.0
            for part in range(obs.shape[1]):
                obs[index, part] = first_obs[index, place, part]
            used[index] = place + 1
            empty += place + 1 == starts.shape[1]
    return empty


@cache
def machine_code(task: Task, action_type: np.dtype[Any], action_shape: tuple[int, ...], width: int) -> tuple[Any, Any]:
    """`readable_step` and `readable_reset`, compiled."""
    rows, obs, flags = np.zeros((0, task.size + 2)), np.zeros((0, width), FLOAT), np.zeros(0, BOOL)
    actions = np.zeros((0, *action_shape), action_type)
    step = compiled(readable_step(task), [task.valid, task.move, task.observe])
    reset = compiled(readable_reset, [])
    starts, first_obs = np.zeros((0, 1, task.size)), np.zeros((0, 1, width), FLOAT)
    return (
        entry_point(step, rows, 1, actions, obs, np.zeros(0), flags, flags),
        entry_point(reset, flags, rows, obs, starts, first_obs, np.zeros(0, np.int64)),
    )


class CompiledVectorEnv(VectorEnv[Any, Any, Any]):
    """Steps N environments of one of `TASKS` at once, with autoreset disabled.

    Every environment has Gymnasium's generator of its own, of which AHEAD first states are drawn at once: the very
    numbers that its resets would draw one after the other.
    """

    def __init__(self, settings: EnvSettings, num_envs: int) -> None:
        env = gym.make(settings.id, max_episode_steps=settings.max_episode_steps, disable_env_checker=True)
        assert env.spec is not None
        self.num_envs = num_envs
        self.metadata = {**env.metadata, "autoreset_mode": AutoresetMode.DISABLED}
        self.render_mode = None
        self.spec = env.spec
        self.single_observation_space = env.observation_space
        self.single_action_space = env.action_space
        self.observation_space = batch_space(env.observation_space, num_envs)
        self.action_space = batch_space(env.action_space, num_envs)
        env.close()
        self._task = TASKS[str(env.spec.entry_point)]
        self._limit = env.spec.max_episode_steps or 2**62
        self._action_type = np.dtype(env.action_space.dtype)
        self._action_shape = (num_envs, *(env.action_space.shape or ()))
        self._obs_shape = (num_envs, *(env.observation_space.shape or ()))
        self._allocate(min(AHEAD, max(1, MAX_AHEAD // num_envs)))

    def _allocate(self, ahead: int) -> None:
        count, size = self.num_envs, self._task.size
        self._step: Callable[..., int] | None = None  # compiled at the first reset
        self._reset: Any = None
        self._rows = np.zeros((count, size + 2))
        self._obs = np.zeros(self._obs_shape, FLOAT)
        self._rngs: list[np.random.Generator] = []
        self._origins: list[Any] = [None] * count  # of each generator before the first states that it drew last
        self._starts = np.zeros((count, ahead, size))
        self._first_obs = np.zeros((count, ahead, self._obs_shape[1]), FLOAT)
        self._used = np.zeros(count, np.int64)  # of those first states

    def reset(self, *, seed: Any = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Begin episodes: of all environments, or of those in `options["reset_mask"]`.

        `seed` is a list with a seed or None for each, or an int, to which the number of the environment is added.
        """
        mask = self._mask(dict(options or {}))
        if self._step is None:
            task, obs_size = self._task, self._obs_shape[1]
            self._step, self._reset = machine_code(task, self._action_type, self._action_shape[1:], obs_size)
        if seed is not None or not self._rngs:
            self._seed(seed, mask)
        obs = self._obs.copy()
        if self._reset(mask, self._rows, obs, self._starts, self._first_obs, self._used):
            self._draw(np.flatnonzero(self._used == self._starts.shape[1]))
        self._obs = obs
        return obs, {}

    def _mask(self, options: dict[str, Any]) -> Array:
        mask = options.pop("reset_mask", None)
        if options:
            raise ValueError(f"a compiled environment knows no reset option {', '.join(options)}")
        if mask is None:
            return np.ones(self.num_envs, BOOL)
        if not isinstance(mask, np.ndarray) or mask.dtype != BOOL or mask.shape != (self.num_envs,):
            raise ValueError(f"reset_mask must be an array of {self.num_envs} bool, not {mask!r}")
        return np.ascontiguousarray(mask)

    def _seed(self, seed: Any, mask: Array) -> None:
        """New generators for the environments in `mask` that have a seed, and for all that have none yet."""
        count = self.num_envs
        seeds = [seed] * count if seed is None else [seed + i for i in range(count)] if isinstance(seed, int) else seed
        if len(seeds) != count:
            raise ValueError(f"{len(seeds)} seeds for {count} environments")
        new = range(count) if not self._rngs else [i for i in np.flatnonzero(mask) if seeds[i] is not None]
        self._rngs = self._rngs or [np_random()[0]] * count
        for index in new:
            self._rngs[index] = np_random(seeds[index] if mask[index] else None)[0]
        self._draw(new)

    def _draw(self, indices: Any) -> None:
        """Draw the next first states of these environments."""
        for index in indices:
            rng = self._rngs[index]
            self._origins[index] = rng.bit_generator.state
            self._starts[index], self._first_obs[index] = self._task.start(rng, self._starts.shape[1])
            self._used[index] = 0

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        """Take a step. Raises ValueError for an action that there is not, and nothing has moved then."""
        if (
            actions.__class__ is not np.ndarray
            or actions.dtype is not self._action_type
            or actions.shape != self._action_shape
            or not actions.flags.c_contiguous
        ):
            actions = self._converted(actions)
        if self._step is None:
            raise gym.error.ResetNeeded("reset the environments before the first step")
        count = self.num_envs
        obs, reward = np.empty(self._obs_shape, FLOAT), np.empty(count)
        terminated, truncated = np.empty(count, BOOL), np.empty(count, BOOL)
        ended = self._step(self._rows, self._limit, actions, obs, reward, terminated, truncated)
        if ended < 0:
            raise ValueError(f"environment {-1 - ended}: there is no action {actions[-1 - ended]}")
        self._obs = obs
        return obs, reward, terminated, truncated, self._infos(terminated | truncated) if ended else {}

    def _converted(self, actions: Any) -> Array:
        """Actions as compiled code takes them: in the precision of their space, one beside the other."""
        array = np.asarray(actions)
        if array.shape != self._action_shape or not np.can_cast(array.dtype, self._action_type, "same_kind"):
            raise ValueError(
                f"actions must be {self._action_type} of shape {self._action_shape}, not {array.dtype} of {array.shape}"
            )
        return np.array(array, self._action_type, order="C")

    def _infos(self, done: Array) -> dict[str, Any]:
        """Return and length of the episodes that are over, in the form of Gymnasium's vectors."""
        return {
            "episode_return": np.where(done, self._rows[:, -1], 0.0),
            "_episode_return": done,
            "episode_length": np.where(done, self._rows[:, -2], 0.0).astype(np.int64),
            "_episode_length": done.copy(),
        }

    def call(self, name: str, *args: Any) -> tuple[Any, ...]:
        """Call one of the methods below, which do for every environment what `Episode`'s do for one."""
        result: tuple[Any, ...] = getattr(self, name)(*args)
        return result

    def running_return(self) -> tuple[float, ...]:
        """Undiscounted returns of the open episodes so far."""
        return tuple(self._rows[:, -1].tolist())

    def snapshot(self) -> tuple[State, ...]:
        """State from which `restore` returns to this very step."""
        return tuple(self._snapshot(index) for index in range(self.num_envs))

    def _snapshot(self, index: int) -> State:
        rng = np.random.Generator(np.random.PCG64())
        rng.bit_generator.state = self._origins[index]
        self._task.start(rng, int(self._used[index]))
        *state, elapsed, total = self._rows[index].tolist()
        return {
            "task": self._task.entry_point,
            "state": np.array(state),
            "elapsed": int(elapsed),
            "return": total,
            "obs": self._obs[index].copy(),
            "rng": rng.bit_generator.state,  # as it is in Gymnasium's environment at this step
        }

    def restore(self, snapshots: list[State]) -> tuple[tuple[Any, str | None], ...]:
        """Go back to the snapshots. Returns observations and, for those that could not, the reason.

        Those stand at the beginning of a fresh episode.
        """
        known = np.array([snapshot.get("task") == self._task.entry_point for snapshot in snapshots])
        for index in np.flatnonzero(known):
            snapshot = snapshots[index]
            self._rngs[index].bit_generator.state = snapshot["rng"]
            self._draw([index])
            self._rows[index] = *snapshot["state"], snapshot["elapsed"], snapshot["return"]
            self._obs[index] = snapshot["obs"]
        obs = self._obs if known.all() else self.reset(options={"reset_mask": ~known})[0]
        return tuple((obs[index].copy(), None if known[index] else FOREIGN) for index in range(self.num_envs))
