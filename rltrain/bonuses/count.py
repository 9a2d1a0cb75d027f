"""A reward for what was seldom done."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, Literal

import gymnasium as gym
import numpy as np

from rltrain.compilable import compilable
from rltrain.core import Array, EnvSpec, Problem, State, Transition
from rltrain.encoding import in_words
from rltrain.intrinsic import Bonus, BonusSettings


@compilable
def rarity(visits: Any, obs: int, action: int, next_obs: int) -> float:
    """Count the visit, then 1 / sqrt(visits). `visits` is (S, 1) over states, (S, A) over pairs."""
    row, column = (next_obs, 0) if visits.shape[1] == 1 else (obs, action)
    visits[row, column] += 1
    return float(1.0 / math.sqrt(visits[row, column]))


class Count(Bonus):
    """novelty = 1 / sqrt(n), with n the visits of the state reached, or of the pair, this one included.

    Sources: Strehl and Littman 2008, https://doi.org/10.1016/j.jcss.2007.08.009 (pairs: MBIE-EB);
    Bellemare et al. 2016, https://arxiv.org/abs/1606.01868 (states).
    """

    class Config(BonusSettings):
        """How large the bonus is, and what is counted. `scale` is the bonus of a first visit."""

        over: Literal["state", "state_action"] = "state"
        """n(s') of the state reached, or n(s, a) of what was done."""

        def problems(self, config: Any, spec: EnvSpec) -> Iterator[Problem]:
            """Counting needs states, or pairs, that come again."""
            if not isinstance(spec.observation_space, gym.spaces.Discrete):
                yield Problem(
                    "bonuses",
                    f"count needs Discrete observations, {spec.id} has {in_words(spec.observation_space)}: "
                    "add the wrapper discretize, or use hashed_count",
                )
            if self.over == "state_action" and not isinstance(spec.action_space, gym.spaces.Discrete):
                yield Problem(
                    "bonuses",
                    f"count over state_action needs Discrete actions, not {in_words(spec.action_space)}: "
                    "count over state",
                )

    rarity = staticmethod(rarity)

    def __init__(self, config: Config, spec: EnvSpec, *, rng: np.random.Generator) -> None:
        super().__init__(config, spec)
        states, actions = spec.observation_space, spec.action_space
        assert isinstance(states, gym.spaces.Discrete)
        self._first_state, self._first_action, columns = int(states.start), 0, 1
        if config.over == "state_action":
            assert isinstance(actions, gym.spaces.Discrete)
            self._first_action, columns = int(actions.start), int(actions.n)
        self.visits = np.zeros((int(states.n), columns), np.int64)

    def novelty(self, transition: Transition) -> Array:
        """1 / sqrt(visits) (N,), counted one environment after the other."""
        obs, next_obs = transition.obs - self._first_state, transition.next_obs - self._first_state
        if self.visits.shape[1] == 1:  # a state's action need not be a number
            return np.array([rarity(self.visits, 0, 0, row) for row in next_obs])
        rows = zip(obs, transition.action - self._first_action, next_obs, strict=True)
        return np.array([rarity(self.visits, *row) for row in rows])

    def state_dict(self) -> State:
        """Steps and visits."""
        return super().state_dict() | {"visits": self.visits.copy()}

    def load_state_dict(self, state: State) -> None:
        """Restore the state."""
        super().load_state_dict(state)
        self.visits[:] = state["visits"]
