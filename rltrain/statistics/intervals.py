"""How far a figure can be trusted: Student's t for a mean, the stratified bootstrap for everything else.

R runs of a task, T tasks (the strata), B bootstrap repetitions. Runs are independent; entries of one run are not.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from rltrain.core import Array
from rltrain.statistics.aggregates import interquartile_mean

CONFIDENCE = 0.95
MIN_RUNS = 5
"""Fewer runs of a task are too few for an interval: a bootstrap of 3 covers 75 % where it says 95 %."""
FIGURE_REPETITIONS = 50_000
CURVE_REPETITIONS = 2_000
"""For profiles and curves, which are many figures at once."""

Interval: TypeAlias = tuple[float, float]
Statistic: TypeAlias = Callable[..., Array]
"""One array for each task, (..., R), to one figure, (...), as in `aggregates`."""


@dataclass(frozen=True)
class Estimate:
    """A figure and its interval; no interval where there are too few runs for one."""

    value: float
    low: float | None = None
    high: float | None = None

    def within(self, metric: str) -> Estimate:
        """The interval as far as it is possible for this metric."""
        if self.low is None or self.high is None:
            return self
        least, most = limits(metric)
        return Estimate(self.value, max(self.low, least), min(self.high, most))


def limits(metric: str) -> Interval:
    """Between what a metric lies: a rate of success between 0 and 1, whatever Student's interval would say."""
    return (0.0, 1.0) if metric.endswith("success_rate") else (-math.inf, math.inf)


def t_half_width(values: Array, confidence: float) -> Array:
    """t(R - 1) * s / sqrt(R), half of Student's interval for the mean of independent values (R, ...). (...)"""
    from scipy.special import stdtrit

    runs = len(values)
    return np.asarray(stdtrit(runs - 1, (1 + confidence) / 2) * np.std(values, axis=0, ddof=1) / math.sqrt(runs))


def t_interval(values: Array, confidence: float = CONFIDENCE) -> Interval | None:
    """Student's t interval for the mean of independent values (R,); None for fewer than two.

    Equal values give that value twice.
    """
    if len(values) < 2:
        return None
    if np.ptp(values) == 0:  # no rounding error for an interval
        return float(values[0]), float(values[0])
    mean, half = float(np.mean(values)), float(t_half_width(values, confidence))
    return mean - half, mean + half


def draw(rng: np.random.Generator, tasks: Sequence[Array], repetitions: int) -> list[Array]:
    """Which runs make up each repetition: indices (B, R) for every task, drawn with replacement."""
    return [rng.integers(task.shape[-1], size=(repetitions, task.shape[-1])) for task in tasks]


def replicates(statistic: Statistic, tasks: Sequence[Array], draws: Sequence[Array]) -> Array:
    """The statistic of every repetition: tasks (..., R) and draws (B, R) to (..., B).

    Runs are drawn anew within each task, so no repetition has more of one task than the data (stratified bootstrap).
    Leading axes are the same runs seen several times, as at the steps of a curve.
    """
    return statistic(*(np.asarray(task)[..., index] for task, index in zip(tasks, draws, strict=True)))


def percentile_interval(found: Array, confidence: float = CONFIDENCE) -> tuple[Array, Array]:
    """The bounds (...) between which the middle share of replicates (..., B) lies."""
    tail = 50 * (1 - confidence)
    low, high = np.percentile(found, [tail, 100 - tail], axis=-1)
    return low, high


def bootstrap_interval(
    statistic: Statistic,
    *tasks: Array,
    seed: int = 0,
    repetitions: int = FIGURE_REPETITIONS,
    confidence: float = CONFIDENCE,
    draws: Sequence[Array] | None = None,
) -> Interval | None:
    """Percentile interval of a figure by the stratified bootstrap; None where a task has fewer than two runs.

    Equal arguments give equal digits. Runs that are all equal within their tasks give the figure itself twice.

    Args:
        statistic: From one array (..., R) for each task to one figure (...).
        tasks: Scores (R,) of the runs of each task.
        seed: Decides the draws, where none are given.
        repetitions: How many draws.
        confidence: Share of the replicates between the bounds.
        draws: Indices (B, R) for each task, in place of drawn ones.
    """
    if min(map(len, tasks)) < 2:
        return None
    if all(np.ptp(task) == 0 for task in tasks):
        return float(statistic(*tasks)), float(statistic(*tasks))
    chosen = draw(np.random.default_rng(seed), tasks, repetitions) if draws is None else draws
    low, high = percentile_interval(replicates(statistic, tasks, chosen), confidence)
    return float(low), float(high)


def mean_estimate(values: Array, confidence: float = CONFIDENCE) -> Estimate:
    """Mean of runs (R,) with its t interval; without one for fewer than `MIN_RUNS`."""
    bounds = t_interval(values, confidence) if len(values) >= MIN_RUNS else None
    return Estimate(float(np.mean(values)), *(bounds or (None, None)))


def bootstrap_estimate(statistic: Statistic, *tasks: Array, seed: int = 0, confidence: float = CONFIDENCE) -> Estimate:
    """A figure with its bootstrap interval; without one where a task has fewer than `MIN_RUNS` runs."""
    enough = min(map(len, tasks)) >= MIN_RUNS
    bounds = bootstrap_interval(statistic, *tasks, seed=seed, confidence=confidence) if enough else None
    return Estimate(float(statistic(*tasks)), *(bounds or (None, None)))


def iqm_estimate(*tasks: Array, seed: int = 0, confidence: float = CONFIDENCE) -> Estimate:
    """IQM of runs with its bootstrap interval."""
    return bootstrap_estimate(interquartile_mean, *tasks, seed=seed, confidence=confidence)
