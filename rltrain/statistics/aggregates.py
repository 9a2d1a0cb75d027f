"""One number for many runs: means and medians.

Every function takes one array for each task, shaped (..., R) with R independent runs; tasks may differ in R. Leading
axes are kept, so that a thousand bootstrap replicates are one call.

Source: Agarwal et al. 2021, "Deep Reinforcement Learning at the Edge of the Statistical Precipice",
https://arxiv.org/abs/2108.13264
"""

from __future__ import annotations

import numpy as np

from rltrain.core import Array


def mean(*tasks: Array) -> Array:
    """Mean over tasks of the mean over runs, so that every task weighs the same. (...)"""
    return np.asarray(np.mean([np.mean(task, axis=-1) for task in tasks], axis=0))


def median(*tasks: Array) -> Array:
    """Median over the runs of one task; of several tasks, the median of their means. (...)"""
    if len(tasks) == 1:
        return np.asarray(np.median(tasks[0], axis=-1))
    return np.asarray(np.median([np.mean(task, axis=-1) for task in tasks], axis=0))


def interquartile_mean(*tasks: Array) -> Array:
    """IQM: mean of what is left when a quarter, rounded down, of all runs is cut off at either end. (...)

    Of 5 runs it keeps 3, of 10 runs 6; of 3 runs all, so that it is their mean.
    """
    ordered = np.sort(np.concatenate(tasks, axis=-1), axis=-1)
    runs = ordered.shape[-1]
    return np.asarray(ordered[..., runs // 4 : runs - runs // 4].mean(axis=-1))
