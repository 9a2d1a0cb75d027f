"""A vector of one environment, without the price of a vector.

Gymnasium's `SyncVectorEnv` copies observations through a shared buffer and collects infos key by key; for
one cheap environment that takes as long as the step itself. This one returns the same arrays.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

PLAIN = (gym.spaces.Box, gym.spaces.Discrete, gym.spaces.MultiBinary, gym.spaces.MultiDiscrete)
"""Spaces whose elements are numbers or arrays."""


class SingleEnv(VectorEnv[Any, Any, Any]):
    """Steps one environment as a vector would, with autoreset disabled."""

    def __init__(self, make: Callable[[], gym.Env[Any, Any]]) -> None:
        self.env = make()
        self.envs = [self.env]
        self.num_envs = 1
        self.metadata = {**self.env.metadata, "autoreset_mode": AutoresetMode.DISABLED}
        self.render_mode = self.env.render_mode
        self.spec = self.env.spec
        self.single_observation_space = self.env.observation_space
        self.single_action_space = self.env.action_space
        self.observation_space = batch_space(self.env.observation_space, 1)
        self.action_space = batch_space(self.env.action_space, 1)
        self._dtype: Any = self.env.observation_space.dtype
        self._ndim = len(self.env.observation_space.shape or ()) + 1

    @staticmethod
    def fits(env: gym.Env[Any, Any]) -> bool:
        """Whether observations and actions are plain arrays."""
        return isinstance(env.observation_space, PLAIN) and isinstance(env.action_space, PLAIN)

    def reset(self, *, seed: Any = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Begin an episode; `seed` may be a list of one, `options` may hold the mask of a vector."""
        options = {key: value for key, value in (options or {}).items() if key != "reset_mask"}
        obs, info = self.env.reset(seed=seed[0] if isinstance(seed, list) else seed, options=options or None)
        return np.array(obs, self._dtype, ndmin=self._ndim), self._add_info({}, info, 0)

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        """Take a step. Infos are collected at an episode's end only: nothing reads them before."""
        obs, reward, terminated, truncated, info = self.env.step(actions[0])
        infos = self._add_info({}, info, 0) if terminated or truncated else {}
        over = np.array([terminated], bool), np.array([truncated], bool)
        return np.array(obs, self._dtype, ndmin=self._ndim), np.array([reward], np.float64), *over, infos

    def call(self, name: str, *args: Any) -> tuple[Any]:
        """Call a method of the environment, or read an attribute."""
        value = self.env.get_wrapper_attr(name)
        return (value(*args) if callable(value) else value,)

    def close_extras(self, **kwargs: Any) -> None:
        """Close the environment."""
        self.env.close()
