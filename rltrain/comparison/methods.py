"""Methods as they are compared: their runs by task, with the score and the curve of each."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from rltrain.core import Array, ConfigError
from rltrain.records import Curve, RunRecord, Status, find_runs
from rltrain.registry import did_you_mean
from rltrain.statistics.curves import area_under_curve, steps_to_threshold

METRIC = "eval/return"
"""Mean return of the greedy policy's evaluation; its last entry is the score of a run."""


@dataclass(frozen=True)
class Method:
    """One method: its runs that have a score, by task and then by seed; and those that have none."""

    name: str
    metric: str
    runs: Sequence[RunRecord]
    """All of them, copies left out."""
    copies: int
    """Runs left out, since another has their settings and their seed."""

    @cached_property
    def curves(self) -> dict[Path, Curve]:
        """The curve of each run that has one."""
        found = {run.folder: run.curve(self.metric) for run in self.runs}
        return {folder: curve for folder, curve in found.items() if len(curve.steps)}

    @cached_property
    def tasks(self) -> dict[str, list[RunRecord]]:
        """Task -> the runs that have a score, in the order of their seeds."""
        found: dict[str, list[RunRecord]] = {}
        for run in sorted(self.runs, key=lambda run: run.seed):
            if run.folder in self.curves:
                found.setdefault(task_of(run), []).append(run)
        return found

    @property
    def unscored(self) -> list[RunRecord]:
        """Runs that never logged the metric."""
        return [run for run in self.runs if run.folder not in self.curves]

    def scores(self, task: str) -> Array:
        """The last entry of each run of a task. (R,)"""
        return np.array([self.curves[run.folder].values[-1] for run in self.tasks[task]])

    def areas(self, task: str, budget: int) -> Array:
        """The mean of each run's curve over the budget. (R,)"""
        return np.array([area_under_curve(*self.curves[run.folder], budget) for run in self.tasks[task]])

    def steps(self, task: str, threshold: float) -> list[int | None]:
        """Steps of each run to the threshold."""
        return [steps_to_threshold(*self.curves[run.folder], threshold) for run in self.tasks[task]]


def task_of(run: RunRecord) -> str:
    """The environment with its arguments: what scores may be compared in."""
    kwargs = run.config["env"].get("kwargs") or {}
    text = ", ".join(f"{key}={value}" for key, value in sorted(kwargs.items()))
    return f"{run.env} ({text})" if text else run.env


def open_methods(paths: Sequence[Path]) -> dict[str, list[RunRecord]]:
    """The runs of each path under a short name for it. Raises NoRun, and ConfigError where two share a run."""
    named = dict(zip(names_of(paths), map(find_runs, paths), strict=True))
    owner: dict[str, str] = {}
    for name, runs in named.items():
        for run in runs:
            other = owner.setdefault(os.path.realpath(run.folder), name)
            if other != name:
                raise ConfigError(
                    f"{run.folder}: belongs to '{other}' and to '{name}', and cannot be compared with itself"
                )
    return named


def names_of(paths: Sequence[Path]) -> list[str]:
    """A name for each path: what comes after the folders that all share, as far as it takes to tell them apart."""
    whole = [Path(os.path.abspath(path)).parts for path in paths]
    if len(set(whole)) < len(whole):
        twice = next(path for path, parts in zip(paths, whole, strict=True) if whole.count(parts) > 1)
        raise ConfigError(f"{twice}: named twice, and cannot be compared with itself")
    common = len(Path(os.path.commonpath([os.path.join(*parts) for parts in whole])).parts)
    rest = [parts[common:] or parts[-1:] for parts in whole] if len(whole) > 1 else [whole[0][-1:]]
    for length in range(1, max(map(len, rest)) + 1):
        names = ["/".join(parts[:length]) for parts in rest]
        if len(set(names)) == len(names):
            return names
    return [str(path) for path in paths]


def scored(named: Mapping[str, Sequence[RunRecord]], metric: str) -> list[Method]:
    """The methods with their scores. Raises ConfigError where one has none, with the metrics that it has."""
    methods = []
    for name, runs in named.items():
        kept = without_copies(runs)
        method = Method(name, metric, kept, len(runs) - len(kept))
        if not method.curves:
            raise ConfigError(_never_logged(method))
        methods.append(method)
    return methods


def without_copies(runs: Sequence[RunRecord]) -> list[RunRecord]:
    """Of equal settings and seeds the newest that has finished, or else the newest."""
    kept: dict[str, RunRecord] = {}
    for run in runs:
        key = json.dumps(run.config, sort_keys=True, default=str)
        if key not in kept or run.status is Status.FINISHED or kept[key].status is not Status.FINISHED:
            kept[key] = run
    return list(kept.values())


def _never_logged(method: Method) -> str:
    known = sorted({name for run in method.runs for entry in run.entries for name in entry if name != "step"})
    if not known:
        return f"{method.name}: nothing was logged yet"
    hint = did_you_mean(method.metric, known)
    return f"--metric {method.metric}: never logged by {method.name}{hint} (logged: {', '.join(known)})"
