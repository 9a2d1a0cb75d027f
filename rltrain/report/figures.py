"""The figures of a report: learning curves, final scores, performance profiles. Drawn with matplotlib, without pyplot.

R runs of a method, T entries of a curve, G steps of a grid.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from rltrain.core import Array
from rltrain.records import Curve
from rltrain.report.style import FAINT, RC, Style, figure_number, steps_label
from rltrain.statistics.curves import Band, align, common_grid, mean_band
from rltrain.statistics.intervals import MIN_RUNS, Estimate

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

POINTS = 150
"""Steps at which a curve is drawn, at most."""
LONGEST = 48
"""Letters of a name in a legend, at most."""
MARKS = 14
"""Markers on a curve, about."""
FAR_OUT = 3.0
"""Values beyond the middle 94 % by more than so many times its range are outside the picture; it is said."""


class Series(NamedTuple):
    """A metric of one method."""

    name: str
    style: Style
    curves: Sequence[Curve]  # one for each run, none empty


class Scores(NamedTuple):
    """Where the runs of one method ended."""

    name: str
    style: Style
    values: Array  # (R,)
    estimate: Estimate  # of their mean


@contextmanager
def drawing() -> Iterator[None]:
    """matplotlib's own defaults, and ours."""
    import matplotlib.style

    with matplotlib.style.context(["default", RC]):
        yield


