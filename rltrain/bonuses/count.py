"""A reward for states that were seldom visited."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import gymnasium as gym
import numpy as np
from pydantic import Field

from rltrain.core import Array, EnvSpec, Problem, State, Transition
from rltrain.settings import Settings


class Count:
    """bonus = scale / sqrt(n(s')), with n(s') the visits of the state that was reached, this one included.

    Source: Strehl and Littman 2008, https://doi.org/10.1016/j.jcss.2007.08.009
    """

    class Config(Settings):
        """How large the bonus is."""

        scale: float = Field(default=0.1, ge=0)
        """Bonus of a first visit."""

        def problems(self, config: Any, spec: EnvSpec) -> Iterator[Problem]:
            """Counting needs states that come again."""
            if not isinstance(spec.observation_space, gym.spaces.Discrete):
                yield Problem(
                    "bonuses",
                    f"count needs Discrete observations, {spec.id} has {spec.observation_space}: "
                    "add the wrapper discretize",
                )

    def __init__(self, config: Config, spec: EnvSpec, *, rng: np.random.Generator) -> None:
        assert isinstance(spec.observation_space, gym.spaces.Discrete)
        self._scale = config.scale
        self._start = int(spec.observation_space.start)
        self._visits = np.zeros(int(spec.observation_space.n), np.int64)

    def bonus(self, transition: Transition) -> Array:
        """Bonus (N,) of the states reached."""
        states = transition.next_obs - self._start
        np.add.at(self._visits, states, 1)
        return np.asarray(self._scale / np.sqrt(self._visits[states]), np.float32)

    def state_dict(self) -> State:
        """Visits of every state."""
        return {"visits": self._visits.copy()}

    def load_state_dict(self, state: State) -> None:
        """Restore the visits."""
        self._visits[:] = state["visits"]
