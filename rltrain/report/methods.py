"""What a report is about: methods, each with the runs that tell of it and a look of its own."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from rltrain.comparison.methods import open_methods, task_of, without_copies
from rltrain.records import Curve, RunRecord
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
    def tasks(self) -> dict[str, list[RunRecord]]:
        """Environment with its arguments -> runs in it, copies left out as a comparison leaves them out."""
        found: dict[str, list[RunRecord]] = {}
        for run in without_copies(self.runs):
            found.setdefault(task_of(run), []).append(run)
        return found

    @property
    def n(self) -> int:
        """Runs of the task that has most of them."""
        return max(map(len, self.tasks.values()))

    def on(self, task: str) -> list[RunRecord]:
        """Its runs of one task."""
        return self.tasks.get(task, [])

    def curves(self, task: str, metric: str) -> list[Curve]:
        """The curves of a metric, of the runs that logged it."""
        found = (run.curve(metric) for run in self.on(task))
        return [curve for curve in found if len(curve.steps)]


def find_methods(paths: Sequence[Path]) -> list[Method]:
    """A method for each path, named as `rltrain compare` names it. Raises NoRun, ConfigError."""
    named = open_methods(paths)
    if len(named) == 1 and _TIME.fullmatch(only := next(iter(named))):
        named = {paths[0].resolve().parent.name: named[only]}
    return [Method(name, runs, style(number)) for number, (name, runs) in enumerate(named.items())]


def all_tasks(methods: Sequence[Method]) -> list[str]:
    """Every task of any method."""
    return list(dict.fromkeys(task for method in methods for task in method.tasks))


def metrics(methods: Sequence[Method]) -> list[str]:
    """All names that were logged, in the order of their first entry."""
    entries = (entry for method in methods for run in method.runs for entry in run.entries)
    names = dict.fromkeys(name for entry in entries for name in entry)
    return [name for name in names if name != "step"]


def last(run: RunRecord, metric: str) -> float | None:
    """The last entry of a metric."""
    curve = run.curve(metric)
    return float(curve.values[-1]) if len(curve.values) else None
