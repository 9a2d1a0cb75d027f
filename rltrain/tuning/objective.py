"""What a trial is worth: one number from the runs of its seeds, and from what they have shown so far."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rltrain.config.schema import Config
from rltrain.config.tune import AREA, IQM, STEPS, metric_of
from rltrain.core import ConfigError
from rltrain.records import RunRecord
from rltrain.registry import did_you_mean
from rltrain.statistics.aggregates import interquartile_mean, mean
from rltrain.statistics.curves import area_under_curve, steps_to_threshold
from rltrain.statistics.intervals import Estimate, iqm_estimate, mean_estimate

UNREACHED = 2.0
"""A threshold that was never reached counts as so many budgets (penalised average run time, PAR2)."""


class NoValue(Exception):
    """A run has no such number; the message says why."""


class NeverLogged(NoValue):
    """A run that is done has not logged the metric, so that others with the same parts will not either."""


@dataclass(frozen=True)
class Objective:
    """How trials are judged."""

    name: str
    maximize: bool
    threshold: float | None = None
    """For steps to a threshold."""

    @classmethod
    def of(cls, config: Config) -> Objective:
        """The objective of a configuration's block `tune`. Raises ConfigError."""
        assert config.tune is not None
        tune, bar = config.tune, None
        if tune.objective == STEPS:
            bar = tune.threshold if tune.threshold is not None else _solved(config)
            if bar is None:
                raise ConfigError(f"tune.threshold: missing: {config.env.id} does not say what counts as solved")
        direction = tune.direction or ("minimize" if tune.objective == STEPS else "maximize")
        return cls(tune.objective, direction == "maximize", bar)

    @property
    def metric(self) -> str:
        """The metric of a run that it is made of."""
        return metric_of(self.name)

    def score(self, run: RunRecord) -> float:
        """The number of one run. Raises NoValue."""
        curve = run.curve(self.metric)
        if not len(curve.steps):
            known = _logged(run)
            told = f"{did_you_mean(self.metric, known)} (logged: {', '.join(known) or 'nothing'})"
            raise NeverLogged(f"{self.metric} was never logged{told}")
        if self.name == STEPS:
            assert self.threshold is not None
            steps = steps_to_threshold(*curve, self.threshold)
            return float(UNREACHED * run.total_steps if steps is None else steps)
        value = area_under_curve(*curve, run.total_steps) if self.name == AREA else float(curve.values[-1])
        if not math.isfinite(value):
            raise NoValue(f"{self.metric} is {value}")
        return value

    def shown(self, run: RunRecord) -> dict[int, float]:
        """The same number as it stood at each entry of the metric; empty where there is none before the end."""
        curve = run.curve(self.metric)
        if self.name == STEPS:
            return {}
        if self.name != AREA:
            return dict(zip(curve.steps.tolist(), curve.values.tolist(), strict=True))
        cuts = [(curve.steps[:end], curve.values[:end]) for end in range(1, len(curve.steps) + 1)]
        return {int(steps[-1]): area_under_curve(steps, values, float(steps[-1])) for steps, values in cuts}

    def combine(self, scores: Sequence[float]) -> float:
        """One number for several seeds."""
        values = np.array(scores, np.float64)
        return float(interquartile_mean(values) if self.name.endswith(IQM) else mean(values))

    def estimate(self, scores: Sequence[float]) -> Estimate:
        """The same with its interval, where there are seeds enough."""
        values = np.array(scores, np.float64)
        return iqm_estimate(values) if self.name.endswith(IQM) else mean_estimate(values).within(self.metric)

    def better(self, a: float, b: float) -> bool:
        """Whether a is better than b."""
        return a > b if self.maximize else a < b


def _logged(run: RunRecord) -> list[str]:
    return sorted({name for entry in run.entries for name in entry if name != "step"})


def _solved(config: Config) -> float | None:
    """The return that counts as solved."""
    if config.eval.success is not None:
        return config.eval.success.return_at_least
    import gymnasium as gym

    from rltrain.envs.own import register

    register()
    known = gym.registry.get(config.env.id)
    return None if known is None or known.reward_threshold is None else float(known.reward_threshold)
