"""Sections on what came out: the verdict and what is unfair, figures with intervals, pairs, profile, what differs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from rltrain.comparison.compare import compare
from rltrain.comparison.methods import METRIC
from rltrain.comparison.result import Comparison, Pair, Row
from rltrain.comparison.result import Table as Figures
from rltrain.core import ConfigError
from rltrain.differences import shown
from rltrain.report.blocks import DASH, Block, Cell, Plot, Plots, Section, Table, Text, estimate, number
from rltrain.report.figures import Scores, draw_profile, draw_scores, drawing, sheet
from rltrain.report.learning import LARGE
from rltrain.report.methods import Method, all_tasks, last
from rltrain.report.style import Style, figure_number
from rltrain.report.svg import inline
from rltrain.statistics.curves import Band
from rltrain.statistics.intervals import MIN_RUNS, mean_estimate

ROW = 54
"""Points of a method's row in a figure."""
FURTHER = {
    "eval/success_rate": "success rate",
    "eval/length": "episode length",
    "eval/exact_return": "exact return",
    "eval/percent_of_optimal": "% of optimum",
    "eval/optimal_action_share": "share of optimal actions",
    "eval/value_error": "value error",
}
"""Other figures of the last evaluation."""
Looks = dict[str, Style]


def compared(methods: Sequence[Method], metric: str | None, threshold: float | None) -> Comparison | str:
    """What `rltrain compare` finds; or, where no metric was asked for, why it finds nothing. Raises ConfigError."""
    named = {method.name: method.runs for method in methods}
    try:
        return compare(named, metric=metric or METRIC, threshold=threshold)
    except ConfigError as error:
        if metric is not None:
            raise
        return str(error)


def outcome_section(methods: Sequence[Method], found: Comparison | str) -> Section:
    """The verdict, with what is to be known before it; figures, and pairs of methods."""
    if isinstance(found, str):
        return Section("result", "Result", [Text([f"There is no result: {found}"], "warning")])
    looks = {method.name: method.look for method in methods}
    blocks: list[Block] = []
    if found.concerns:
        blocks.append(Text([concern.text for concern in found.concerns], "warning"))
    if found.pairs or len(methods) > 1:
        more = [pair.verdict for pair in found.pairs] if len(found.pairs) > 1 else []
        blocks.append(Text([found.verdict, *more], "verdict"))
    blocks += [_figures(table, looks, index) for index, table in enumerate(found.tables)]
    blocks.append(Plots(list(_plots(found, looks)), [(name, looks[name]) for name in found.methods], _reading(found)))
    blocks += _pairs(found)
    if found.notes:
        blocks.append(Text(found.notes, "note"))
    blocks.extend(_further(methods))
    return Section("result", "Result", blocks)


def difference_section(found: Comparison | str) -> Section:
    """The settings in which methods differ, seeds aside."""
    if isinstance(found, str) or not found.differences:
        return Section("differences", "What differs", [])
    rows = [[Cell(each.name), *(Cell(shown(value)) for value in each.values)] for each in found.differences]
    table = Table("differences", "Settings that differ", ["setting", *found.methods], rows)
    return Section("differences", "What differs", [table])


def _figures(table: Figures, looks: Looks, index: int) -> Table:
    budget = f", {table.budget:,} steps" if table.budget else ""
    head = ["method", "n", "mean", "IQM", "median", "area under the curve"]
    several = table.budget is None
    means = "by bootstrap" if several else "of means by Student's t, else by bootstrap"
    note = f"Each seed counts by its last entry. Brackets: 95 % intervals, {means}."
    if table.threshold is not None:
        head.append(f"steps to {table.threshold:g}")
        note += f" {table.threshold:g} is {table.threshold_source}; steps are the median seed's."
    rows = [_row(row, looks[row.method], table.threshold is not None) for row in table.rows]
    return Table(f"figures-{index}", f"{table.task}{budget}: {table.unit}", head, rows, note)


def _row(row: Row, look: Style, threshold: bool) -> list[Cell]:
    cells = [Cell(row.method, look=look), Cell(str(row.n), float(row.n)), estimate(row.mean), estimate(row.iqm)]
    cells += [number(row.median), estimate(row.area)]
    if threshold:
        steps = "not reached" if row.median_steps is None else f"{row.median_steps:,.0f}"
        cells.append(Cell(f"{steps} ({row.reached} of {row.n})", row.median_steps))
    return cells


