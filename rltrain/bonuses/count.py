"""A reward for what was seldom done."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, Literal

import gymnasium as gym
import numpy as np
from pydantic import Field

from rltrain.compilable import compilable
from rltrain.core import Array, EnvSpec, Problem, State, Transition
from rltrain.settings import Settings


@compilable
def pay(visits: Any, scale: float, obs: int, action: int, next_obs: int) -> float:
    """Count the visit, then scale / sqrt(visits). `visits` is (S, 1) over states, (S, A) over pairs."""
    row, column = (next_obs, 0) if visits.shape[1] == 1 else (obs, action)
    visits[row, column] += 1
    return float(scale / math.sqrt(visits[row, column]))


class Count:
    """bonus = scale / sqrt(n), with n the visits of the state reached, or of the pair, this one included.

    Sources: Strehl and Littman 2008, https://doi.org/10.1016/j.jcss.2007.08.009 (pairs: MBIE-EB);
    Bellemare et al. 2016, https://arxiv.org/abs/1606.01868 (states).
    """

    class Config(Settings):
        """How large the bonus is, and what is counted."""

        scale: float = Field(default=0.1, ge=0)
        """Bonus of a first visit."""
        over: Literal["state", "state_action"] = "state"
        """n(s') of the state reached, or n(s, a) of what was done."""

        def problems(self, config: Any, spec: EnvSpec) -> Iterator[Problem]:
            """Counting needs states, or pairs, that come again."""
            if not isinstance(spec.observation_space, gym.spaces.Discrete):
                yield Problem(
                    "bonuses",
                    f"count needs Discrete observations, {spec.id} has {spec.observation_space}: "
                    "add the wrapper discretize",
                )
            if self.over == "state_action" and not isinstance(spec.action_space, gym.spaces.Discrete):
                yield Problem("bonuses", f"count over state_action needs Discrete actions, not {spec.action_space}")

    pay = staticmethod(pay)

    def __init__(self, config: Config, spec: EnvSpec, *, rng: np.random.Generator) -> None:
        states, actions = spec.observation_space, spec.action_space
        assert isinstance(states, gym.spaces.Discrete)
        self._first_state, self._first_action, columns = int(states.start), 0, 1
        if config.over == "state_action":
            assert isinstance(actions, gym.spaces.Discrete)
            self._first_action, columns = int(actions.start), int(actions.n)
        self.scale = config.scale
        self.visits = np.zeros((int(states.n), columns), np.int64)

    def bonus(self, transition: Transition) -> Array:
        """Bonus (N,), counted one environment after the other."""
        obs, next_obs = transition.obs - self._first_state, transition.next_obs - self._first_state
        action = transition.action - self._first_action
        rows = zip(obs, action, next_obs, strict=True)
        return np.array([pay(self.visits, self.scale, *row) for row in rows], np.float32)

    def state_dict(self) -> State:
        """Visits."""
        return {"visits": self.visits.copy()}

    def load_state_dict(self, state: State) -> None:
        """Restore the visits."""
        self.visits[:] = state["visits"]
