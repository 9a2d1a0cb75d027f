"""Observations that are near each other under one number, so that they can be counted where none comes twice."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import gymnasium as gym
import numpy as np

from rltrain.core import Array
from rltrain.encoding import Encoder

Hash = Callable[[Array], Array]
"""Observations (N, *obs_shape) -> whole numbers (N, W); equal rows are counted together."""


class HashSettings(Protocol):
    """What a hash is told; `HashedCountSettings` says what each is for."""

    bits: int
    bins: int
    low: tuple[float, ...] | None
    high: tuple[float, ...] | None


def bounds(config: HashSettings, space: gym.spaces.Box) -> tuple[Array, Array]:
    """Lower and upper bounds (D,) float64."""
    low = np.asarray(space.low if config.low is None else config.low, np.float64).reshape(-1)
    high = np.asarray(space.high if config.high is None else config.high, np.float64).reshape(-1)
    return low, high


class SimHash:
    """sign(A g(x)) with A (bits, D + 1) drawn from N(0, 1), as one whole number.

    g(x) brings each number that has bounds to -1 ... 1 and appends a 1, so that observations that differ in length
    alone are told apart as well. One bit differs with probability angle(g(x), g(y)) / pi.
    Source: Tang et al. 2017, section 2.2. https://arxiv.org/abs/1611.04717; without the 1.
    """

    def __init__(self, config: HashSettings, space: gym.Space[Any], rng: np.random.Generator) -> None:
        self._encode = Encoder(space)
        middle, half = np.zeros(self._encode.size), np.ones(self._encode.size)
        if isinstance(space, gym.spaces.Box):
            low, high = bounds(config, space)
            known = np.isfinite(low) & np.isfinite(high)
            middle[known] = low[known] / 2 + high[known] / 2
            half[known] = high[known] / 2 - low[known] / 2
        self.planes = rng.standard_normal((self._encode.size + 1, config.bits))
        self._slopes = self.planes[:-1] / half[:, None]  # g(x) planes > 0 where x slopes > level: once, not for every x
        self._level = middle @ self._slopes - self.planes[-1]

    def __call__(self, obs: Array) -> Array:
        """(N, *obs_shape) -> (N, 1) int64."""
        packed = np.packbits(self._encode(obs) @ self._slopes > self._level, axis=1, bitorder="little")
        number = np.zeros((len(packed), 8), np.uint8)
        number[:, : packed.shape[1]] = packed
        return number.view("<i8")


class Bins:
    """floor(bins (x - low) / (high - low)) of every number, the outermost bins open; other spaces as they are."""

    def __init__(self, config: HashSettings, space: gym.Space[Any]) -> None:
        self._bins = config.bins
        self._bounds = bounds(config, space) if isinstance(space, gym.spaces.Box) else None

    def __call__(self, obs: Array) -> Array:
        """(N, *obs_shape) -> (N, D) int64."""
        rows = obs.reshape(len(obs), -1)
        if self._bounds is None:
            return rows.astype(np.int64)
        low, high = self._bounds
        place = np.floor((rows - low) * (self._bins / (high - low)))
        return np.minimum(np.maximum(place, 0), self._bins - 1).astype(np.int64)
