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


def draw_curves(axes: Axes, series: Sequence[Series]) -> None:
    """Mean with its pointwise 95 % interval over thin lines of the runs; under `MIN_RUNS` the runs alone, with points."""
    shown = []
    for name, look, curves in series:
        grid = _grid(curves)
        aligned = align(curves, grid)  # (R, G)
        shown.append(aligned)
        few = len(curves) < MIN_RUNS
        marks = {"marker": look.marker, "markersize": 4, "markevery": max(1, len(grid) // MARKS)} if few else {}
        for run in aligned:
            axes.plot(
                grid, run, color=look.colour, ls=look.line, lw=1.3 if few else 0.6, alpha=0.9 if few else 0.35, **marks
            )
        if not few:
            middle = mean_band(aligned, grid)
            axes.fill_between(grid, middle.low, middle.high, color=look.colour, alpha=0.2, lw=0)
            axes.plot(grid, middle.value, color=look.colour, ls=look.line, label=name)
    _cut(axes, np.concatenate([values.ravel() for values in shown]))
    axes.set_xlabel("environment steps")
    axes.xaxis.set_major_formatter(steps_label)
    axes.locator_params(axis="x", nbins=5)
    axes.locator_params(axis="y", nbins=6)
    axes.margins(x=0.01)


def _grid(curves: Sequence[Curve]) -> Array:
    """The steps of the entries where all runs share them and they are few; else evenly spread ones."""
    first = curves[0].steps
    if len(first) <= POINTS and all(np.array_equal(curve.steps, first) for curve in curves):
        return first
    return common_grid(curves, POINTS)


def _cut(axes: Axes, values: Array) -> None:
    """Limits of y that rare extremes do not flatten; what is outside is named."""
    low, high = float(values.min()), float(values.max())
    inner = np.quantile(values, (0.03, 0.97))
    room = FAR_OUT * float(inner[1] - inner[0])
    bottom, top = (inner[0] - room / 6, inner[1] + room / 6) if room else (low, high)
    bottom, top = (low if low >= inner[0] - room else bottom), (high if high <= inner[1] + room else top)
    pad = 0.05 * (top - bottom) or max(0.05 * abs(top), 0.05)
    axes.set_ylim(bottom - pad, top + pad)
    notes = [f"down to {figure_number(low)}"] * (low < bottom) + [f"up to {figure_number(high)}"] * (high > top)
    if notes:
        axes.text(0.98, 0.03, "not shown: " + ", ".join(notes), size=9, color=FAINT, ha="right", transform=axes.transAxes)


def draw_scores(axes: Axes, scores: Sequence[Scores]) -> None:
    """A row for each method: its runs as points; below them the mean with its interval where there are enough."""
    for row, (_, look, values, estimate) in enumerate(scores):
        spread = row - 0.12 - 0.16 * (np.arange(len(values)) % 3 - 1)
        axes.plot(values, spread, look.marker, color=look.colour, ms=5, alpha=0.55, mew=0)
        if estimate.low is not None and estimate.high is not None:
            axes.plot([estimate.low, estimate.high], [row + 0.3] * 2, color=look.colour, lw=2.2, solid_capstyle="round")
            axes.plot(estimate.value, row + 0.3, "D", color=look.colour, ms=7)
    axes.set_ylim(len(scores) - 0.4, -0.6)
    axes.set_yticks(range(len(scores)), [each.name for each in scores])
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="y", visible=False)
    axes.spines["left"].set_visible(False)
    axes.locator_params(axis="x", nbins=6)


def draw_profile(axes: Axes, profiles: Sequence[tuple[Style, Band]], label: str) -> None:
    """The share of runs that score more than each threshold, with intervals."""
    for look, (at, value, low, high) in profiles:
        if low is not None and high is not None:
            axes.fill_between(at, low, high, step="post", color=look.colour, alpha=0.2, lw=0)
        axes.step(at, value, where="post", color=look.colour, ls=look.line)
    axes.set(ylim=(-0.03, 1.03), xlabel=label, ylabel="share of runs above")
    axes.locator_params(axis="x", nbins=6)


def legend(figure: Figure, series: Sequence[tuple[str, Style]]) -> None:
    """Names and line styles above the panels."""
    from matplotlib.lines import Line2D

    lines: list[Any] = [Line2D([], [], color=look.colour, ls=look.line) for _, look in series]
    names = [name for name, _ in series]
    figure.legend(lines, names, loc="outside upper left", ncols=min(len(names), 3), handlelength=3.2)
