"""From an observation to the numbers that a network takes, and from these to a bounded action."""

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
            rows = np.ascontiguousarray(obs, np.float32)
            return rows if rows.ndim == 2 else rows.reshape(len(obs), -1)
        encoded = np.zeros((len(obs), self.size), np.float32)
        columns = np.asarray(obs, np.int64).reshape(len(obs), -1) + self._table
        encoded[np.arange(len(obs))[:, None], columns] = 1
        return encoded


class UnitBox:
    """Between a bounded box of actions and -1 ... 1: middle + half range * u."""

    def __init__(self, space: gym.spaces.Box) -> None:
        self._space, self._low, self._high = space, space.low.reshape(-1), space.high.reshape(-1)
        self.size = len(self._low)
        self._middle, self._half = (self._low + self._high) / 2, (self._high - self._low) / 2

    def action(self, unit: Array) -> Array:
        """What the environment gets (N, *action_shape) for rows (N, D) of -1 ... 1."""
        action = np.clip(self._middle + self._half * unit, self._low, self._high)  # rounding may leave the box
        return action.reshape(len(unit), *self._space.shape).astype(self._space.dtype, copy=False)

    def unit(self, action: Array) -> Array:
        """Rows (N, D) float32 of -1 ... 1 for actions (N, *action_shape)."""
        return np.asarray((action.reshape(len(action), -1) - self._middle) / self._half, np.float32)
