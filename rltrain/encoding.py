"""From an observation to the numbers that a network takes, and from these to a bounded action."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np

from rltrain.core import Array, EnvSpec
from rltrain.moments import Standardizer

LONGEST = 120
"""Letters in which a message names a simple space."""


def vector_problem(agent: str, spec: EnvSpec, *, images: bool = False) -> str | None:
    """Why a network cannot take this environment's observations, or None; `images` if it may have convolutions."""
    space = spec.observation_space
    if 0 in (space.shape or ()):
        return f"{agent} needs an observation of at least one number, {spec.id} has {in_words(space)}"
    flat = isinstance(space, gym.spaces.Box | gym.spaces.MultiBinary) and len(space.shape or ()) == 1
    if flat or isinstance(space, gym.spaces.Discrete | gym.spaces.MultiDiscrete) or (images and is_image(space)):
        return None
    if is_image(space):
        discrete = isinstance(spec.action_space, gym.spaces.Discrete)
        others = "ppo, a2c, dqn, c51, qr_dqn, iqn, rainbow or pqn" if discrete else "ppo or a2c"
        return f"{agent} cannot see images, {spec.id} has {in_words(space)}: use {others}, or add the wrapper flatten"
    wrapper = "minigrid_image" if has_mission(space) else "flatten"
    return f"{agent} needs a vector observation, {spec.id} has {in_words(space)}: add the wrapper {wrapper}"


def in_words(space: gym.Space[Any]) -> str:
    """A space in one line; what it says of itself may be lines of bounds, or tell where in memory a function lies."""
    if isinstance(space, gym.spaces.Dict):
        return f"Dict({', '.join(f'{name}: {in_words(part)}' for name, part in space.items())})"
    if isinstance(space, gym.spaces.Tuple):
        return f"Tuple({', '.join(map(in_words, space))})"
    kind, text = type(space).__name__, " ".join(str(space).split())
    if isinstance(space, gym.spaces.Box) and len(text) > LONGEST:
        return f"Box({space.shape}, {space.dtype})"
    return text if len(text) <= LONGEST and " at 0x" not in text else kind


def has_mission(space: gym.Space[Any]) -> bool:
    """Whether this is what MiniGrid or BabyAI shows, whose missions are sentences."""
    parts = space.values() if isinstance(space, gym.spaces.Dict) else ()
    return any(type(part).__name__.endswith("MissionSpace") for part in parts)


def is_image(space: gym.Space[Any]) -> bool:
    """Whether observations are pixels: bytes in two dimensions, or in more with colours and frames."""
    return isinstance(space, gym.spaces.Box) and space.dtype == np.uint8 and 2 <= len(space.shape) <= 4


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
    """Numbers of a Box or MultiBinary as they are; one-hot for each choice of Discrete and MultiDiscrete.

    With `images` pixels stay bytes, in the shape that they have: the network scales them.
    """

    def __init__(self, space: gym.Space[Any], *, images: bool = False) -> None:
        self.image: tuple[int, ...] | None = space.shape if images and is_image(space) else None
        """Shape of an image; None where observations become vectors."""
        self._table: Array | None = None  # (C,) for every choice, where its block begins, minus its first value
        parts = alternatives(space)
        if parts is None or isinstance(space, gym.spaces.MultiBinary):
            self.size = int(np.prod(space.shape or ()))
            return
        counts, starts = parts
        self.size = int(counts.sum())
        self._table = np.cumsum(counts) - counts - starts

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one encoded observation."""
        return self.image or (self.size,)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the numbers of an encoded observation."""
        return np.dtype(np.float32 if self.image is None else np.uint8)

    def __call__(self, obs: Array) -> Array:
        """(N, *obs_shape) -> (N, size) float32, or images as they are."""
        if self.image is not None:
            return np.ascontiguousarray(obs)
        if self._table is None:
            rows = np.ascontiguousarray(obs, np.float32)
            return rows if rows.ndim == 2 else rows.reshape(len(obs), -1)
        encoded = np.zeros((len(obs), self.size), np.float32)
        columns = np.asarray(obs, np.int64).reshape(len(obs), -1) + self._table
        encoded[np.arange(len(obs))[:, None], columns] = 1
        return encoded


class NormalizingEncoder(Encoder):
    """Numbers with mean 0 and variance 1 by all that `update` was given, cut to -10 ... 10."""

    def __init__(self, space: gym.spaces.Box) -> None:
        super().__init__(space)
        self.moments = Standardizer((self.size,), epsilon=1e-8, clip=10.0)

    def update(self, obs: Array) -> None:
        """Take in observations (n, *obs_shape)."""
        self.moments.update(super().__call__(obs))

    def __call__(self, obs: Array) -> Array:
        """(N, *obs_shape) -> (N, size) float32."""
        return self.moments(super().__call__(obs))


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
