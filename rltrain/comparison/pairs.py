"""Every two methods against each other: tests, corrected over all pairs, effect sizes, and what the seeds can show."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import combinations
from typing import NamedTuple

from rltrain.comparison.result import Pair
from rltrain.comparison.verdict import balanced, verdict
from rltrain.core import Array
from rltrain.statistics.intervals import MIN_RUNS
from rltrain.statistics.power import chance_to_miss, detectable_difference, seeds_to_settle
from rltrain.statistics.significance import (
    ALPHA,
    difference,
    hedges_g,
    holm,
    improvement_estimate,
    permutation_test,
    welch,
)

Scores = Mapping[str, Sequence[Array]]
"""Method -> scores (R,) on each common task."""


class _Tests(NamedTuple):
    """p values of one pair; `_holm` are corrected over all pairs."""

    welch: float | None
    welch_holm: float | None
    permutation: float
    permutation_holm: float
    area_holm: float


def pairs_of(scores: Scores, areas: Scores, metric: str) -> list[Pair]:
    """Compare every two methods by the scores of their runs, and by the areas under their curves.

    A method is better where the permutation test, corrected over all pairs, says so at 5 %, and the probability of
    improvement points the same way; and never with fewer than five seeds. Where numbers of seeds differ, Welch's test
    must say so too: there a permutation test takes unequal spread for unequal means (docs/statistics.md).
    """
    chosen = list(combinations(scores, 2))
    found = []
    for (a, b), tests in zip(chosen, _tested(chosen, scores, areas), strict=True):
        pair = _pair(a, b, scores, tests, difference(areas[a], areas[b]), ALPHA / len(chosen))
        found.append(replace(pair, verdict=verdict(pair, scores[a], scores[b], metric)))
    return found


def _tested(chosen: Sequence[tuple[str, str]], scores: Scores, areas: Scores) -> list[_Tests]:
    welches = [welch(scores[a], scores[b]) for a, b in chosen]
    defined = [index for index, p in enumerate(welches) if p is not None]
    corrected = dict(zip(defined, holm([p for p in welches if p is not None]), strict=True))
    permuted = [permutation_test(scores[a], scores[b]) for a, b in chosen]
    over_areas = [_careful(areas[a], areas[b]) for a, b in chosen]
    welches_holm = [corrected.get(index) for index in range(len(chosen))]
    return list(map(_Tests, welches, welches_holm, permuted, holm(permuted), holm(over_areas)))


def _careful(x: Sequence[Array], y: Sequence[Array]) -> float:
    """The permutation test's p; where numbers of seeds differ, the greater of it and Welch's."""
    p = permutation_test(x, y)
    return p if balanced(x, y) else max(p, welch(x, y) or 0.0)


def _pair(a: str, b: str, scores: Scores, tests: _Tests, area: float, alpha: float) -> Pair:
    """All but the verdict; `alpha` is the level of a test among so many pairs."""
    x, y = scores[a], scores[b]
    gap, chance, fewest = difference(x, y), improvement_estimate(x, y), min(map(len, (*x, *y)))
    shown = tests.permutation_holm < ALPHA and (balanced(x, y) or (tests.welch_holm or 0.0) < ALPHA)
    better = fewest >= MIN_RUNS and shown and gap * (chance.value - 0.5) > 0
    several = fewest > 1
    return Pair(
        a=a,
        b=b,
        difference=gap,
        improvement=chance,
        welch=tests.welch,
        welch_holm=tests.welch_holm,
        permutation=tests.permutation,
        permutation_holm=tests.permutation_holm,
        effect_size=hedges_g(x, y),
        area_difference=area,
        area_holm=tests.area_holm,
        missed=chance_to_miss(gap, x, y, alpha=alpha) if several and gap else None,
        more_seeds=seeds_to_settle(gap, x, y, alpha=alpha) if several else None,
        detectable=detectable_difference(x, y, alpha=alpha) if several else None,
        winner=(a if gap > 0 else b) if better else None,
        verdict="",
    )
