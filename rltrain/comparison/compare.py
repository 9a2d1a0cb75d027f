"""Lists of runs in, one `Comparison` out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from rltrain.comparison.fairness import common_tasks, concerns, differences, notes
from rltrain.comparison.methods import METRIC, Method, scored
from rltrain.comparison.pairs import Scores, pairs_of
from rltrain.comparison.result import Comparison, Pair, ProfileLine, Row, Table
from rltrain.comparison.verdict import overall
from rltrain.core import Array, ConfigError
from rltrain.metrics import RISING, rises
from rltrain.records import RunRecord
from rltrain.statistics.aggregates import mean, median
from rltrain.statistics.curves import median_of_censored, performance_profile
from rltrain.statistics.intervals import CONFIDENCE, bootstrap_estimate, iqm_estimate, mean_estimate

PROFILE_POINTS = 51
ALL = "all environments"


def compare(
    named: Mapping[str, Sequence[RunRecord]], *, metric: str = METRIC, threshold: float | None = None
) -> Comparison:
    """Compare methods by the last entry of a metric in each of their runs.

    Over several environments scores are normalised: 0 is the least and 1 the greatest score that any of these methods
    had in an environment; so are areas, by their own range, since curves begin far below the last scores.

    Args:
        named: Name -> runs of each method; one alone gives its figures and no pairs.
        metric: What runs are judged by.
        threshold: Steps to this value are counted; left out, to what counts as solved, where the metric is a return.

    Raises:
        ConfigError: a method never logged the metric, or a threshold is asked for of a metric that need not rise to it.
    """
    methods = scored(named, metric)
    if threshold is not None and not rises(metric):
        raise ConfigError(
            f"--threshold counts the steps to a value or more, which is not known to be better for {metric}: leave it "
            f"out, or take a metric of which more is better ({', '.join(RISING)})"
        )
    common = common_tasks(methods)
    tables = [_task_table(methods, task, threshold) for task in dict.fromkeys(t for m in methods for t in m.tasks)]
    scores, areas = _on_common_tasks(methods, [table for table in tables if table.task in common])
    if len(common) > 1:
        tables.append(_all_table(scores, areas, metric))
    pairs = pairs_of(scores, areas, metric) if common else []
    return Comparison(
        metric=metric,
        confidence=CONFIDENCE,
        methods=tuple(named),
        concerns=tuple(concerns(methods)),
        tables=tuple(tables),
        pairs=tuple(pairs),
        profile=tuple(_profile(scores)) if common else (),
        differences=tuple(differences(methods)),
        verdict=_verdict(methods, scores, pairs, metric),
        notes=tuple(notes(methods)),
    )


def _verdict(methods: Sequence[Method], scores: Scores, pairs: Sequence[Pair], metric: str) -> str:
    if len(methods) == 1:
        return "One method alone: nothing to compare."
    if not pairs:
        return "No environment that all have in common: these methods cannot be compared."
    return overall(pairs, max(scores, key=lambda name: float(mean(*scores[name]))), metric)


def _task_table(methods: Sequence[Method], task: str, threshold: float | None) -> Table:
    own = [method for method in methods if task in method.tasks]
    budget = max(run.total_steps for method in own for run in method.tasks[task])
    source: str | None = "--threshold"
    if threshold is None:
        threshold, source = _solved(own[0].tasks[task][0], own[0].metric)
    every = np.concatenate([method.scores(task) for method in own])
    rows = tuple(_row(method, task, budget, threshold) for method in own)
    return Table(task, own[0].metric, budget, threshold, source, float(every.min()), float(every.max()), rows)


def _row(method: Method, task: str, budget: int, threshold: float | None) -> Row:
    scores = method.scores(task)
    steps = method.steps(task, threshold) if threshold is not None else []
    return Row(
        method=method.name,
        n=len(scores),
        mean=mean_estimate(scores).within(method.metric),
        iqm=iqm_estimate(scores),
        median=float(median(scores)),
        area=mean_estimate(method.areas(task, budget)).within(method.metric),
        median_interval=_median_interval(scores),
        seeds=tuple(run.seed for run in method.tasks[task]),
        scores=tuple(float(score) for score in scores),
        steps=tuple(steps),
        reached=sum(step is not None for step in steps) if steps else None,
        median_steps=median_of_censored(steps) if steps else None,
    )


def _median_interval(*tasks: Array) -> tuple[float, float] | None:
    found = bootstrap_estimate(median, *tasks)
    return None if found.low is None or found.high is None else (found.low, found.high)


def _solved(run: RunRecord, metric: str) -> tuple[float | None, str | None]:
    """The return that counts as solved, and who says so."""
    if "return" not in metric:
        return None, None
    success = run.config.get("eval", {}).get("success")
    if success is not None:
        return float(success["return_at_least"]), "eval.success"
    import gymnasium as gym

    from rltrain.envs.own import register

    register()
    known = gym.registry.get(run.env)  # an environment of the user's may not be there
    bar = None if known is None else known.reward_threshold
    return (None, None) if bar is None else (float(bar), "the environment's reward threshold")


def _on_common_tasks(methods: Sequence[Method], tables: Sequence[Table]) -> tuple[Scores, Scores]:
    """Scores and areas (R,) of each method on each common task: as they are for one, from 0 to 1 for several."""
    scores = {method.name: [method.scores(table.task) for table in tables] for method in methods}
    areas = {method.name: [method.areas(table.task, table.budget or 1) for table in tables] for method in methods}
    return (_normalised(scores), _normalised(areas)) if len(tables) > 1 else (scores, areas)


def _normalised(figures: Scores) -> Scores:
    """On each task 0 for the least of all methods' figures and 1 for the greatest; a half where all are equal."""
    ranges = [(min(map(np.min, task)), np.ptp(np.concatenate(task))) for task in zip(*figures.values(), strict=True)]
    return {
        name: [
            (values - low) / span if span else np.full_like(values, 0.5)
            for values, (low, span) in zip(tasks, ranges, strict=True)
        ]
        for name, tasks in figures.items()
    }


def _all_table(scores: Scores, areas: Scores, metric: str) -> Table:
    unit = f"{metric}, 0 the least and 1 the greatest score of any run here in each environment"
    rows = (
        Row(
            method=name,
            n=sum(map(len, own)),
            mean=bootstrap_estimate(mean, *own),
            iqm=iqm_estimate(*own),
            median=float(median(*own)),
            area=bootstrap_estimate(mean, *areas[name]),
            median_interval=_median_interval(*own),
        )
        for name, own in scores.items()
    )
    return Table(ALL, unit, None, None, None, 0.0, 1.0, tuple(rows))


def _profile(scores: Scores) -> list[ProfileLine]:
    every = np.concatenate([task for tasks in scores.values() for task in tasks])
    thresholds = np.unique(np.linspace(every.min(), every.max(), PROFILE_POINTS))
    lines = []
    for name, tasks in scores.items():
        found = performance_profile(thresholds, *tasks)
        bounds = [None if bound is None else tuple(bound.tolist()) for bound in (found.low, found.high)]
        lines.append(ProfileLine(name, tuple(thresholds.tolist()), tuple(found.value.tolist()), *bounds))
    return lines
