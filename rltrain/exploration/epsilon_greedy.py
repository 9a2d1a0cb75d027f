"""With probability epsilon a random action, else the best one."""

from __future__ import annotations

from typing import Any

from pydantic import field_validator

from rltrain.compilable import compilable
from rltrain.schedules import Linear, ScheduleSetting
from rltrain.selection import RowSelector, random_action, random_best, share_among_best
from rltrain.settings import Settings


@compilable
def choose(q: Any, visits: Any, levels: Any, scratch: Any, rng: Any) -> int:
    """A uniform action with probability epsilon = levels[0], else argmax_a Q(s, a), ties uniformly."""
    if rng.random() < levels[0]:
        return random_action(len(q), rng)
    return random_best(q, rng)


@compilable
def probabilities(q: Any, visits: Any, levels: Any, out: Any) -> None:
    """epsilon / A for every action, and 1 - epsilon shared among the best."""
    out[:] = levels[0] / len(q)
    share_among_best(q, 1.0 - levels[0], out)


class EpsilonGreedy(RowSelector):
    """a is uniform over all actions with probability epsilon(t), else argmax_a Q(s, a).

    Source: Sutton and Barto 2018, section 2.2.
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

    levels = ("epsilon",)
    choose = staticmethod(choose)
    probabilities = staticmethod(probabilities)
