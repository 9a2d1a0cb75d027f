"""Samplers and pruners by their names in YAML.

A sampler is made anew for every trial, from the trial's number: so what is drawn depends on what the storage holds and
on nothing else, no two processes draw the same, and a study that goes on draws what it would have drawn.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

from rltrain.config.schema import Config
from rltrain.seeding import Stream, generator

if TYPE_CHECKING:
    from optuna.pruners import BasePruner
    from optuna.samplers import BaseSampler

REDUCTION = 3
"""Hyperband keeps one of so many at each rung."""


def make_sampler(name: str, seed: int, number: int) -> BaseSampler:
    """The sampler of trial `number`. A grid's points are set beforehand, and nothing is left to draw."""
    from optuna import samplers

    drawn = int(generator(seed, Stream.TUNING, number).integers(2**31))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what is experimental
        if name == "tpe":
            return samplers.TPESampler(seed=drawn, multivariate=True, group=True, constant_liar=True)
        if name == "gp":
            return samplers.GPSampler(seed=drawn, warn_independent_sampling=False)
        if name == "cmaes":
            return samplers.CmaEsSampler(seed=drawn, warn_independent_sampling=False)
        return samplers.RandomSampler(seed=drawn)


def make_pruner(name: str, config: Config, seeds: int) -> BasePruner:
    """The pruner. Its resource is environment steps over all seeds of a trial."""
    from optuna import pruners

    if name == "median":
        return pruners.MedianPruner(n_startup_trials=5)
    if name == "hyperband":
        total = config.train.total_steps
        budget, least = total * seeds, min(config.eval.every or total, total)
        return pruners.HyperbandPruner(min_resource=least, max_resource=budget, reduction_factor=REDUCTION)
    return pruners.NopPruner()
