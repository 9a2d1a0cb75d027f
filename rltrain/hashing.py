"""Observations that never come twice, put together: those of equal hash are counted as one.

Shapes: N environments, A actions, D numbers of an observation, W whole numbers of a hash.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any, Literal

import gymnasium as gym
import numpy as np
from pydantic import Field, model_validator

from rltrain.core import Array, EnvSpec, Problem, State
from rltrain.encoding import Encoder, in_words
from rltrain.settings import Settings

Hash = Callable[[Array], Array]
"""Observations (N, *obs_shape) -> whole numbers (N, W); equal rows are counted together."""
OPEN = 1e30
"""A bound this far off is none."""


class HashSettings(Settings):
    """How observations are put together."""

    hash: Literal["simhash", "bins"] = "simhash"
    """simhash: on which sides of random planes an observation lies; bins: a grid over its range."""
    bits: int = Field(default=32, ge=1, le=62)
    """simhash: number of planes; more of them tell more observations apart."""
    bins: int = Field(default=10, ge=1, le=1_000_000)
    """bins: parts per number of the observation."""
    low: tuple[float, ...] | None = None
    """Lower bounds of the observation's numbers; null takes the space's."""
    high: tuple[float, ...] | None = None
    """Upper bounds; null takes the space's."""

    @model_validator(mode="after")
    def _nothing_without_effect(self) -> HashSettings:
        for name in self.changed("bits" if self.hash == "bins" else "bins"):
            raise ValueError(f"{name} is not for hash {self.hash}: leave it out")
        return self

    def hash_problems(self, spec: EnvSpec, path: str, owner: str) -> Iterator[Problem]:
        """Bounds that are not known or make no sense; `path` and `owner` are for the message."""
        space = spec.observation_space
        for name, bounds in (("low", self.low), ("high", self.high)):
            if bounds is not None and not isinstance(space, gym.spaces.Box):
                yield Problem(path, f"{owner}: {name} is for Box observations, not {in_words(space)}: leave it out")
                return
            if bounds is not None and len(bounds) != math.prod(space.shape or ()):
                yield Problem(path, f"{owner}: {name} has {len(bounds)} numbers, {spec.id} has {in_words(space)}")
                return
        if not isinstance(space, gym.spaces.Box):
            return
        low, high = _bounds(self, space)
        if (self.low is not None or self.high is not None) and not (low < high).all():
            yield Problem(path, f"{owner}: every number of low must be below that of high")
        elif self.hash == "bins" and not _known(low, high).all():
            yield Problem(
                path,
                f"{owner} with bins needs finite bounds, each low below its high, {spec.id} has {in_words(space)}: "
                "set low and high, or use hash: simhash",
            )


def _bounds(config: HashSettings, space: gym.spaces.Box) -> tuple[Array, Array]:
    """Lower and upper bounds (D,) float64."""
    low = np.asarray(space.low if config.low is None else config.low, np.float64).reshape(-1)
    high = np.asarray(space.high if config.high is None else config.high, np.float64).reshape(-1)
    return low, high


def _known(low: Array, high: Array) -> Array:
    """Which numbers (D,) have a range that says where they lie. An open end may be inf, or the greatest float32."""
    return np.asarray((low < high) & (np.abs(low) < OPEN) & (np.abs(high) < OPEN))


