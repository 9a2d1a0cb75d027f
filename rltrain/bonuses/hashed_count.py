"""A reward for what was seldom seen, where no observation comes twice: near ones are counted together."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

import gymnasium as gym
import numpy as np

from rltrain.core import Array, EnvSpec, Problem, State, Transition
from rltrain.encoding import in_words, vector_problem
from rltrain.hashing import HashSettings, Tally, make_hash
from rltrain.intrinsic import Bonus, BonusSettings


class HashedCountSettings(HashSettings, BonusSettings):
    """How observations are put together, and what is counted. `scale` is the bonus of a first visit."""

    over: Literal["state", "state_action"] = "state"
    """n(s') of the state reached, or n(s, a) of what was done."""

    def problems(self, config: Any, spec: EnvSpec) -> Iterator[Problem]:
        """Vector observations, bounds that are known, and actions that come again."""
        if problem := vector_problem("hashed_count", spec, images=True):
            yield Problem("bonuses", problem)
            return
        yield from self.hash_problems(spec, "bonuses", "hashed_count")
        if self.over == "state_action" and isinstance(spec.action_space, gym.spaces.Box):
            yield Problem(
                "bonuses",
                f"hashed_count over state_action needs actions that come again, not {in_words(spec.action_space)}: "
                "count over state",
            )


class HashedCount(Bonus):
    """novelty = 1 / sqrt(n), with n the visits of everything of the same hash, this one included.

    Source: Tang et al. 2017, "#Exploration", equation 1. https://arxiv.org/abs/1611.04717
    """

    Config = HashedCountSettings

    def __init__(self, config: HashedCountSettings, spec: EnvSpec, *, rng: np.random.Generator) -> None:
        super().__init__(config, spec)
        self._hash = make_hash(config, spec.observation_space, rng)
        self._pairs = config.over == "state_action"
        self._tally = Tally()

    def novelty(self, transition: Transition) -> Array:
        """1 / sqrt(visits) (N,), counted one environment after the other."""
        count = len(transition.reward)
        if self._pairs:  # of several numbers where the actions are MultiDiscrete, so a part of the hash
            actions = np.asarray(transition.action, np.int64).reshape(count, -1)
            hashes = np.concatenate((self._hash(transition.obs), actions), 1)
        else:
            hashes = self._hash(transition.next_obs)
        return 1.0 / np.sqrt(self._tally.add(hashes, [0] * count))

    def metrics(self) -> dict[str, Any]:
        """How many there are to be told apart."""
        return super().metrics() | {"entries": len(self._tally)}

    def state_dict(self) -> State:
        """Steps, hashes and their visits. The planes follow from the seed."""
        return super().state_dict() | self._tally.state_dict()

    def load_state_dict(self, state: State) -> None:
        """Restore the state."""
        super().load_state_dict(state)
        self._tally.load_state_dict(state)
