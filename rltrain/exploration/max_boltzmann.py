"""Mostly the best action; when exploring, better actions more often."""

from __future__ import annotations

from typing import Any

from rltrain.compilable import compilable
from rltrain.exploration import boltzmann
from rltrain.exploration.boltzmann import Boltzmann, draw, in_units
from rltrain.exploration.epsilon_greedy import EpsilonGreedy
from rltrain.selection import RowSelector, random_best, share_among_best


@compilable
def choose(q: Any, visits: Any, levels: Any, scratch: Any, rng: Any) -> int:
    """With probability epsilon = levels[2] a draw at the temperature levels[0], else the best, ties uniformly."""
    if rng.random() < levels[2]:
        return draw(q, in_units(q, levels[0], levels[1]), scratch, rng)
    return random_best(q, rng)


@compilable
def probabilities(q: Any, visits: Any, levels: Any, out: Any) -> None:
    """epsilon times Boltzmann's probabilities, and 1 - epsilon shared among the best."""
    boltzmann.probabilities(q, visits, levels, out)
    for action in range(len(q)):
        out[action] *= levels[2]
    share_among_best(q, 1.0 - levels[2], out)


class MaxBoltzmann(RowSelector):
    """a ~ Boltzmann(Q(s, .) / T(t)) with probability epsilon(t), else argmax_a Q(s, a).

    Source: Wiering 1999, "Explorations in Efficient Reinforcement Learning", section 5.1.2, where it is called
    Max-Boltzmann.
    """

    class Config(Boltzmann.Config, EpsilonGreedy.Config):
        """The schedules of temperature and epsilon."""

    levels = ("temperature", "normalize", "epsilon")
    choose = staticmethod(choose)
    probabilities = staticmethod(probabilities)
