"""`rltrain eval` on several seeds: a row each, and what they come to together."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from rltrain.cli.common import counted, print_json

if TYPE_CHECKING:
    from rltrain.records import RunRecord

LABELS = {
    "exact_return": "exact return",
    "return_mean": "return",
    "success_rate": "success rate",
    "length_mean": "length",
}


def evaluate_seeds(
    path: Path, runs: Sequence[RunRecord], episodes: int, seed: int, which: str, *, as_json: bool
) -> None:
    """Evaluate the policy of every run and print a row when it is known. A run without a checkpoint is named."""
    from rltrain.checkpoint import CheckpointError
    from rltrain.launch.evaluate import evaluate_run, summarise_seeds

    reports: list[dict[str, Any]] = []
    without: list[CheckpointError] = []
    for run in runs:
        try:
            report = evaluate_run(run, episodes, seed, which)
        except CheckpointError as error:
            without.append(error)
            typer.echo(f"seed {run.seed}: {error}", err=True)
            continue
        if not as_json:
            if not reports:
                typer.echo(f"{path}, checkpoint of every seed: {which}")
                _head(report)
            typer.echo(_row(report))
        reports.append(report)
    if not reports:
        raise without[0]
    summary = summarise_seeds(path, reports)
    if as_json:
        print_json(summary)
    else:
        _foot(summary)


def _head(report: dict[str, Any]) -> None:
    typer.echo(
        f"{report['agent']} on {report['env']}, {counted(report['episodes'], 'greedy episode')} a seed "
        f"(seed {report['seed']}, "
        f"at most {report['max_episode_steps']:,} steps each)\n"
        f"  {'seed':>5} {'step':>11} {'return':>10} {'std':>9} {'success':>8} {'length':>8}"
        + (f" {'exact':>10}" if "exact_return" in report else "")
    )


def _row(report: dict[str, Any]) -> str:
    rate = report["success_rate"]
    success = "" if rate is None else f"{rate:.1%}"
    exact = f" {report['exact_return']:>10.6g}" if "exact_return" in report else ""
    status = "" if report["status"] == "finished" else f"  {report['status']}: does not count below"
    return (
        f"  {report['train_seed']:>5} {report['checkpoint_step']:>11,} {report['return_mean']:>10.2f} "
        f"{report['return_std']:>9.2f} {success:>8} {report['length_mean']:>8.1f}{exact}{status}"
    )


def _foot(summary: dict[str, Any]) -> None:
    """Mean and IQM of every figure across seeds."""
    from rltrain.cli.across import across_line

    for name, label in LABELS.items():
        if figures := summary["over_seeds"].get(name):
            typer.echo(f"  {label:<13} {across_line(figures)}")
    if (definition := summary["runs"][0]["success_definition"]) is not None:
        typer.echo(f"  a success is: {definition}")
    if summary["n"] == 0:
        typer.echo(f"  {summary['note']}: there is nothing to summarise across seeds")
    typer.echo(f"  random policy {summary['runs'][0]['random_return_mean']:.2f} on the same episodes")
