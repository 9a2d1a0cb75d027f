"""Optimism where little is known: the value plus a margin that shrinks with every visit."""

from __future__ import annotations

import math
from typing import Any

from pydantic import field_validator

from rltrain.compilable import compilable
from rltrain.schedules import Constant, ScheduleSetting
from rltrain.selection import RowSelector, greatest, random_best
from rltrain.settings import Settings


@compilable
def upper_bounds(q: Any, visits: Any, levels: Any, out: Any) -> None:
    """Q(s, a) + c sqrt(ln n(s) / n(s, a)); infinite for an action that was never taken."""
    total = 0
    for action in range(len(q)):
        total += visits[action]
    for action in range(len(q)):
        if visits[action] == 0:
            out[action] = math.inf
        else:
            out[action] = q[action] + levels[0] * math.sqrt(math.log(total) / visits[action])


@compilable
def choose(q: Any, visits: Any, levels: Any, scratch: Any, rng: Any) -> int:
    """The action of the greatest upper bound, ties uniformly."""
    upper_bounds(q, visits, levels, scratch)
    return random_best(scratch, rng)


@compilable
def probabilities(q: Any, visits: Any, levels: Any, out: Any) -> None:
    """All of it shared among the actions of the greatest upper bound."""
    upper_bounds(q, visits, levels, out)
    best = greatest(out)
    ties = 0
    for action in range(len(q)):
        ties += out[action] == best
    for action in range(len(q)):
        out[action] = 1.0 / ties if out[action] == best else 0.0


class Ucb(RowSelector):
    """a = argmax_a Q(s, a) + c sqrt(ln n(s) / n(s, a)); an action that was never taken goes first.

    UCB1 is c = sqrt(2) for rewards within 0 and 1; c scales with the range of the return.
    Source: Auer, Cesa-Bianchi and Fischer 2002, figure 1, https://doi.org/10.1023/A:1013689704352
    """

    class Config(Settings):
        """How wide the margin is."""

        c: ScheduleSetting = Constant(value=math.sqrt(2))
        """Units of the return; a number or a schedule of environment steps."""

        @field_validator("c")
        @classmethod
        def _not_negative(cls, value: ScheduleSetting) -> ScheduleSetting:
            if value.bounds[0] < 0:
                raise ValueError("c must not be negative")
            return value

    levels = ("c",)
    needs = ("visits",)
    choose = staticmethod(choose)
    probabilities = staticmethod(probabilities)
