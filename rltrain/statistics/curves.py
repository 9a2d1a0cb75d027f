"""Runs over time: learning curves on common steps, areas, steps to a threshold; and performance profiles.

A curve is a pair of arrays (T,): environment steps in rising order, and values. G steps of a grid, R runs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, TypeAlias

import numpy as np

from rltrain.core import Array
from rltrain.statistics.intervals import (
    CONFIDENCE,
    CURVE_REPETITIONS,
    MIN_RUNS,
    draw,
    limits,
    percentile_interval,
    replicates,
    t_half_width,
)

Points: TypeAlias = tuple[Array, Array]
"""Steps (T,) and values (T,)."""


class Band(NamedTuple):
    """A figure at each step of a grid, or at each threshold, with its interval."""

    at: Array  # (G,) environment steps, or thresholds
    value: Array  # (G,)
    low: Array | None  # (G,) None where there are too few runs for an interval
    high: Array | None  # (G,)


def common_grid(curves: Sequence[Points], points: int = 200) -> Array:
    """Steps (G,) from where every curve has begun to where the last one ends."""
    return np.linspace(max(steps[0] for steps, _ in curves), max(steps[-1] for steps, _ in curves), points)


def align(curves: Sequence[Points], grid: Array) -> Array:
    """Curves (R, G) on the steps of a grid: straight lines between entries.

    Beyond its last entry a curve keeps its last value: what a run that stopped early has learnt stays as it is.
    """
    return np.array([np.interp(grid, steps, values) for steps, values in curves])


def mean_band(aligned: Array, grid: Array, metric: str = "", *, confidence: float = CONFIDENCE) -> Band:
    """The mean of runs (R, G) at each step with Student's t interval; pointwise, not for the curve at once.

    The interval keeps within what is possible for the `metric`.
    """
    mean = np.mean(aligned, axis=0)
    if len(aligned) < MIN_RUNS:
        return Band(grid, mean, None, None)
    half, possible = t_half_width(aligned, confidence), limits(metric)
    return Band(grid, mean, np.clip(mean - half, *possible), np.clip(mean + half, *possible))


def area_under_curve(steps: Array, values: Array, budget: float) -> float:
    """Mean of a curve over the steps from 0 to `budget`: 1/budget * integral, by trapezoids.

    Before the first entry it counts as the first value, after the last as the last one.
    """
    inside = steps[(steps > 0) & (steps < budget)]
    at = np.concatenate([[0.0], inside, [budget]])
    return float(np.trapezoid(np.interp(at, steps, values), at) / budget)


def steps_to_threshold(steps: Array, values: Array, threshold: float) -> int | None:
    """Steps at the first entry that is not below the threshold; None where it was never reached (censored)."""
    reached = np.flatnonzero(values >= threshold)
    return int(steps[reached[0]]) if len(reached) else None


def median_of_censored(found: Sequence[int | None]) -> float | None:
    """Median of steps to a threshold, where None is later than any number; None where the median is."""
    value = float(np.median([np.inf if steps is None else steps for steps in found]))
    return value if np.isfinite(value) else None


def profile(thresholds: Array, *tasks: Array) -> Array:
    """Share of runs above each threshold, strictly, as a mean over tasks: tasks (..., R) to (..., G).

    Source: Agarwal et al. 2021 (run-score distributions), after Dolan & More 2002.
    """
    shares = [np.mean(np.asarray(task)[..., None, :] > thresholds[:, None], axis=-1) for task in tasks]
    return np.asarray(np.mean(shares, axis=0))


def performance_profile(
    thresholds: Array,
    *tasks: Array,
    seed: int = 0,
    repetitions: int = CURVE_REPETITIONS,
    confidence: float = CONFIDENCE,
) -> Band:
    """The profile of runs (R,) of each task, with a pointwise stratified bootstrap."""
    shares = profile(thresholds, *tasks)
    if min(map(len, tasks)) < MIN_RUNS:
        return Band(thresholds, shares, None, None)
    draws = draw(np.random.default_rng(seed), tasks, repetitions)
    found = replicates(lambda *drawn: profile(thresholds, *drawn), tasks, draws)  # (B, G)
    return Band(thresholds, shares, *percentile_interval(found.T, confidence))
