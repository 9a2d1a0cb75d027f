"""Always the action of the greatest value."""

from __future__ import annotations

from typing import Any

from rltrain.compilable import compilable
from rltrain.selection import RowSelector, random_best, share_among_best
from rltrain.settings import Settings


@compilable
def choose(q: Any, visits: Any, levels: Any, scratch: Any, rng: Any) -> int:
    """argmax_a Q(s, a), ties uniformly."""
    return random_best(q, rng)


@compilable
def probabilities(q: Any, visits: Any, levels: Any, out: Any) -> None:
    """All of it shared among the best actions."""
    out[:] = 0.0
    share_among_best(q, 1.0, out)


class Greedy(RowSelector):
    """a = argmax_a Q(s, a). Explores only through optimistic initial values or a bonus.

    Source: Sutton and Barto 2018, section 2.6 (optimistic values).
    """

    class Config(Settings):
        """No settings."""

    choose = staticmethod(choose)
    probabilities = staticmethod(probabilities)
