"""From an observation to the numbers that a network takes."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np

from rltrain.core import Array, EnvSpec


def vector_problem(agent: str, spec: EnvSpec) -> str | None:
    """Why a perceptron cannot take this environment's observations, or None."""
    space = spec.observation_space
    flat = isinstance(space, gym.spaces.Box | gym.spaces.MultiBinary) and len(space.shape or ()) == 1
    if flat or isinstance(space, gym.spaces.Discrete | gym.spaces.MultiDiscrete):
        return None
    return f"{agent} needs a vector observation, {spec.id} has {space}: add the wrapper flatten"


def alternatives(space: gym.Space[Any]) -> tuple[Array, Array] | None:
    """How many values each part of a discrete space has (K,), and the first of each (K,); None for other spaces."""
    if isinstance(space, gym.spaces.Discrete):
        return np.array([space.n]), np.array([space.start])
    if isinstance(space, gym.spaces.MultiDiscrete):
        return space.nvec.reshape(-1), space.start.reshape(-1)
    if isinstance(space, gym.spaces.MultiBinary):
        bits = int(np.prod(space.shape))
        return np.full(bits, 2), np.zeros(bits, np.int64)
    return None


class Encoder:
    """Numbers of a Box or MultiBinary as they are; one-hot for each choice of Discrete and MultiDiscrete."""

    def __init__(self, space: gym.Space[Any]) -> None:
        self._table: Array | None = None  # (C,) for every choice, where its block begins, minus its first value
        parts = alternatives(space)
        if parts is None or isinstance(space, gym.spaces.MultiBinary):
            self.size = int(np.prod(space.shape or ()))
            return
        counts, starts = parts
        self.size = int(counts.sum())
        self._table = np.cumsum(counts) - counts - starts

    def __call__(self, obs: Array) -> Array:
        """(N, *obs_shape) -> (N, size) float32."""
        if self._table is None:
            return np.ascontiguousarray(obs, np.float32).reshape(len(obs), -1)
        encoded = np.zeros((len(obs), self.size), np.float32)
        columns = np.asarray(obs, np.int64).reshape(len(obs), -1) + self._table
        encoded[np.arange(len(obs))[:, None], columns] = 1
        return encoded