class SimHash:
    """sign(A g(x)) with A (bits, D + 1) drawn from N(0, 1), as one whole number.

    g(x) brings each number that has a range to -1 ... 1 and appends a 1, so that observations that differ in length
    alone are told apart as well. One bit differs with probability angle(g(x), g(y)) / pi.
    Source: Tang et al. 2017, section 2.2. https://arxiv.org/abs/1611.04717; without the 1.
    """

    def __init__(self, config: HashSettings, space: gym.Space[Any], rng: np.random.Generator) -> None:
        self._encode = Encoder(space)
        middle, half = np.zeros(self._encode.size), np.ones(self._encode.size)
        if isinstance(space, gym.spaces.Box):
            low, high = _bounds(config, space)
            known = _known(low, high)
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
        self._bounds = _bounds(config, space) if isinstance(space, gym.spaces.Box) else None

    def __call__(self, obs: Array) -> Array:
        """(N, *obs_shape) -> (N, D) int64."""
        rows = obs.reshape(len(obs), -1)
        if self._bounds is None:
            return rows.astype(np.int64)
        low, high = self._bounds
        place = np.floor((rows - low) * (self._bins / (high - low)))
        return np.minimum(np.maximum(place, 0), self._bins - 1).astype(np.int64)


def make_hash(config: HashSettings, space: gym.Space[Any], rng: np.random.Generator) -> Hash:
    """The hash of these settings; `rng` draws the planes, which so follow from the seed."""
    return SimHash(config, space, rng) if config.hash == "simhash" else Bins(config, space)


class Tally:
    """How often each hash came, for each of A actions by itself."""

    def __init__(self, actions: int = 1) -> None:
        self._none = [0] * actions
        self._visits: dict[bytes, list[int]] = {}

    def __len__(self) -> int:
        return len(self._visits)

    def of(self, hashes: Array) -> Array:
        """Visits (N, A) int64 of hashes (N, W)."""
        return np.array([self._visits.get(key.tobytes(), self._none) for key in hashes])

    def add(self, hashes: Array, actions: list[int]) -> list[int]:
        """Count hashes (N, W) with their actions (N,), one after the other. Returns the visits (N,), these included."""
        found = []
        for key, action in zip(map(np.ndarray.tobytes, hashes), actions, strict=True):
            row = self._visits.get(key)
            if row is None:
                row = self._visits[key] = list(self._none)
            row[action] += 1
            found.append(row[action])
        return found

    def state_dict(self) -> State:
        """Hashes (M, W) and their visits (M, A)."""
        count = len(self._visits)
        keys = np.frombuffer(b"".join(self._visits), np.int64).reshape(count, -1 if count else 1)
        visits = np.array(list(self._visits.values()), np.int64).reshape(count, len(self._none))
        return {"keys": keys.copy(), "visits": visits}

    def load_state_dict(self, state: State) -> None:
        """Restore the state."""
        keys = np.ascontiguousarray(state["keys"], np.int64)
        self._visits = dict(zip((key.tobytes() for key in keys), state["visits"].tolist(), strict=True))


class PseudoCounts:
    """n(s, a) of observations that never come twice: how often one of the same hash was left by each action.

    Source: Tang et al. 2017, "#Exploration". https://arxiv.org/abs/1611.04717, over pairs.
    """

    def __init__(self, config: HashSettings, spec: EnvSpec, rng: np.random.Generator) -> None:
        assert isinstance(spec.action_space, gym.spaces.Discrete)
        self._first = int(spec.action_space.start)
        self._hash = make_hash(config, spec.observation_space, rng)
        self._tally = Tally(int(spec.action_space.n))
        self._latest: tuple[Array | None, Array] = None, np.zeros(0)  # what was hashed last, and its hashes

    def __call__(self, obs: Array) -> Array:
        """Visits (N, A) of observations (N, *obs_shape)."""
        self._latest = obs, self._hash(obs)
        return self._tally.of(self._latest[1])

    def __len__(self) -> int:
        """How many hashes there are."""
        return len(self._tally)

    def add(self, obs: Array, action: Array) -> None:
        """Count what was done; observations that were just asked for, the same array, are not hashed again."""
        asked, hashes = self._latest
        self._tally.add(hashes if obs is asked else self._hash(obs), (action - self._first).tolist())

    def state_dict(self) -> State:
        """Hashes and visits."""
        return self._tally.state_dict()

    def load_state_dict(self, state: State) -> None:
        """Restore the state."""
        self._tally.load_state_dict(state)
