"""`rltrain runs`: what was trained, and how it stands."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rltrain.cli.common import AsJson, print_json

if TYPE_CHECKING:
    from rltrain.records import RunRecord

COLUMNS = ("RUN", "STATUS", "AGENT", "ENV", "SEED", "STEPS", "%", "LAST", "BEST", "AGE", "SIZE")
NUMBERS = ("SEED", "STEPS", "%", "LAST", "BEST", "AGE", "SIZE")
DROPPABLE = ("SIZE", "ENV", "AGENT", "SEED", "STEPS", "BEST", "AGE")
"""What a narrow terminal does without: the first of these first."""
GRAVITY = ("running", "failed", "interrupted", "finished")
"""The status of a group is the first of these that one of its runs has."""


def runs(
    folder: Annotated[Path, typer.Argument(metavar="[FOLDER]", help="Where to look, at any depth.")] = Path("runs"),
    status: Annotated[
        list[str] | None,
        typer.Option(help="Only runs that are running, finished, interrupted or failed; may be given several times."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """List runs, the newest last: status, settings, progress, last and best return, age, size.

    A group of seeds is one line; `rltrain runs GROUP` and `--json` show its runs.
    """
    import time

    from rltrain.core import ConfigError
    from rltrain.records import find_runs
    from rltrain.rundir import NoRun

    if unknown := [each for each in status or [] if each not in GRAVITY]:
        raise ConfigError(f"--status: unknown '{unknown[0]}' (known: {', '.join(GRAVITY)})")
    if not folder.is_dir():
        raise NoRun(f"{folder}: no such folder")
    try:
        records = find_runs(folder)
    except NoRun:
        records = []
    now = time.time()
    found = sorted((_describe(record, now) for record in records), key=lambda run: (-run["age"], run["folder"]))
    if status:
        found = [run for run in found if run["status"] in status]
    if as_json:
        print_json({"folder": str(folder), "runs": found})
    elif found:
        _print(found, folder)
    else:
        typer.echo(f"{folder}: no run" + (f" that is {' or '.join(status)}" if status else " in this folder"), err=True)


def _describe(record: RunRecord, now: float) -> dict[str, Any]:
    """All that is told of a run. Its settings come from the summary, which is read sooner, where there is one."""
    from rltrain.core import ConfigError
    from rltrain.rundir import is_group

    settings: dict[str, Any] = dict.fromkeys(("env", "agent", "seed", "total_steps"))
    problem = None
    if record.summary is not None and record.summary.keys() >= settings.keys():
        settings = {name: record.summary[name] for name in settings}
    else:
        try:
            settings = {name: getattr(record, name) for name in settings}
        except ConfigError as error:
            problem = str(error)
    standing, total = record.standing, settings["total_steps"]
    return {
        "folder": str(record.folder),
        "group": str(record.folder.parent) if is_group(record.folder.parent) else None,
        "status": record.status.value,
        "reason": problem or record.reason,
        **settings,
        "steps": standing.steps,
        "percent": round(100 * standing.steps / total, 1) if total else None,
        "metric": standing.metric,
        "last_return": standing.last,
        "best_return": standing.best,
        "age": round(now - record.began, 1),
        "bytes": record.size,
    }


def _print(found: Sequence[dict[str, Any]], folder: Path) -> None:
    from rltrain.cli.tables import fitting, lines, terminal_width

    shown = _folded(found, folder)
    rows = [_row(run, folder) for run in shown]
    width = terminal_width()
    columns = fitting(rows, COLUMNS, DROPPABLE, width)
    head, *texts = lines(rows, columns, right=NUMBERS, width=width)
    typer.secho(head, bold=True)
    for run, text in zip(shown, texts, strict=True):
        typer.secho(text, fg={"running": "green", "failed": "red"}.get(run["status"]))
        if run["reason"]:
            reason = "    " + str(run["reason"]).splitlines()[0]
            typer.secho(reason if width is None else reason[:width], dim=True)
    if any(run["metric"] == "rollout/return" for run in shown):
        typer.secho("* of training episodes: there was no evaluation yet", dim=True)
    if dropped := [name.lower() for name in COLUMNS if name not in columns]:
        typer.secho(f"not shown: {', '.join(dropped)} (a wider terminal, or --json)"[:width], dim=True)


def _folded(found: Sequence[dict[str, Any]], folder: Path) -> list[dict[str, Any]]:
    """Groups as one run each, at the place of their newest; but the one that was asked for is shown run by run."""
    groups: dict[str, list[dict[str, Any]]] = {}
    for run in found:
        groups.setdefault(run["group"] if run["group"] not in (None, str(folder)) else run["folder"], []).append(run)
    folded = [runs[0] if name == runs[0]["folder"] else _together(name, runs) for name, runs in groups.items()]
    return sorted(folded, key=lambda run: -float(run["age"]))


def _together(name: str, runs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """A group as a run: what its seeds have in common, means over its runs, and the sum of their sizes."""

    def mean(key: str) -> float | None:
        values = [run[key] for run in runs if run[key] is not None]
        return sum(values) / len(values) if values else None

    counts = Counter(run["status"] for run in runs)
    worst = next(status for status in GRAVITY if counts[status])
    failed = next((f"{run['folder']}: {run['reason']}" for run in runs if run["reason"]), None)
    return {
        **runs[0],
        "folder": name,
        "status": worst,
        "share": None if counts[worst] == len(runs) else f"{counts[worst]}/{len(runs)}",
        "reason": failed,
        "seed": _seeds(Path(name), [run["seed"] for run in runs if run["seed"] is not None]),
        "steps": round(sum(run["steps"] for run in runs) / len(runs)),
        "percent": mean("percent"),
        "last_return": mean("last_return"),
        "best_return": mean("best_return"),
        "age": min(run["age"] for run in runs),
        "bytes": sum(run["bytes"] for run in runs),
    }


def _seeds(group: Path, found: Sequence[int]) -> str:
    """The seeds that are shown, and of how many, if there are more in the group."""
    from rltrain.config.seeds import seeds_text
    from rltrain.records import planned_seeds

    planned, text = planned_seeds(group), seeds_text(found) if found else "?"
    text = text if len(text) < 10 else f"{len(found)} seeds"
    return text if planned is None or len(planned) <= len(found) else f"{text} of {len(planned)}"


def _row(run: dict[str, Any], folder: Path) -> dict[str, str]:
    from rltrain.cli.tables import age, figure, size

    path = Path(run["folder"])
    mark = "*" if run["metric"] == "rollout/return" else ""
    return {
        "RUN": str(path.relative_to(folder)) if path != folder else str(path),
        "STATUS": " ".join(filter(None, (run["status"], run.get("share")))),
        "AGENT": run["agent"] or "?",
        "ENV": run["env"] or "?",
        "SEED": "?" if run["seed"] is None else str(run["seed"]),
        "STEPS": f"{run['steps']:,}",
        "%": "?" if run["percent"] is None else f"{run['percent']:.0f}",
        "LAST": figure(run["last_return"]) + mark,
        "BEST": figure(run["best_return"]) + mark,
        "AGE": age(run["age"]),
        "SIZE": size(run["bytes"]),
    }
