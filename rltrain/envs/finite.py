"""A finite environment made from its table of outcomes, in the form of Gymnasium's toy texts.

Whoever has `P` can be valued exactly, drawn as a table, and run in the compiled loop.
"""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.envs.toy_text.utils import categorical_sample

from rltrain.core import Array

Outcomes = dict[int, dict[int, list[tuple[float, int, float, bool]]]]
"""state -> action -> (probability, next state, reward, terminated)"""


class FiniteEnv(gym.Env[Any, Any]):
    """States and actions are numbers. One draw begins an episode, one draw takes a step."""

    metadata = {"render_modes": ["ansi"]}

    def __init__(self, table: Outcomes, start: Array, render_mode: str | None = None) -> None:
        """`start` (S,) is the distribution of the first state."""
        self.P = table
        self.initial_state_distrib = start
        self.observation_space = gym.spaces.Discrete(len(table))
        self.action_space = gym.spaces.Discrete(len(table[0]))
        self.render_mode = render_mode
        self.s = 0
        self.lastaction: int | None = None

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[int, dict[str, Any]]:
        """Draw the first state."""
        super().reset(seed=seed)
        self.s = int(categorical_sample(self.initial_state_distrib, self.np_random))  # type: ignore[no-untyped-call]
        self.lastaction = None
        return self.s, {"prob": 1}

    def step(self, action: int) -> tuple[int, float, bool, bool, dict[str, Any]]:
        """Draw an outcome."""
        outcomes = self.P[self.s][int(action)]
        index = categorical_sample([outcome[0] for outcome in outcomes], self.np_random)  # type: ignore[no-untyped-call]
        probability, self.s, reward, terminated = outcomes[index]
        self.lastaction = int(action)
        return self.s, reward, terminated, False, {"prob": probability}

    def render(self) -> str:  # type: ignore[override]
        """The state as text."""
        return self.picture(self.s) + "\n"

    def picture(self, state: int) -> str:
        """A state as text."""
        return f"state {state} of {len(self.P)}"


def start_at(state: int, states: int) -> Array:
    """The distribution (S,) of an episode that always begins in one state."""
    start = np.zeros(states)
    start[state] = 1.0
    return start
