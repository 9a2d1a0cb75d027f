"""What rltrain wraps around every single environment: honest returns, and a snapshot of the open episode."""

from __future__ import annotations

from typing import Any, SupportsFloat

import gymnasium as gym
import numpy as np

from rltrain.core import Array, RltrainError, State, first_line, raised
from rltrain.envs.shown import judge

MAX_LOGGED_ACTIONS = 1_000_000
"""An open episode longer than this is begun anew on resume, so that memory stays bounded."""

LOST = "rltrain.lost"
"""In the infos of a vector: True (N,) where an episode was lost with its worker: no end of it."""
GOES_ON = "rltrain.goes_on"
"""In the infos of a vector: True (N,) where an episode is over for the agent, and not for the environment."""
ENDED_ELSEWHERE = "rltrain.ended_elsewhere"
"""Told in an info where episodes ended on other ranks alone, and `reset` must be called, since all count together."""

FOREIGN = "its snapshot was written by another kind of environment (env.vectorization)"
"""Why an open episode cannot be gone on with."""


class EnvironmentFault(RltrainError):
    """An environment raised something, or returned something that no agent can learn from.

    What it raised is the `__cause__`, with its traceback.
    """

    exit_code = 65


class RawReturn(gym.Wrapper[Any, Any, Any, Any]):
    """Innermost: sums what the environment itself pays, before any wrapper scales or clips it."""

    raw_return = 0.0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Begin an episode at return 0."""
        self.raw_return = 0.0
        return self.env.reset(seed=seed, options=options)

    def step(self, action: Any) -> tuple[Any, SupportsFloat, bool, bool, dict[str, Any]]:
        """Add the reward to the return. Raises EnvironmentFault for a reward that is no number."""
        result = self.env.step(action)
        try:
            self.raw_return += float(result[1])
        except (TypeError, ValueError):
            raise EnvironmentFault(f"it paid the reward {result[1]!r}: it must be a number") from None
        return result


class Watched(gym.Wrapper[Any, Any, Any, Any]):
    """Below a wrapper that would cast what it is shown, and so hide a fault. Raises EnvironmentFault for one."""

    def __init__(self, env: gym.Env[Any, Any]) -> None:
        super().__init__(env)
        self._judge = judge(env.observation_space)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Begin an episode."""
        obs, info = self.env.reset(seed=seed, options=options)
        if (wrong := self._judge(obs)) is not None:
            raise EnvironmentFault(wrong)
        return obs, info

    def step(self, action: Any) -> tuple[Any, SupportsFloat, bool, bool, dict[str, Any]]:
        """Take a step."""
        result = self.env.step(action)
        if (wrong := self._judge(result[0])) is not None:
            raise EnvironmentFault(wrong)
        return result


