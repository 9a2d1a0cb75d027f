"""Sections on the trials: history, which settings matter, how values go together, and a table of all."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from rltrain.report.blocks import DASH, Block, Cell, Plot, Plots, Section, Table, Text, number
from rltrain.report.figures import drawing, sheet
from rltrain.report.learning import LARGE, SMALL
from rltrain.report.setup import duration
from rltrain.report.study.figures import (
    Point,
    draw_history,
    draw_importances,
    draw_parallel,
    draw_progress,
    draw_slice,
)
from rltrain.report.study.view import Scale, View, value_text
from rltrain.report.style import figure_number
from rltrain.report.svg import inline
from rltrain.tuning.results import TRIALS, state_of
from rltrain.tuning.study import REASON

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

ROWS = 200
"""Trials in the table, at most."""
LINES = 200
"""Trials in parallel coordinates and in the figure of their progress, at most: the best."""
ENOUGH = 10
"""Fewer complete trials tell nothing of importances."""
GOOD, LEAST_GOOD = 0.1, 5
"""Importances are for being among the best tenth, but at least among the best five."""
QUARTER, MOST_GOOD = 4, 20
"""The best one in so many is drawn as good, and no more than this."""


def history_section(view: View) -> Section:
    """Values over trials with the best so far, and how the trials went."""
    points, ended = list(_points(view)), [trial.number for trial in view.of("failed")]
    plots = []
    if points:
        with drawing():
            figure, (axes,) = sheet(*LARGE)
            draw_history(axes, points, ended, _best_so_far(view))
            axes.set_ylabel(view.study.objective.name)
            plots.append(Plot("Values of the trials", inline(figure, name="history", label=_history_label(view))))
    curves = list(_curves(view))
    if any(len(steps) > 1 for _, steps, _ in curves):
        with drawing():
            figure, (axes,) = sheet(*LARGE)
            draw_progress(axes, curves)
            axes.set_ylabel(view.study.objective.name)
            told = (
                f"Intermediate values of {len(curves)} trials over environment steps, the ends of pruned ones marked."
            )
            plots.append(Plot("How the trials went", inline(figure, name="progress", label=told)))
    note = ""
    if view.of("pruned"):
        note = "A pruned trial stands where it ended, which is a value of an earlier step. "
    if len(view.study.seeds) > 1 and len(plots) > 1:
        note += (
            f"On the right every {view.study.config.train.total_steps:,} steps add a seed: values are means over the "
            "seeds so far."
        )
    return Section("history", "History", [Plots(plots, [], note)] if plots else [])


def _points(view: View, scale: Scale | None = None) -> Iterator[Point]:
    """Trials with a value: over their numbers, or over where one setting stands."""
    for trial in view.trials:
        if trial.value is None or (kind := _kind(view, trial)) not in ("chosen", "complete", "pruned"):
            continue
        values = view.values(trial)
        if scale is None:
            yield Point(kind, trial.number, trial.value)
        elif scale.name in values:
            yield Point(kind, scale.place(values[scale.name]), trial.value)


def _kind(view: View, trial: FrozenTrial) -> str:
    return "chosen" if view.chosen is not None and trial.number == view.chosen.number else state_of(trial)


def _best_so_far(view: View) -> list[tuple[int, float]]:
    """Number and best value from it on, of every complete trial; the last goes on to the last trial."""
    found: list[tuple[int, float]] = []
    for trial in view.complete:
        value = float(trial.value or 0)
        better = not found or view.study.objective.better(value, found[-1][1])
        found.append((trial.number, value if better else found[-1][1]))
    return [*found, (view.trials[-1].number, found[-1][1])] if found else []


def _history_label(view: View) -> str:
    counts = ", ".join(f"{len(view.of(state))} {state}" for state in ("complete", "pruned", "failed"))
    best = (
        "" if view.best is None else f"; the best, {figure_number(float(view.best.value or 0))}, is {view.best.number}"
    )
    return f"{view.study.objective.name} over {len(view.trials)} trials: {counts}{best}."


def _curves(view: View) -> Iterator[tuple[str, list[float], list[float]]]:
    total = view.study.config.train.total_steps
    for trial in _best_first(view)[:LINES]:
        kind, shown = _kind(view, trial), sorted(trial.intermediate_values.items())
        if shown and kind in ("chosen", "complete", "pruned"):
            steps, values = list[float](), list[float]()
            for step, value in shown:
                if steps and (step - 1) // total != (steps[-1] - 1) // total:
                    steps, values = [*steps, math.nan], [*values, math.nan]  # the line breaks between seeds
                steps, values = [*steps, step], [*values, value]
            yield kind, steps, values


def _best_first(view: View) -> list[FrozenTrial]:
    order = ("complete", "pruned", "running", "failed")
    sign = -1 if view.study.objective.maximize else 1

    def rank(trial: FrozenTrial) -> tuple[int, float, int]:
        value = 0.0 if trial.value is None else float(trial.value)
        return order.index(state_of(trial)), sign * value, trial.number

    return sorted(view.trials, key=rank)


def importance_section(view: View) -> Section:
    """How much each setting has to do with being among the best, by Optuna's PED-ANOVA."""
    name, title = "importance", "Which settings matter"
    if not view.complete:
        return Section(name, title)
    if isinstance(shares := importances(view), str):
        return Section(name, title, [Text([shares])])
    labels = {scale.name: scale.label for scale in view.scales}
    ends = "; ".join(f"{labels[key]} {share:.2f}" for key, share in shares.items())
    with drawing():
        figure, (axes,) = sheet(LARGE[0], 64 + 24 * max(3, len(shares)))
        draw_importances(axes, {labels[key]: share for key, share in shares.items()})
        plot = Plot("Importance", inline(figure, name="importance", label=f"Importance of the settings: {ends}."))
    few = [f"{labels[key]} ({count})" for key in shares if (count := _searched(view, key)) < ENOUGH]
    note = (
        f"Optuna's PED-ANOVA over {len(view.complete)} complete trials: how far the values of the best "
        f"{_good(view)} differ from those of all, as shares of the whole. It says what mattered in this space, not "
        "which value is good; pruned trials do not count."
    )
    if few:
        note += f" Little to go by, since few complete trials searched them: {', '.join(few)}."
    return Section(name, title, [Plots([plot], [], note)])


