"""`rltrain diff`: in what do two runs, or two groups, differ?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rltrain.cli.common import AsJson, print_json

if TYPE_CHECKING:
    from rltrain.records import RunRecord

PARTS = ("settings", "versions", "machine")


def diff(
    a: Annotated[Path, typer.Argument(metavar="A", help="Run, group, or folder with runs.")],
    b: Annotated[Path, typer.Argument(metavar="B", help="What to compare it with.")],
    as_json: AsJson = False,
) -> None:
    """Show in which settings, versions, machines, seeds and results two runs differ.

    Of a group, or a folder with several runs, it takes what its runs have in common, and means over them.
    """
    sides = Side.read(a), Side.read(b)
    found = {part: differing_part(part, sides) for part in PARTS}
    parting = _parting(*sides)
    if as_json:
        print_json(_as_json(sides, found, parting))
        return
    for letter, side in zip("AB", sides, strict=True):
        typer.echo(f"{letter}  {side.path}: {side.title}")
    for part in PARTS:
        _print(part, found[part], sides)
    typer.secho("\nresults", bold=True)
    _table({name: [side.results.get(name, "-") for side in sides] for name in sides[0].results | sides[1].results})
    if parting:
        typer.echo("\n" + parting["text"])


@dataclass(frozen=True)
class Side:
    """One side of the comparison: a run, or several that are taken together."""

    path: Path
    runs: Sequence[RunRecord]
    settings: Mapping[str, Any]
    """Dotted name -> value, of what all runs have in common but the seed."""
    ran_on: Mapping[str, Any]
    """`versions` and `machine` of the latest sitting, as far as all runs agree; empty where none is recorded."""

    @classmethod
    def read(cls, path: Path) -> Side:
        """Raises NoRun, or ConfigError where a configuration is damaged."""
        from rltrain.differences import shared
        from rltrain.records import find_runs

        runs = find_runs(path)
        settings = shared([run.config for run in runs])
        for name in ("seed", "seeds"):
            settings.pop(name, None)
        latest = [run.sittings[-1] for run in runs if run.sittings]
        ran_on = shared([{part: each[part] for part in PARTS[1:]} for each in latest]) if latest else {}
        return cls(path, runs, settings, ran_on)

    @property
    def title(self) -> str:
        """What it is, in a few words."""
        from rltrain.config.seeds import seeds_text

        run, several = self.runs[0], len(self.runs) > 1
        name, env = (str(self.settings.get(key, "several")) for key in ("agent.name", "env.id"))
        what = f"{len(self.runs)} runs" if several else run.status.value
        return f"{name} on {env}, {what}, seed{'s' * several} {seeds_text([run.seed for run in self.runs])}"

    @property
    def results(self) -> dict[str, str]:
        """Steps and returns, means where there are several runs."""
        standings = [run.standing for run in self.runs]
        told = {"steps": f"{_mean([each.steps for each in standings]):,.0f}"}
        for metric in dict.fromkeys(each.metric for each in standings if each.metric):
            judged = [each for each in standings if each.metric == metric]
            of = f" (mean of {len(judged)} runs)" if len(self.runs) > 1 else ""
            told[f"last {metric}"] = f"{_mean([each.last for each in judged]):.5g}{of}"
            told[f"best {metric}"] = f"{_mean([each.best for each in judged]):.5g}{of}"
        return told


def _mean(values: Sequence[Any]) -> float:
    return float(sum(values)) / len(values)


def differing_part(part: str, sides: Sequence[Side]) -> dict[str, list[Any]]:
    """Name -> value of each side, for what differs; empty where a side has no record of it."""
    from rltrain.differences import differing

    if part == "settings":
        return differing([side.settings for side in sides])
    if not all(side.ran_on for side in sides):
        return {}
    start = f"{part}."
    within = [{name: value for name, value in side.ran_on.items() if name.startswith(start)} for side in sides]
    return {name.removeprefix(start): values for name, values in differing(within).items()}


def _print(part: str, rows: Mapping[str, Sequence[Any]], sides: Sequence[Side]) -> None:
    from rltrain.differences import shown

    lacking = [] if part == "settings" else [each for each, side in zip("AB", sides, strict=True) if not side.ran_on]
    if lacking:
        typer.echo(f"\n{part}: not recorded in {' and '.join(lacking)}")
    elif rows:
        typer.secho(f"\n{part}", bold=True)
        _table({name: [shown(value) for value in values] for name, values in rows.items()})
    else:
        typer.echo(f"\n{part}: no difference")


def _table(rows: Mapping[str, Sequence[str]]) -> None:
    """Names and both values; one below the other where the terminal is too narrow."""
    from rltrain.cli.tables import lines, terminal_width

    cells = [{"": name, "A": a, "B": b} for name, (a, b) in rows.items()]
    text = lines(cells, ("", "A", "B"), right=(), width=None)
    width = terminal_width()
    if width is not None and max(map(len, text)) > width:
        text = [line for name, (a, b) in rows.items() for line in (name, f"  A  {a}", f"  B  {b}")]
    typer.echo("\n".join(text))


def _parting(a: Side, b: Side) -> dict[str, Any] | None:
    """Where the logs of two single runs part; None for groups, and where a run has logged nothing."""
    from rltrain.differences import unlike
    from rltrain.logger import log_lines

    if len(a.runs) > 1 or len(b.runs) > 1:
        return None
    logs = [[line for line, _ in log_lines(side.runs[0].folder)] for side in (a, b)]
    if not all(logs):
        return None
    for number, pair in enumerate(zip(*logs, strict=False)):
        if (found := unlike(*pair)) is not None:
            text = f"metrics: differ from step {found.step:,} on, after {number:,} equal entries"
            return {"equal_entries": number, "step": found.step, "text": text}
    shorter, longer = sorted(map(len, logs))
    text = f"metrics: {shorter:,} entries are equal"
    if shorter < longer:
        text += f"; {'A' if len(logs[0]) > len(logs[1]) else 'B'} has {longer - shorter:,} more"
    return {"equal_entries": shorter, "step": None, "text": text}


def _as_json(
    sides: Sequence[Side], found: Mapping[str, Mapping[str, Sequence[Any]]], parting: Mapping[str, Any] | None
) -> dict[str, Any]:
    """What is absent on a side is left out of its values."""
    from rltrain.differences import ABSENT

    def present(values: Sequence[Any]) -> Iterator[tuple[str, Any]]:
        return ((letter, value) for letter, value in zip("ab", values, strict=True) if value is not ABSENT)

    told: dict[str, Any] = {}
    for letter, side in zip("ab", sides, strict=True):
        standings = [{"folder": str(run.folder), **run.standing._asdict()} for run in side.runs]
        told[letter] = {"path": str(side.path), "seeds": [run.seed for run in side.runs], "runs": standings}
    for part, rows in found.items():
        told[part] = {name: dict(present(values)) for name, values in rows.items()}
    return told | {"metrics": None if parting is None else {key: parting[key] for key in ("equal_entries", "step")}}
