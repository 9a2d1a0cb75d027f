"""What a number of seeds can show: the chance to miss a difference, and how many more seeds would settle it.

x and y are as in `significance`; their spread is taken for the true one, so all of this is a plan, not a measurement.
Source: Colas et al. 2018, "How Many Random Seeds?", https://arxiv.org/abs/1806.08295
"""

from __future__ import annotations

from rltrain.statistics.significance import ALPHA, Tasks, standard_error

MISS = 0.2
"""The chance to miss a difference that is taken as good enough (a power of 80 %)."""
MAX_MORE = 1_000
"""Seeds for each method beyond which nobody wants to know."""


def chance_to_miss(effect: float, x: Tasks, y: Tasks, *, more: int = 0, alpha: float = ALPHA) -> float:
    """Chance that Welch's test at `alpha` would not show a true difference of `effect`.

    P(|T| <= t) with T noncentral t, noncentrality |effect| / SE. Every group must have two runs.

    Args:
        effect: True difference of means, in the units of the scores.
        x, y: The runs at hand.
        more: Runs for each method and task beside those at hand.
        alpha: Level of the test.
    """
    from scipy.special import nctdtr, stdtrit

    error, freedom = standard_error(x, y, more)
    if error == 0:
        return 0.0 if effect else 1 - alpha
    bound, shift = float(stdtrit(freedom, 1 - alpha / 2)), abs(effect) / error
    if shift - bound > 10:
        return 0.0
    wrong_side = float(nctdtr(freedom, shift, -bound)) if shift < 5 else 0.0  # below 1e-10, and NaN far out
    return float(nctdtr(freedom, shift, bound)) - wrong_side


def seeds_to_settle(effect: float, x: Tasks, y: Tasks, *, miss: float = MISS, alpha: float = ALPHA) -> int | None:
    """Fewest more seeds for each method with which `effect` would be missed with a chance of at most `miss`.

    0 where there are enough; None where even `MAX_MORE` are not.
    """
    few, many = -1, MAX_MORE
    if not effect or chance_to_miss(effect, x, y, more=many, alpha=alpha) > miss:
        return None
    while many - few > 1:
        middle = (few + many) // 2
        if chance_to_miss(effect, x, y, more=middle, alpha=alpha) <= miss:
            many = middle
        else:
            few = middle
    return many


def detectable_difference(x: Tasks, y: Tasks, *, miss: float = MISS, alpha: float = ALPHA) -> float:
    """The difference that would be missed with a chance of `miss`; a smaller one, more often."""
    error = standard_error(x, y)[0]
    if error == 0:
        return 0.0
    small, large = 0.0, error
    while chance_to_miss(large, x, y, alpha=alpha) > miss:
        small, large = large, 2 * large
    while large - small > 1e-9 * large:
        middle = (small + large) / 2
        small, large = (small, middle) if chance_to_miss(middle, x, y, alpha=alpha) <= miss else (middle, large)
    return large
