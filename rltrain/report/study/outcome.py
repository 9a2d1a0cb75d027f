"""Sections on what a search came to, and on how to go on with it."""

from __future__ import annotations

import json
import shlex
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from rltrain.config.seeds import seeds_text
from rltrain.report.blocks import Block, Cell, Commands, Listing, Plot, Plots, Section, Table, Text, estimate, number
from rltrain.report.figures import Scores, draw_scores, drawing, sheet
from rltrain.report.learning import LARGE
from rltrain.report.outcome import ROW
from rltrain.report.study.view import View, value_text
from rltrain.report.style import Style, figure_number, plain_number, style
from rltrain.report.svg import inline
from rltrain.rundir import STUDY
from rltrain.statistics.intervals import MIN_RUNS
from rltrain.tuning.confirm import BASE, CONFIRM, Confirmed, fresh_seeds, winner
from rltrain.tuning.results import BEST, verdict
from rltrain.tuning.study import REASON


def outcome_section(view: View) -> Section:
    """Whether it was worth it: the verdict, what is to be known before it, and values on fresh seeds."""
    blocks: list[Block] = []
    if concerns := list(_concerns(view)):
        blocks.append(Text(concerns, "warning"))
    blocks.append(Text(list(_verdict(view)), "verdict"))
    if view.found:
        blocks.append(_confirmed(view))
        if any(each.scores for each in view.found):
            blocks.append(_scores(view))
    return Section("result", "Result", blocks)


def _concerns(view: View) -> Iterator[str]:
    study, states = view.study, [trial.state.name for trial in view.trials]
    if len(states) < study.budget or "RUNNING" in states:
        running = states.count("RUNNING")
        also = f"; begun and not ended: {running}" if running else ""
        yield f"The search is not finished: {len(states) - running} of {study.budget} trials are done{also}."
    if failed := view.of("failed"):
        why, often = Counter(_kind(trial.user_attrs.get(REASON, "no reason")) for trial in failed).most_common(1)[0]
        what = "All trials" if len(failed) == len(states) else f"{len(failed)} of {len(states)} trials"
        yield f"{what} failed{f', {often} of them' if often < len(failed) else ''}: {why}."
    if view.constant and len(view.complete) > 1:
        value = plain_number(float(view.complete[0].value or 0))
        yield f"All {len(view.complete)} complete trials have the same value, {value}: nothing in it can be told apart."
    missing = sum(each.missing for each in view.found)
    if missing:
        yield f"{missing} of the runs on fresh seeds have no score: they failed, or are not done."


def _kind(reason: str) -> str:
    """A reason without its seed, so that equal ones are counted together."""
    return reason.split(": ", 1)[1] if reason.startswith("seed ") and ": " in reason else reason


def _verdict(view: View) -> Iterator[str]:
    study, best = view.study, view.best
    if best is None or view.chosen is None:
        yield "No trial has a value" + (" yet." if len(view.trials) < study.budget else ".")
        return
    top = winner(study.objective, view.found)
    base = next((each for each in view.found if each.candidate.number is None), None)
    if top is None:
        yield (
            f"The best value in the study is {figure_number(float(best.value or 0))}, of trial {best.number}. Nothing "
            "was run again on fresh seeds, and a value that was chosen for being the best is too good."
        )
    else:
        sentence = verdict(study, top, base)
        yield f"{sentence[:1].upper()}{sentence[1:]}."
    told = ", ".join(f"{name} {value_text(value)}" for name, value in view.values(view.chosen).items())
    yield f"Chosen: trial {view.chosen.number}, with {told}."
    if top is not None and top.estimate is not None:
        other = f", the configuration as it stands {_shown(base)}" if base is not None and base.estimate else ""
        before = "" if top.candidate.tuned is None else f" In the study it had {figure_number(top.candidate.tuned)}."
        yield f"On fresh seeds it is worth {_shown(top)}{other}.{before}"


def _shown(each: Confirmed) -> str:
    cell = estimate(each.estimate)
    return f"{cell.text} {cell.interval}".strip()


