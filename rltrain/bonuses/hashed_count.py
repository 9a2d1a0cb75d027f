"""A reward for what was seldom seen, where no observation comes twice: near ones are counted together."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any, Literal

import gymnasium as gym
import numpy as np
from pydantic import Field, model_validator

from rltrain.core import Array, EnvSpec, Problem, State, Transition
from rltrain.encoding import Encoder, vector_problem
from rltrain.intrinsic import Bonus, BonusSettings

Hash = Callable[[Array], Array]
"""Observations (N, *obs_shape) -> whole numbers (N, W); equal rows are counted together."""


class HashedCountSettings(BonusSettings):
    """How observations are put together, and what is counted. `scale` is the bonus of a first visit."""

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
    over: Literal["state", "state_action"] = "state"
    """n(s') of the state reached, or n(s, a) of what was done."""

    @model_validator(mode="after")
    def _nothing_without_effect(self) -> HashedCountSettings:
        other = "bits" if self.hash == "bins" else "bins"
        if getattr(self, other) != type(self).model_fields[other].default:
            raise ValueError(f"{other} is not for hash {self.hash}: leave it out")
        return self

    def problems(self, config: Any, spec: EnvSpec) -> Iterator[Problem]:
        """Vector observations, bounds that are known, and actions that come again."""
        space = spec.observation_space
        if problem := vector_problem("hashed_count", spec):
            yield Problem("bonuses", problem)
            return
        for name, bounds in (("low", self.low), ("high", self.high)):
            if bounds is not None and not isinstance(space, gym.spaces.Box):
                yield Problem("bonuses", f"hashed_count: {name} is for Box observations, not {space}: leave it out")
                return
            if bounds is not None and len(bounds) != math.prod(space.shape or ()):
                yield Problem("bonuses", f"hashed_count: {name} has {len(bounds)} numbers, {spec.id} has {space}")
                return
        if isinstance(space, gym.spaces.Box):
            yield from self._bound_problems(space, spec)
        if self.over == "state_action" and isinstance(spec.action_space, gym.spaces.Box):
            yield Problem(
                "bonuses",
                f"hashed_count over state_action needs actions that come again, not {spec.action_space}: "
                "count over state",
            )

    def _bound_problems(self, space: gym.spaces.Box, spec: EnvSpec) -> Iterator[Problem]:
        low, high = _bounds(self, space)
        finite = np.isfinite(low) & np.isfinite(high)
        if not (low < high)[finite].all():
            yield Problem("bonuses", "hashed_count: every number of low must be below that of high")
        if self.hash == "bins" and not finite.all():
            yield Problem(
                "bonuses",
                f"hashed_count with bins needs finite bounds, {spec.id} has {space}: set low and high, "
                "or use hash: simhash",
            )


def _bounds(config: HashedCountSettings, space: gym.spaces.Box) -> tuple[Array, Array]:
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

    def __init__(self, config: HashedCountSettings, space: gym.Space[Any], rng: np.random.Generator) -> None:
        self._encode = Encoder(space)
        self._middle, self._half = np.zeros(self._encode.size), np.ones(self._encode.size)
        if isinstance(space, gym.spaces.Box):
            low, high = _bounds(config, space)
            known = np.isfinite(low) & np.isfinite(high)
            self._middle[known] = low[known] / 2 + high[known] / 2
            self._half[known] = high[known] / 2 - low[known] / 2
        self.planes = rng.standard_normal((self._encode.size + 1, config.bits))
        self._powers = 2 ** np.arange(config.bits, dtype=np.int64)

    def __call__(self, obs: Array) -> Array:
        """(N, *obs_shape) -> (N, 1) int64."""
        x = (self._encode(obs) - self._middle) / self._half
        sides = x @ self.planes[:-1] + self.planes[-1] > 0
        return np.asarray((sides @ self._powers)[:, None])


class Bins:
    """floor(bins (x - low) / (high - low)) of every number, the outermost bins open; other spaces as they are."""

    def __init__(self, config: HashedCountSettings, space: gym.Space[Any]) -> None:
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


class HashedCount(Bonus):
    """novelty = 1 / sqrt(n), with n the visits of everything of the same hash, this one included.

    Source: Tang et al. 2017, "#Exploration", equation 1. https://arxiv.org/abs/1611.04717
    """

    Config = HashedCountSettings

    def __init__(self, config: HashedCountSettings, spec: EnvSpec, *, rng: np.random.Generator) -> None:
        super().__init__(config, spec)
        space = spec.observation_space
        self._hash: Hash = SimHash(config, space, rng) if config.hash == "simhash" else Bins(config, space)
        self._pairs = config.over == "state_action"
        self._counts: dict[bytes, int] = {}

    def novelty(self, transition: Transition) -> Array:
        """1 / sqrt(visits) (N,), counted one environment after the other."""
        if self._pairs:
            actions = np.asarray(transition.action, np.int64).reshape(len(transition.reward), -1)
            keys = np.concatenate((self._hash(transition.obs), actions), 1)
        else:
            keys = self._hash(transition.next_obs)
        return np.array([self._visit(key.tobytes()) for key in keys])

    def _visit(self, key: bytes) -> float:
        self._counts[key] = count = self._counts.get(key, 0) + 1
        return 1.0 / math.sqrt(count)

    @property
    def counts(self) -> dict[tuple[int, ...], int]:
        """Visits by hash."""
        return {tuple(np.frombuffer(key, np.int64).tolist()): count for key, count in self._counts.items()}

    def metrics(self) -> dict[str, Any]:
        """How many there are to be told apart."""
        return super().metrics() | {"entries": len(self._counts)}

    def state_dict(self) -> State:
        """Steps, hashes (M, W) and their visits (M,). The planes follow from the seed."""
        keys = (
            np.frombuffer(b"".join(self._counts), np.int64).reshape(len(self._counts), -1)
            if self._counts
            else np.zeros((0, 1), np.int64)
        )
        return super().state_dict() | {"keys": keys.copy(), "visits": np.array(list(self._counts.values()), np.int64)}

    def load_state_dict(self, state: State) -> None:
        """Restore the state."""
        super().load_state_dict(state)
        keys = np.ascontiguousarray(state["keys"], np.int64)
        self._counts = dict(zip((key.tobytes() for key in keys), state["visits"].tolist(), strict=True))
