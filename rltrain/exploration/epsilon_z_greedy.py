"""Random actions that are held for a while: exploration that goes somewhere."""

from __future__ import annotations

from typing import Any

import numpy as np
from pydantic import Field

from rltrain.core import ActionValues, Array, Metrics, State
from rltrain.exploration.epsilon_greedy import EpsilonGreedy
from rltrain.selection import Selector, random_best


class EpsilonZGreedy(Selector):
    """With probability epsilon(t) a uniform action begins and is held for n steps, p(n) ~ n^-mu; else argmax_a Q(s, a).

    A held action goes on beyond the end of an episode.
    Source: Dabney, Ostrovski and Barreto 2021, "Temporally-Extended epsilon-Greedy Exploration", algorithm 1,
    https://arxiv.org/abs/2006.01782
    """

    class Config(EpsilonGreedy.Config):
        """The schedule of epsilon, and how long actions are held."""

        mu: float = Field(default=2.0, gt=1)
        """Exponent of the zeta distribution of durations; 2 is the paper's, greater means shorter."""
        max_duration: int = Field(default=10_000, ge=1)
        """Steps after which a held action is let go."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._held = np.zeros(0, np.int64)  # (N,) the action that each environment holds
        self._left = np.zeros(0, np.int64)  # (N,) for how many more steps

    def pick(self, values: ActionValues, step: int, rng: np.random.Generator) -> Array:
        """Actions (N,), drawn row after row."""
        rows, epsilon = values.mean.tolist(), self._config.epsilon(step)
        envs = range(len(rows)) if values.envs is None else values.envs.tolist()
        if (new := max(envs) + 1 - len(self._held)) > 0:
            self._held, self._left = np.pad(self._held, (0, new)), np.pad(self._left, (0, new))
        return np.array([self._one(env, row, epsilon, rng) for env, row in zip(envs, rows, strict=True)])

    def _one(self, env: int, row: list[float], epsilon: float, rng: np.random.Generator) -> int:
        if self._left[env] == 0:
            if rng.random() >= epsilon:
                return random_best(row, rng)
            self._held[env] = rng.integers(len(row))
            self._left[env] = min(rng.zipf(self._config.mu), self._config.max_duration)
        self._left[env] -= 1
        return int(self._held[env])

    def metrics(self, step: int) -> Metrics:
        """epsilon, and the share of environments that hold an action."""
        return {"exploration/epsilon": self._config.epsilon(step), "exploration/held": (self._left > 0) * 1.0}

    def state_dict(self) -> State:
        """What is held, and for how long."""
        return {"held": self._held.copy(), "left": self._left.copy()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the state."""
        self._held, self._left = np.array(state["held"]), np.array(state["left"])