def _plots(found: Comparison, looks: Looks) -> Iterator[Plot]:
    """Where the runs ended, for each task, and the profile."""
    for index, table in enumerate(table for table in found.tables if table.rows[0].scores):
        scores = [Scores(row.method, looks[row.method], np.array(row.scores), row.mean) for row in table.rows]
        heading = f"Final scores, {table.task}" if len(found.tables) > 1 else "Final scores"
        ends = "; ".join(f"{row.method}: mean {figure_number(row.mean.value)}" for row in table.rows)
        with drawing():
            figure, (axes,) = sheet(LARGE[0], 64 + max(2, len(scores)) * ROW)
            draw_scores(axes, scores, found.metric)
            yield Plot(heading, inline(figure, name=f"scores-{index}", label=f"{heading}. {ends}."))
    if found.pairs and len(found.profile[0].thresholds) > 1 and any(row.n > 1 for row in found.tables[-1].rows):
        yield _profile(found, looks)


def _profile(found: Comparison, looks: Looks) -> Plot:
    label = found.metric if len(found.tables) == 1 else "normalised score"
    bands = []
    for line in found.profile:
        low, high = (None if bound is None else np.array(bound) for bound in (line.low, line.high))
        bands.append((looks[line.method], Band(np.array(line.thresholds), np.array(line.shares), low, high)))
    with drawing():
        figure, (axes,) = sheet(*LARGE)
        draw_profile(axes, bands, label)
        told = "Performance profile: the share of runs of each method that score more than a threshold."
        return Plot("Performance profile: runs above a score", inline(figure, name="profile", label=told))


def _reading(found: Comparison) -> str:
    """How the figures are to be read."""
    every = [row for table in found.tables for row in table.rows]
    below = any(row.mean.low is not None for row in every)
    text = "Each point is one seed" + ("; below them the mean with its 95 % interval." if below else ".")
    if any(row.n < MIN_RUNS for row in every):
        text += f" Fewer than {MIN_RUNS} seeds are too few for an interval."
    return text


def _pairs(found: Comparison) -> list[Block]:
    """Every two methods; p values are corrected for the number of pairs."""
    if not found.pairs:
        return []
    holm = ", Holm" if len(found.pairs) > 1 else ""
    head = ["a / b", "difference", "P(a better than b)", f"Welch p{holm}", f"permutation p{holm}", "effect size g"]
    head += ["area difference", f"area p{holm}", "chance to miss it", "seeds that settle it"]
    note = (
        "Area: under the learning curve, over the whole budget. Chance to miss it: how often Welch's test would not "
        "show a true difference of this size with these seeds. Seeds that settle it: for each method, with which it is "
        "missed one time in five."
    )
    rows = [_pair(pair) for pair in found.pairs]
    return [Table("pairs", "Pairs of methods", head, rows, note)]


def _pair(pair: Pair) -> list[Cell]:
    return [
        Cell(f"{pair.a} / {pair.b}"),
        number(pair.difference),
        estimate(pair.improvement),
        _p(pair.welch_holm),
        _p(pair.permutation_holm),
        number(pair.effect_size, DASH if pair.welch is None else "no spread"),
        number(pair.area_difference),
        _p(pair.area_holm),
        number(pair.missed),
        _count(pair.more_seeds),
    ]


def _count(value: int | None) -> Cell:
    return number(None) if value is None else Cell(f"{value:,}", float(value))


def _p(value: float | None) -> Cell:
    if value is None:
        return number(None)
    return Cell("< 0.001" if value < 0.001 else f"{value:.3f}", value)


def _further(methods: Sequence[Method]) -> Iterator[Table]:
    """What else the last evaluation told, as means over the seeds, a table for each task."""
    tasks = all_tasks(methods)
    for index, task in enumerate(tasks):
        here = [method for method in methods if method.on(task)]
        values = {(method.name, name): _ends(method, task, name) for method in here for name in FURTHER}
        names = [name for name in FURTHER if any(values[method.name, name] for method in here)]
        rows = [
            [Cell(method.name, look=method.look)]
            + [_mean(values[method.name, name], name) for name in names]
            for method in here
        ]  # fmt: skip
        if names:
            caption = "Last evaluation" + (f", {task}" if len(tasks) > 1 else "")
            head = ["method", *(FURTHER[name] for name in names)]
            yield Table(
                f"further-{index}",
                caption,
                head,
                rows,
                f"Means over the seeds, with 95 % t intervals from {MIN_RUNS} seeds on.",
            )


def _ends(method: Method, task: str, metric: str) -> list[float]:
    found = (last(run, metric) for run in method.on(task))
    return [value for value in found if value is not None]


def _mean(values: Sequence[float], metric: str) -> Cell:
    return estimate(mean_estimate(np.array(values)).within(metric)) if values else number(None)