def _searched(view: View, name: str) -> int:
    return sum(name in trial.params for trial in view.complete)


def _good(view: View) -> int:
    return max(LEAST_GOOD, round(GOOD * len(view.complete)))


def importances(view: View) -> dict[str, float] | str:
    """Setting -> share, the largest first; or why there are none."""
    from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances

    complete = sorted((float(trial.value or 0) for trial in view.complete), reverse=view.study.objective.maximize)
    if len(complete) < ENOUGH:
        return f"Importances need {ENOUGH} complete trials; there are {len(complete)}."
    if complete[_good(view) - 1] == complete[-1]:
        return "Importances cannot be told: too many complete trials have the same value."
    evaluator = PedAnovaImportanceEvaluator(target_quantile=_good(view) / len(complete))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of few trials, which the page says in its own words
        found = get_param_importances(view.study.optuna, evaluator=evaluator)
    known = {scale.name: found[scale.name] for scale in view.scales if scale.name in found}
    return dict(sorted(known.items(), key=lambda pair: -pair[1]))


def settings_section(view: View) -> Section:
    """Parallel coordinates, and the values over each setting."""
    blocks: list[Block] = []
    if len(view.complete) > 1:
        blocks.append(_parallel(view))
    if not any(trial.value is not None for trial in view.trials):
        return Section("settings", "Settings and values", [])
    limits = _limits([float(trial.value) for trial in view.trials if trial.value is not None])
    slices = [
        _slice(view, scale, index, points, limits)
        for index, scale in enumerate(view.scales)
        if (points := list(_points(view, scale)))
    ]
    if slices:
        note = (
            f"{view.study.objective.name} over each setting. Filled: complete; hollow: pruned, at the value where it "
            "ended; diamond: chosen."
        )
        blocks.append(Plots(slices, [], note, small=True))
    return Section("settings", "Settings and values", blocks)


def _parallel(view: View) -> Plots:
    ranked = [trial for trial in _best_first(view) if state_of(trial) == "complete"]
    good = max(1, min(MOST_GOOD, len(ranked) // QUARTER))
    lines = []
    for index, trial in list(enumerate(ranked))[:LINES]:
        values = view.values(trial)
        kind = _kind(view, trial)
        places = [scale.place(values[scale.name]) if scale.name in values else None for scale in view.scales]
        lines.append(("good" if kind != "chosen" and index < good else kind, places, float(trial.value or 0)))
    heading = "All settings together"
    told = f"Parallel coordinates of {len(lines)} complete trials: a line through the values of each, to its own value."
    with drawing():
        figure, (axes,) = sheet(90 + 110 * max(4, len(view.scales)), 300)
        draw_parallel(axes, view.scales, lines, view.study.objective.name)
        plot = Plot(heading, inline(figure, name="parallel", label=told))
    note = f"A line for each complete trial. Thick: chosen; coloured: the best {good}; pale: the others."
    if len(ranked) > LINES:
        note += f" Only the best {LINES} are drawn."
    return Plots([plot], [], note, wide=True)


def _limits(values: Sequence[float]) -> tuple[float, float]:
    """The same for all slices, so that they can be compared."""
    low, high = min(values), max(values)
    room = 0.06 * (high - low) or max(0.05 * abs(high), 0.05)
    return low - room, high + room


def _slice(view: View, scale: Scale, index: int, points: Sequence[Point], limits: tuple[float, float]) -> Plot:
    with drawing():
        figure, (axes,) = sheet(*SMALL)
        draw_slice(axes, scale, points, limits)
        told = f"{view.study.objective.name} over {scale.name}, {len(points)} trials."
        svg = inline(figure, name=f"slice-{index}", label=told)
    when = f"Searched in {len(points)} trials only." if scale.parameter.when else ""
    return Plot(scale.name, svg, when)


def table_section(view: View) -> Section:
    """Every trial with its values."""
    if not view.trials:
        return Section("trials", "Trials", [])
    ranked = _best_first(view)
    reasons = any(REASON in trial.user_attrs for trial in ranked)
    head = ["trial", "state", "value", *(scale.label for scale in view.scales), "time", *(["why"] if reasons else [])]
    rows = [_row(view, trial, reasons) for trial in ranked[:ROWS]]
    note = f"All seeds' scores are in {TRIALS}."
    if len(ranked) > ROWS:
        note = f"The first {ROWS} of {len(ranked):,} trials. {note}"
    return Section("trials", "Trials", [Table("trials", "Trials, best first", head, rows, note)])


def _row(view: View, trial: FrozenTrial, reasons: bool) -> list[Cell]:
    values = view.values(trial)
    seconds = None if trial.duration is None else trial.duration.total_seconds()
    cells = [Cell(str(trial.number)), Cell(state_of(trial)), number(trial.value)]
    for scale in view.scales:
        value = values.get(scale.name)
        known = isinstance(value, int | float) and not isinstance(value, bool)
        text = value_text(value) if scale.name in values else DASH
        cells.append(Cell(text, float(value) if known else None))  # type: ignore[arg-type]
    cells.append(Cell(duration(seconds), seconds))
    return [*cells, Cell(trial.user_attrs.get(REASON, DASH))] if reasons else cells
