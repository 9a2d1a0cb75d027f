"""What a report is about: methods, each with the runs that tell of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from rltrain.records import Curve, RunRecord
from rltrain.report.style import Style


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