def _confirmed(view: View) -> Table:
    """A row for each candidate that was run again."""
    study = view.study
    head = ["configuration", "n", "on fresh seeds", "in the study", "winner's curse"]
    rows = [
        [
            Cell(_name(each), look=look),
            Cell(str(len(each.scores)), float(len(each.scores))),
            estimate(each.estimate),
            number(each.candidate.tuned),
            number(each.luck),
        ]
        for each, look in _looks(view.found)
    ]
    few = study.tune.confirm.seeds < MIN_RUNS
    note = (
        f"{study.objective.name} on seeds {seeds_text(fresh_seeds(study))}, which no trial has seen. "
        + (f"Fewer than {MIN_RUNS} seeds are too few for an interval. " if few else "Brackets: 95 % intervals. ")
        + "Winner's curse: the value in the study minus the value on fresh seeds. The best of many noisy values is "
        "too good, because it was chosen for its luck as well."
    )
    return Table("confirmed", "The best trials on fresh seeds", head, rows, note)


def _name(each: Confirmed) -> str:
    return "as it stands" if each.candidate.number is None else f"trial {each.candidate.number}"


def _looks(found: Sequence[Confirmed]) -> list[tuple[Confirmed, Style]]:
    return [(each, style(index)) for index, each in enumerate(found)]


def _scores(view: View) -> Plots:
    shown = [
        Scores(_name(each), look, np.array(list(each.scores.values())), each.estimate)
        for each, look in _looks(view.found)
        if each.estimate is not None
    ]
    heading = "Scores on fresh seeds"
    ends = "; ".join(f"{each.name}: {figure_number(each.estimate.value)}" for each in shown)
    with drawing():
        figure, (axes,) = sheet(LARGE[0], 64 + max(2, len(shown)) * ROW)
        draw_scores(axes, shown, view.study.objective.name)
        plot = Plot(heading, inline(figure, name="fresh", label=f"{heading}. {ends}."))
    return Plots([plot], [], "Each point is one seed; below them the value with its 95 % interval, where there is one.")


def go_on_section(view: View) -> Section:
    """Commands, and the best configuration."""
    folder, study = view.study.folder, view.study
    blocks: list[Block] = [Commands(list(_commands(view)))]
    for name, title in ((BEST, "best.yaml, the chosen configuration"), (STUDY, "study.yaml, what was searched")):
        if (folder / name).is_file():
            blocks.append(Listing(title, (folder / name).read_text(errors="replace")))
    facts = {
        "study": study.name,
        "folder": str(folder),
        "storage": study.store.shown,
        **_times(view),
    }
    rows = [[Cell(name), Cell(text)] for name, text in facts.items()]
    return Section("next", "How to go on", [*blocks, Table("facts", "The study", ["", "value"], rows)])


def _commands(view: View) -> Iterator[tuple[str, str]]:
    study, folder = view.study, view.study.folder
    if (folder / BEST).is_file():
        yield "Train the chosen configuration:", shlex.join(["rltrain", "train", str(folder / BEST)])
    groups = [folder / CONFIRM / each.candidate.name for each in view.found]
    if any(group.name == BASE for group in groups):
        command = ["rltrain", "report", *map(str, groups), "--out", "confirmed.html"]
        yield "See the runs on fresh seeds in full, with learning curves and tests:", shlex.join(command)
    again = ["rltrain", "tune", "CONFIG", "--study", study.name, "--resume"]
    done = len(view.trials) >= study.budget and study.tune.sampler != "grid"
    more = ["--trials", str(2 * study.budget)] if done else []
    why = "Search longer" if done else "Go on with what is missing"
    yield f"{why}, where CONFIG stands for the file and the settings it was begun with:", shlex.join([*again, *more])


def _times(view: View) -> dict[str, Any]:
    began = [trial.datetime_start for trial in view.trials if trial.datetime_start]
    ended = [trial.datetime_complete for trial in view.trials if trial.datetime_complete]
    told: dict[str, Any] = {}
    if began:
        told["first trial began"] = f"{min(began):%Y-%m-%d %H:%M:%S}"
    if ended:
        told["last trial ended"] = f"{max(ended):%Y-%m-%d %H:%M:%S}"
    if view.study.tune.threshold is not None:
        told["threshold"] = json.dumps(view.study.tune.threshold)
    return told