def sheet(width: float, height: float, rows: int = 1, columns: int = 1) -> tuple[Figure, list[Axes]]:
    """A figure of so many points (1/72 inch), and its panels, row by row."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width / 72, height / 72), layout="constrained")
    return figure, list(np.ravel(figure.subplots(rows, columns)))


def draw_curves(axes: Axes, series: Sequence[Series], metric: str = "") -> None:
    """Mean with its pointwise 95 % interval over thin lines of the runs; too few runs are drawn alone, with points.

    The interval keeps within what is possible for the `metric`.
    """
    shown = []
    for _, look, curves in series:
        grid = _grid(curves)
        aligned = align(curves, grid)  # (R, G)
        shown.append(aligned)
        once = len(grid) == 1  # a line of one entry would not be seen
        few = len(curves) < MIN_RUNS or once
        marks: dict[str, Any] = (
            {"marker": look.marker, "markersize": 4, "markevery": max(1, len(grid) // MARKS)} if few else {}
        )
        for run in aligned:
            thin: dict[str, Any] = {"ls": look.line, "lw": 1.3, "alpha": 0.9} if few else {"lw": 0.6, "alpha": 0.4}
            axes.plot(grid, run, color=look.colour, zorder=2, **thin, **marks)
        _, mean, low, high = mean_band(aligned, grid, metric)
        if low is not None and high is not None and once:
            reach = (mean - low, high - mean)
            axes.errorbar(grid, mean, reach, color=look.colour, marker=look.marker, ms=7, capsize=4, zorder=3)
        elif low is not None and high is not None:
            axes.fill_between(grid, low, high, color=look.colour, alpha=0.2, lw=0, zorder=1)
            axes.plot(grid, mean, color=look.colour, ls=look.line, zorder=3)
    _cut(axes, np.concatenate([values.ravel() for values in shown]))
    axes.set_xlabel("environment steps")
    axes.xaxis.set_major_formatter(steps_label)
    axes.locator_params(axis="x", nbins=5)
    axes.locator_params(axis="y", nbins=6)
    axes.set_xlim(0, 1.01 * max(curve.steps[-1] for each in series for curve in each.curves))
    axes.grid(axis="x", visible=False)


def _grid(curves: Sequence[Curve]) -> Array:
    """The steps of the entries where all runs share them and they are few; else evenly spread ones."""
    first = curves[0].steps
    if len(first) <= POINTS and all(np.array_equal(curve.steps, first) for curve in curves):
        return first
    return np.unique(common_grid(curves, POINTS))  # one step where the last curve begins where all have ended


def _cut(axes: Axes, values: Array) -> None:
    """Limits of y that rare extremes do not flatten; what is outside is named."""
    low, high = float(values.min()), float(values.max())
    inner_low, inner_high = (float(quantile) for quantile in np.quantile(values, (0.03, 0.97)))
    room = inner_high - inner_low
    bottom = inner_low - room / 6 if room and low < inner_low - FAR_OUT * room else low
    top = inner_high + room / 6 if room and high > inner_high + FAR_OUT * room else high
    pad = 0.05 * (top - bottom) or max(0.05 * abs(top), 0.05)
    axes.set_ylim(bottom - pad, top + pad)
    outside = [f"down to {figure_number(low)}"] if low < bottom else []
    outside += [f"up to {figure_number(high)}"] if high > top else []
    if outside:
        text = "not shown: " + ", ".join(outside)
        axes.text(0.99, 0.03, text, size=9, color=FAINT, ha="right", transform=axes.transAxes)


def draw_scores(axes: Axes, scores: Sequence[Scores], label: str) -> None:
    """A row for each method: its runs as points; below them the mean with its interval where there are enough."""
    span = float(np.ptp(np.concatenate([each.values for each in scores])))
    for row, (_, look, values, estimate) in enumerate(scores):
        levels = _levels(np.sort(values), span)
        heights = row + 0.1 - levels * min(0.13, 0.6 / max(levels.max(), 1))
        axes.plot(np.sort(values), heights, ls="", marker=look.marker, color=look.colour, ms=5.5, alpha=0.6, mew=0)
        if estimate.low is not None and estimate.high is not None:
            axes.plot([estimate.low, estimate.high], [row + 0.3] * 2, color=look.colour, lw=2.2, solid_capstyle="round")
            axes.plot(estimate.value, row + 0.3, ls="", marker="D", color=look.colour, ms=7)
    axes.set_ylim(len(scores) - 0.4, -0.6)
    axes.set_yticks(np.arange(len(scores)) + 0.1, [_short(each.name, 14) for each in scores])
    axes.set_xlabel(label)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="y", visible=False)
    axes.spines["left"].set_visible(False)
    axes.locator_params(axis="x", nbins=6)


def _levels(values: Array, span: float) -> Array:
    """How many points of sorted values (R,) lie left of each one and so close that it has to stand above them."""
    levels = np.zeros(len(values), np.int64)
    for at in range(1, len(values)):
        if values[at] - values[at - 1] <= 0.02 * span:
            levels[at] = levels[at - 1] + 1
    return levels


def _short(name: str, letters: int) -> str:
    return name if len(name) <= letters else f"{name[: letters - 1]}\u2026"


def draw_profile(axes: Axes, profiles: Sequence[tuple[Style, Band]], label: str) -> None:
    """The share of runs that score more than each threshold, with intervals."""
    for look, (at, value, low, high) in profiles:
        if low is not None and high is not None:
            axes.fill_between(at, low, high, step="post", color=look.colour, alpha=0.2, lw=0)
        axes.step(at, value, where="post", color=look.colour, ls=look.line)
    axes.set(ylim=(-0.03, 1.03), xlabel=label, ylabel="share of runs above")
    axes.locator_params(axis="x", nbins=6)


def legend(figure: Figure, series: Sequence[tuple[str, Style]]) -> None:
    """Names and line styles above the panels, in as many columns as there is room for."""
    from matplotlib.lines import Line2D

    lines: list[Any] = [Line2D([], [], color=look.colour, ls=look.line) for _, look in series]
    names = [_short(name, LONGEST) for name, _ in series]
    room = 72 * figure.get_figwidth() / (60 + 7 * max(map(len, names)))  # points of a line and its name
    columns = max(1, min(len(names), int(room)))
    figure.legend(lines, names, loc="outside upper left", ncols=columns, handlelength=3.2)
