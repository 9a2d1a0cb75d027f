"""A reward for what was seldom seen, where no observation comes twice: near ones are counted together."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, Literal

import gymnasium as gym
import numpy as np
from pydantic import Field, model_validator

from rltrain.core import Array, EnvSpec, Problem, State, Transition
from rltrain.encoding import vector_problem
from rltrain.hashing import Bins, Hash, SimHash, bounds
from rltrain.intrinsic import Bonus, BonusSettings


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
        for name, given in (("low", self.low), ("high", self.high)):
            if given is not None and not isinstance(space, gym.spaces.Box):
                yield Problem("bonuses", f"hashed_count: {name} is for Box observations, not {space}: leave it out")
                return
            if given is not None and len(given) != math.prod(space.shape or ()):
                yield Problem("bonuses", f"hashed_count: {name} has {len(given)} numbers, {spec.id} has {space}")
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
        low, high = bounds(self, space)
        finite = np.isfinite(low) & np.isfinite(high)
        if not (low < high)[finite].all():
            yield Problem("bonuses", "hashed_count: every number of low must be below that of high")
        if self.hash == "bins" and not finite.all():
            yield Problem(
                "bonuses",
                f"hashed_count with bins needs finite bounds, {spec.id} has {space}: set low and high, "
                "or use hash: simhash",
            )


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