class Episode(gym.Wrapper[Any, Any, Any, Any]):
    """Outermost: reports finished episodes and can return to the middle of an open one.

    At an episode's end `info` holds `episode_return` (undiscounted, unscaled), `episode_length` (agent
    steps) and, where the environment tells, `episode_success`.

    A snapshot is how the episode began (the seed, or the generator's state before the reset) and the
    actions taken since. Restoring begins the episode again, repeats the actions, and compares the
    observation that results with the one that was saved.
    """

    def __init__(self, env: gym.Env[Any, Any], raw: RawReturn, index: int) -> None:
        super().__init__(env)
        self._raw = raw
        self._index = index
        self._judge = judge(env.observation_space)
        self.origin: State = {}  # how the open episode began: the seed, or the generator's state before the reset
        self.actions: list[Any] = []  # of the open episode, up to MAX_LOGGED_ACTIONS
        self.length = 0  # steps of the open episode
        self._obs: Any = None

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Begin an episode and remember how it began. Raises EnvironmentFault for whatever goes wrong in it."""
        if seed is None:
            self.origin = {"rng": self.env.unwrapped.np_random.bit_generator.state}
        else:
            self.origin = {"seed": int(seed)}
        self.actions = []
        self.length = 0
        try:
            self._obs, info = self.env.reset(seed=seed, options=options)
            if (wrong := self._judge(self._obs)) is not None:
                raise EnvironmentFault(wrong)
        except (Exception, SystemExit) as error:
            raise self._fault(error) from error
        return self._obs, info

    def step(self, action: Any) -> tuple[Any, SupportsFloat, bool, bool, dict[str, Any]]:
        """Take a step and remember the action. Raises EnvironmentFault for whatever goes wrong in it."""
        if self.length < MAX_LOGGED_ACTIONS:
            self.actions.append(action)
        self.length += 1
        try:
            obs, reward, terminated, truncated, info = self.env.step(action)
            if (wrong := self._judge(obs)) is not None:
                raise EnvironmentFault(wrong)
        except (Exception, SystemExit) as error:
            raise self._fault(error) from error
        self._obs = obs
        if terminated or truncated:
            success = info.get("is_success", info.get("success"))
            info = dict(info, episode_return=self._raw.raw_return, episode_length=self.length)
            if success is not None:
                info["episode_success"] = bool(success)
        return obs, reward, terminated, truncated, info

    def _fault(self, error: BaseException) -> EnvironmentFault:
        """In one line what went wrong, and where."""
        said = first_line(error) if isinstance(error, EnvironmentFault) else raised(error)
        when = f"in step {self.length:,} of its episode" if self.length else "when it was reset"
        return EnvironmentFault(f"environment {self._index}, {when}: {said}")

    def running_return(self) -> float:
        """Undiscounted return of the open episode so far."""
        return self._raw.raw_return

    def snapshot(self) -> State:
        """State from which `restore` returns to this very step."""
        actions = np.asarray(self.actions) if self.actions else np.zeros(0, np.int64)
        return {
            "origin": self.origin,
            "actions": actions,
            "length": self.length,
            "obs": [np.asarray(part) for part in _parts(self._obs)],
        }

    def place(self, origin: State | None, actions: list[Any], length: int, obs: Any) -> None:
        """Take note of where a compiled loop has taken the episode; no `origin` if it is the same episode."""
        self.origin = origin or self.origin
        self.actions, self.length, self._obs = actions, length, obs

    def restore(self, snapshots: list[State]) -> tuple[Any, str | None]:
        """Go back to this environment's snapshot. Returns the observation and, if it failed, the reason.

        After a failure the environment stands at the beginning of a fresh episode.
        """
        state = snapshots[self._index]
        if "lost" in state:  # it was over without an end when the snapshot was taken
            return self.reset(seed=state["seed"])[0], state["lost"]
        if "origin" not in state:
            return self.reset()[0], FOREIGN
        if state["length"] != len(state["actions"]):
            return self.reset()[0], f"the open episode was longer than {MAX_LOGGED_ACTIONS:,} steps"
        origin = state["origin"]
        if "seed" in origin:
            obs, _ = self.reset(seed=origin["seed"])
        else:
            self.env.unwrapped.np_random.bit_generator.state = origin["rng"]
            obs, _ = self.reset()
        for action in state["actions"]:
            obs, _, terminated, truncated, _ = self.step(action)
            if terminated or truncated:
                return self.reset()[0], "the environment does not repeat itself from the same seed"
        saved, now = state["obs"], _parts(obs)
        if len(saved) != len(now) or not all(map(_equal, saved, now)):
            return self.reset()[0], "the environment does not repeat itself from the same seed"
        return obs, None


def _equal(saved: Array, now: Any) -> bool:
    array = np.asarray(now)
    return saved.shape == array.shape and saved.tobytes() == array.astype(saved.dtype).tobytes()


def _parts(obs: Any) -> list[Any]:
    """The arrays of an observation, whatever its space: one for a Box, several for a Dict or Tuple."""
    if isinstance(obs, dict):
        return [part for key in sorted(obs) for part in _parts(obs[key])]
    if isinstance(obs, tuple):
        return [part for item in obs for part in _parts(item)]
    return [obs]
