"""Better actions more often: probabilities that grow exponentially with the value."""

from __future__ import annotations

import math
from typing import Any

from pydantic import field_validator

from rltrain.compilable import compilable
from rltrain.schedules import Linear, ScheduleSetting
from rltrain.selection import RowSelector, greatest, least
from rltrain.settings import Settings


@compilable
def weights(q: Any, temperature: float, out: Any) -> float:
    """exp((q_a - max q) / T), and their sum. The greatest is 1: nothing overflows and the sum is never 0."""
    best = greatest(q)
    total = 0.0
    for action in range(len(q)):
        out[action] = math.exp((q[action] - best) / temperature)
        total += out[action]
    return total


@compilable
def in_units(q: Any, temperature: float, normalize: float) -> float:
    """The temperature in the units of Q: times the range of the row where that is asked for, and there is one.

    A range so small that the product is 0 is none.
    """
    if normalize == 0.0:
        return temperature
    scaled = temperature * (greatest(q) - least(q))
    return scaled if scaled > 0.0 else temperature


@compilable
def probabilities(q: Any, visits: Any, levels: Any, out: Any) -> None:
    """The weights by their sum."""
    total = weights(q, in_units(q, levels[0], levels[1]), out)
    for action in range(len(q)):
        out[action] /= total


@compilable
def draw(q: Any, temperature: float, scratch: Any, rng: Any) -> int:
    """Draw by the weights."""
    left = weights(q, temperature, scratch) * rng.random()
    chosen = 0
    for action in range(len(q)):
        if scratch[action] > 0.0:
            chosen = action  # rounding may leave a rest beyond the last: it goes to the last that can be drawn
            left -= scratch[action]
            if left < 0.0:
                break
    return chosen


@compilable
def choose(q: Any, visits: Any, levels: Any, scratch: Any, rng: Any) -> int:
    """Draw by the weights, at the temperature levels[0]."""
    return draw(q, in_units(q, levels[0], levels[1]), scratch, rng)


class Boltzmann(RowSelector):
    """pi(a | s) = exp(Q(s, a) / T) / sum_b exp(Q(s, b) / T), with temperature T(t).

    T near 0 is greedy, T large is uniform. Q is in the units of the return, and so is T; with `normalize` it is in
    units of the row's range, max_b Q(s, b) - min_b Q(s, b), so that one temperature serves states of any scale.
    Source: Sutton and Barto 2018, equation 2.11; Kaelbling et al. 1996, section 2.2.2.
    """

    class Config(Settings):
        """The schedule of the temperature."""

        temperature: ScheduleSetting = Linear(schedule="linear", start=1.0, end=0.05, steps=10_000)
        """Units of the return; a number or a schedule of environment steps, above 0."""
        normalize: bool = False
        """Measure the temperature in units of the range of the state's action values."""

        @field_validator("temperature")
        @classmethod
        def _positive(cls, value: ScheduleSetting) -> ScheduleSetting:
            if value.bounds[0] <= 0:
                raise ValueError("temperature must be above 0 at every step: for no exploration use greedy")
            return value

    levels = ("temperature", "normalize")
    choose = staticmethod(choose)
    probabilities = staticmethod(probabilities)
