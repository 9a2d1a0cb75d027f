"""With probability epsilon a random action, else the best one."""

from __future__ import annotations

import numpy as np
from pydantic import field_validator

from rltrain.core import ActionValues, Array, Metrics, State
from rltrain.schedules import Linear, ScheduleSetting
from rltrain.settings import Settings


class EpsilonGreedy:
    """a is uniform over all actions with probability epsilon(t), else argmax_a Q(s, a).

    Ties between greatest values are broken uniformly. Source: Sutton and Barto 2018, section 2.2.
    """

    class Config(Settings):
        """The schedule of epsilon."""

        epsilon: ScheduleSetting = Linear(schedule="linear", start=1.0, end=0.05, steps=10_000)
        """Probability of a random action, a number or a schedule of environment steps, within [0, 1]."""

        @field_validator("epsilon")
        @classmethod
        def _probability(cls, value: ScheduleSetting) -> ScheduleSetting:
            low, high = value.bounds
            if low < 0 or high > 1:
                raise ValueError(f"epsilon is a probability, within 0 and 1, not {low:g} to {high:g}")
            return value

    kind = "selector"

    def __init__(self, config: Config) -> None:
        self._epsilon = config.epsilon

    def select(self, values: ActionValues, step: int, rng: np.random.Generator) -> Array:
        """Actions (N,). Every environment draws the same numbers, whether it explores or not."""
        q = values.mean
        count, actions = q.shape
        explore = rng.random(count) < self._epsilon(step)
        random = rng.integers(0, actions, count)
        best = q.argmax(axis=1)
        ties = q == q[np.arange(count), best][:, None]
        if ties.sum() > count:
            best = np.where(ties, rng.random(q.shape), -1.0).argmax(axis=1)
        return np.asarray(np.where(explore, random, best))

    def metrics(self, step: int) -> Metrics:
        """The current epsilon."""
        return {"exploration/epsilon": self._epsilon(step)}

    def state_dict(self) -> State:
        """No state: epsilon depends on the step alone."""
        return {}

    def load_state_dict(self, state: State) -> None:
        """No state."""
