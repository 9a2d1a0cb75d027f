"""The policies of several seeds, each evaluated on the same fresh episodes, and what they come to together."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rltrain.core import ConfigError
from rltrain.differences import ABSENT, differing, shown
from rltrain.launch.aggregate import across, too_few
from rltrain.records import RunRecord, Status, find_runs
from rltrain.saved import SavedPolicy

FIGURES = ("return_mean", "exact_return", "percent_of_optimal", "success_rate", "length_mean")
"""What is summarised over seeds, where every seed has it."""
SHOWN = 5
"""Settings named in a refusal."""


def seeds_in(path: Path) -> list[RunRecord]:
    """The runs at `path`, one for each seed: of equal seeds the newest, which comes last by name.

    Raises ConfigError where they are not the same but for the seed, NoRun where there are none.
    """
    runs = find_runs(path)
    found = differing([{**run.config, "seed": 0} for run in runs])
    if found:
        told = [f"{name} ({_values(values)})" for name, values in list(found.items())[:SHOWN]]
        more = f" and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
        raise ConfigError(
            f"{path}: {len(runs)} runs, not seeds of one configuration: they differ in {', '.join(told)}{more}; "
            f"name one of them, or a group, such as {runs[-1].folder}"
        )
    newest = {run.seed: run for run in runs}
    return [newest[seed] for seed in sorted(newest)]


def _values(values: Sequence[Any]) -> str:
    told = dict.fromkeys("not set" if value is ABSENT else shown(value) for value in values)
    return ", ".join(list(told)[:SHOWN])


def evaluate_run(run: RunRecord, episodes: int, seed: int, which: str) -> dict[str, Any]:
    """The report of one seed's policy, as `rltrain eval` gives it, with the run's seed and status."""
    with SavedPolicy.open(run.folder, which) as policy:
        report = policy.evaluate(episodes, seed)
    return {"train_seed": run.seed, "status": str(run.status), **report}


def summarise_seeds(path: Path, reports: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Figures over the seeds that have finished; policies of other steps do not count."""
    finished = [report for report in reports if report["status"] == Status.FINISHED]
    over = {name: across(name, finished) for name in FIGURES} if finished else {}
    first = reports[0]
    return {
        "group": str(path),
        **{name: first[name] for name in ("env", "agent", "episodes", "seed", "max_episode_steps")},
        "n": len(finished),
        "note": too_few(len(finished)),
        "over_seeds": {name: figures for name, figures in over.items() if figures is not None},
        "runs": list(reports),
    }
