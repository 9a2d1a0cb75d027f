"""What a report is about: methods, each with the runs that tell of it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from rltrain.records import Curve, RunRecord, find_runs
from rltrain.report.style import Style, style

_TIME = re.compile(r"\d{8}-\d{6}(-.*)?")
"""The folders that rltrain names by the time."""


@dataclass(frozen=True)
class Method:
    """Runs that are shown as one."""

    name: str
    runs: Sequence[RunRecord]
    look: Style

    @cached_property
    def envs(self) -> list[str]:
        """Its environments, in the order of the runs."""
        return list(dict.fromkeys(run.env for run in self.runs))

    def on(self, env: str) -> list[RunRecord]:
        """Its runs in one environment."""
        return [run for run in self.runs if run.env == env]

    def curves(self, env: str, metric: str) -> list[Curve]:
        """The curves of a metric, of the runs that logged it."""
        found = (run.curve(metric) for run in self.on(env))
        return [curve for curve in found if len(curve.steps)]


def environments(methods: Sequence[Method]) -> list[str]:
    """All environments."""
    return list(dict.fromkeys(env for method in methods for env in method.envs))


def metrics(methods: Sequence[Method]) -> list[str]:
    """All names that were logged, in the order of their first entry."""
    entries = (entry for method in methods for run in method.runs for entry in run.entries)
    names = dict.fromkeys(name for entry in entries for name in entry)
    return [name for name in names if name != "step"]


def last(run: RunRecord, metric: str) -> float | None:
    """The last entry of a metric."""
    curve = run.curve(metric)
    return float(curve.values[-1]) if len(curve.values) else None


def find_methods(paths: Sequence[Path]) -> list[Method]:
    """A method for each path: a run, a group, or a folder with runs. Raises NoRun."""
    found = [(path, find_runs(path)) for path in paths]
    names = [_name(path) for path in paths]
    unique = [name if names.count(name) == 1 else str(path) for name, path in zip(names, paths, strict=True)]
    return [Method(name, runs, style(at)) for at, (name, (_, runs)) in enumerate(zip(unique, found, strict=True))]


def _name(path: Path) -> str:
    """The folder's name; that of the configuration where the folder is named by the time."""
    whole = path.resolve()
    return whole.parent.name if _TIME.fullmatch(whole.name) else whole.name
