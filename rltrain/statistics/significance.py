"""Is one method better than another, or is it the seeds? Tests, probability of improvement, effect size, power.

x and y are the two methods: for each task, in the same order, an array of the scores of R independent runs. With
several tasks every task weighs the same, and nothing is exchanged or drawn between tasks. Tests are two-sided.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from itertools import chain, combinations
from math import comb, gamma, sqrt

import numpy as np

from rltrain.core import Array
from rltrain.statistics.aggregates import mean
from rltrain.statistics.intervals import (
    CONFIDENCE,
    FIGURE_REPETITIONS,
    MIN_RUNS,
    Estimate,
    draw,
    percentile_interval,
)

ALPHA = 0.05
MAX_EXACT = 200_000
"""Permutations up to which all are tried: 10 runs against 10 are 184,756."""
SAMPLED = 50_000
"""Permutations that are drawn where there are more."""
Tasks = Sequence[Array]


def difference(x: Tasks, y: Tasks) -> float:
    """Mean over tasks of mean(x) - mean(y).

    Taken about a run of x, so that equal scores differ by nothing: as rounded, means of 10 and of 7 of them may differ.
    """
    about = [a[0] for a in x]
    shifted = ([task - at for task, at in zip(tasks, about, strict=True)] for tasks in (x, y))
    return float(np.subtract(*(mean(*tasks) for tasks in shifted)))


def _constant(x: Tasks, y: Tasks) -> bool:
    return all(np.ptp(task) == 0 for task in (*x, *y))


def standard_error(x: Tasks, y: Tasks, more: int = 0) -> tuple[float, float]:
    """Standard error of `difference`, with `more` runs for each method and task; and its degrees of freedom.

    SE^2 = 1/T^2 * sum s^2 / R over all groups of runs; degrees of freedom by Welch and Satterthwaite. Every group must
    have two runs.
    """
    sizes = np.array([len(task) + more for task in (*x, *y)])
    spread = [np.var(task, ddof=1) if np.ptp(task) else 0.0 for task in (*x, *y)]  # of equal scores it may be rounding
    parts = np.array(spread) / sizes / len(x) ** 2
    square = parts.sum()
    return sqrt(square), float(square**2 / np.sum(parts**2 / (sizes - 1))) if square else 1.0


def welch(x: Tasks, y: Tasks) -> float | None:
    """p of Welch's t test that the means are equal; None where a group has fewer than two runs.

    Without any spread it is 1 for equal scores and else 0, the limits of the test.
    Source: Welch 1947, https://doi.org/10.1093/biomet/34.1-2.28
    """
    if min(map(len, (*x, *y))) < 2:
        return None
    if _constant(x, y):
        return 1.0 if all(a[0] == b[0] for a, b in zip(x, y, strict=True)) else 0.0
    from scipy.special import stdtr

    error, freedom = standard_error(x, y)
    return float(2 * stdtr(freedom, -abs(difference(x, y)) / error))


@lru_cache(maxsize=8)
def _all_choices(first: int, of: int) -> Array:
    """Every way to choose `first` of so many runs: (comb, of) of 0 and 1."""
    rows = comb(of, first)
    chosen = np.fromiter(chain.from_iterable(combinations(range(of), first)), np.intp, rows * first)
    mask = np.zeros((rows, of))
    np.put_along_axis(mask, chosen.reshape(rows, first), 1.0, axis=1)
    return mask


def permutation_test(x: Tasks, y: Tasks, *, seed: int = 0, sampled: int = SAMPLED) -> float:
    """p of the permutation test of the difference of means: how often labels by chance would show as much.

    Exact over all permutations of one task where there are at most `MAX_EXACT`; else over drawn ones, with the observed
    one among them, (1 + k) / (1 + B). Permutations stay within tasks.
    Source: Phipson & Smyth 2010, https://arxiv.org/abs/1603.05766
    """
    sizes = [(len(a), len(a) + len(b)) for a, b in zip(x, y, strict=True)]
    exact = len(sizes) == 1 and comb(sizes[0][1], sizes[0][0]) <= MAX_EXACT
    rng, total = np.random.default_rng(seed), np.float64(0)
    for a, b in zip(x, y, strict=True):
        pooled = np.concatenate([a, b]) - a[0]  # the shift keeps rounding small
        if exact:
            mask = _all_choices(len(a), len(pooled))
        else:
            mask = rng.permuted(np.tile(np.arange(len(pooled)) < len(a), (sampled, 1)), axis=1).astype(np.float64)
        total = total + mask @ pooled * (1 / len(a) + 1 / len(b)) - pooled.sum() / len(b)
    found, seen = np.abs(total) / len(sizes), abs(difference(x, y))
    scale = max(float(np.ptp(np.concatenate([a, b]))) for a, b in zip(x, y, strict=True))
    count = int(np.count_nonzero(found >= seen - 1e-10 * scale))  # ties count, rounding aside
    return count / len(found) if exact else (1 + count) / (1 + sampled)


def holm(p: Sequence[float]) -> list[float]:
    """p values corrected for their number, in the same order: the chance of any false alarm stays below alpha.

    The k-th smallest of m is multiplied by m - k + 1, none is below a smaller one's, none above 1.
    Source: Holm 1979, https://www.jstor.org/stable/4615733
    """
    order = np.argsort(p, kind="stable")
    scaled = np.array(p, np.float64)[order] * np.arange(len(p), 0, -1)
    corrected = np.empty(len(p))
    corrected[order] = np.minimum(np.maximum.accumulate(scaled), 1)
    return [float(value) for value in corrected]


def _wins(x: Array, y: Array) -> Array:
    """(Rx, Ry): 1 where a run of x is above a run of y, a half where they are equal."""
    return np.asarray((x[:, None] > y) + 0.5 * (x[:, None] == y))


def probability_of_improvement(x: Tasks, y: Tasks) -> float:
    """Chance that a run of x is better than a run of y of the same task, ties counting half; mean over tasks.

    It is Mann and Whitney's U / (Rx * Ry). Source: Agarwal et al. 2021, https://arxiv.org/abs/2108.13264
    """
    return float(np.mean([_wins(a, b).mean() for a, b in zip(x, y, strict=True)]))


def _counts(indices: Array) -> Array:
    """How often every run is in each repetition: (B, R) indices to (B, R)."""
    rows, runs = indices.shape
    flat = (indices + runs * np.arange(rows)[:, None]).ravel()
    return np.bincount(flat, minlength=rows * runs).reshape(rows, runs)


def improvement_replicates(x: Tasks, y: Tasks, draws_x: Sequence[Array], draws_y: Sequence[Array]) -> Array:
    """Probability of improvement of every repetition (B,), from indices (B, R) for each task and method."""
    found = [
        np.sum((_counts(index_a) @ _wins(a, b)) * _counts(index_b), axis=1) / (len(a) * len(b))
        for a, b, index_a, index_b in zip(x, y, draws_x, draws_y, strict=True)
    ]
    return np.asarray(np.mean(found, axis=0))


def improvement_estimate(
    x: Tasks, y: Tasks, *, seed: int = 0, repetitions: int = FIGURE_REPETITIONS, confidence: float = CONFIDENCE
) -> Estimate:
    """Probability of improvement with its stratified bootstrap interval, both methods drawn anew.

    No interval where a group has fewer than `MIN_RUNS` runs. Where every run of one is better than every run of the
    other the interval is a point: it says that no run speaks against it, not that none ever would.
    """
    point = probability_of_improvement(x, y)
    if min(map(len, (*x, *y))) < MIN_RUNS:
        return Estimate(point)
    rng = np.random.default_rng(seed)
    found = improvement_replicates(x, y, draw(rng, x, repetitions), draw(rng, y, repetitions))
    low, high = percentile_interval(found, confidence)
    return Estimate(point, float(low), float(high))


def hedges_g(x: Tasks, y: Tasks) -> float | None:
    """Effect size: the difference of means in units of the spread within a method.

    g = J(df) * difference / s, s^2 the pooled variance within methods and tasks, J = Gamma(df/2) / (sqrt(df/2) *
    Gamma((df-1)/2)), which takes out the bias of few runs. None where there is no spread, or too few runs for one.
    Source: Hedges 1981, https://doi.org/10.3102/10769986006002107
    """
    groups = (*x, *y)
    freedom = sum(len(task) - 1 for task in groups)
    if freedom < 2 or _constant(x, y):
        return None
    spread = sqrt(sum(float(np.sum((task - np.mean(task)) ** 2)) for task in groups) / freedom)
    small = 1 - 3 / (4 * freedom - 1)  # the gamma function overflows beyond, where this is as good
    correction = gamma(freedom / 2) / (sqrt(freedom / 2) * gamma((freedom - 1) / 2)) if freedom < 300 else small
    return correction * difference(x, y) / spread
