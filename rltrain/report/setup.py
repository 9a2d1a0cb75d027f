"""Sections on what ran: settings, versions, machines, times, and in what the methods differ."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from rltrain.differences import differing
from rltrain.records import RunRecord
from rltrain.report.blocks import DASH, Block, Cell, Listing, Section, Table, number
from rltrain.report.methods import Method, last


def setup_section(methods: Sequence[Method]) -> Section:
    """What ran, on what, for how long; and every setting."""
    return Section("setup", "What ran", [_methods(methods), _runs(methods), *map(_config, methods)])


def _methods(methods: Sequence[Method]) -> Table:
    """A column for each method."""
    facts: dict[str, Callable[[RunRecord], str | None]] = {
        "environment": lambda run: run.env,
        "agent": lambda run: run.agent,
        "exploration": lambda run: _named(run.config.get("exploration")),
        "bonuses": lambda run: ", ".join(str(each["name"]) for each in run.config.get("bonuses") or ()) or None,
        "budget": lambda run: f"{run.total_steps:,} environment steps",
        "parallel environments": lambda run: str(run.config["env"].get("num_envs", 1)),
        "evaluation": _evaluation,
        "began": _began,
        "versions": lambda run: _last_sitting(run, "versions"),
        "machine": lambda run: _last_sitting(run, "machine"),
    }
    rows = [[Cell("seeds"), *(Cell(_seeds(method.runs)) for method in methods)]]
    for name, fact in facts.items():
        told = [_told(map(fact, method.runs)) for method in methods]
        if any(told):
            rows.append([Cell(name), *(Cell(text or DASH) for text in told)])
    return Table("methods", "Methods", ["", *(method.name for method in methods)], rows)


def _named(block: Any) -> str | None:
    return None if not block else str(block["name"])


def _evaluation(run: RunRecord) -> str:
    settings = run.config["eval"]
    every = settings.get("every")
    return f"{settings['episodes']} greedy episodes " + (f"every {every:,} steps" if every else "at the end")


def _last_sitting(run: RunRecord, key: str) -> str:
    """What the final policy came about with; nothing for runs that wrote no sitting."""
    facts = run.sittings[-1].get(key, {}) if run.sittings else {}
    return ", ".join(f"{name} {value}" for name, value in facts.items())


def _began(run: RunRecord) -> str | None:
    return str(run.sittings[0]["began"]).replace("T", " ").replace("+00:00", " UTC") if run.sittings else None


def _told(texts: Iterable[str | None]) -> str:
    """What runs say, once each; of many different things the first and the last."""
    found = sorted({text for text in texts if text})
    return " / ".join(found) if len(found) <= 2 else f"{found[0]} to {found[-1]}"


def _seeds(runs: Sequence[RunRecord]) -> str:
    """0 to 4, 7."""
    seeds = sorted({run.seed for run in runs})
    spans: list[list[int]] = []
    for seed in seeds:
        if spans and seed == spans[-1][-1] + 1:
            spans[-1][1:] = [seed]
        else:
            spans.append([seed])
    return ", ".join(" to ".join(map(str, span)) for span in spans) + f" (n = {len(runs)})"


def _runs(methods: Sequence[Method]) -> Table:
    """A row for each run."""
    extra = "eval/percent_of_optimal"
    tables = any(last(run, extra) is not None for method in methods for run in method.runs)
    head = [
        "run",
        "seed",
        "status",
        "steps",
        "time",
        "last return",
        "best return",
        *(["% of optimum"] if tables else []),
    ]
    rows = []
    for method in methods:
        for run in method.runs:
            summary = run.summary or {}
            returns = run.curve("eval/return").values
            row = [
                Cell(f"{method.name}, {Path(run.folder).name}", look=method.look),
                Cell(str(run.seed), float(run.seed)),
                Cell(run.status.value),
                _steps(run),
                _time(summary.get("seconds")),
                number(last(run, "eval/return")),
                number(float(returns.max()) if len(returns) else None),
            ]
            rows.append(row + ([number(last(run, extra))] if tables else []))
    return Table("runs", "Runs", head, rows, "Returns are means of the greedy evaluations while training.")


def _steps(run: RunRecord) -> Cell:
    steps = run.standing.steps
    return Cell(f"{steps:,}", float(steps))


def _time(seconds: float | None) -> Cell:
    return Cell(duration(seconds), seconds)


def duration(seconds: float | None) -> str:
    """1 h 02 min, 3 min 20 s, 4.2 s."""
    if seconds is None:
        return DASH
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02} min"


def _config(method: Method) -> Block:
    """All settings of the first run, and what the others have of their own."""
    first, *others = method.runs
    own = ", ".join(differing([run.config for run in method.runs])) or "nothing"
    told = f" (seed {first.seed}; the others differ in {own})" if others else ""
    return Listing(f"Configuration of {method.name}{told}", (first.folder / "config.yaml").read_text(errors="replace"))
