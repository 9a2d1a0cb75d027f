"""The figures of a search. Drawn with matplotlib, without pyplot. Alike in all of them: what became of a trial."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from rltrain.report.style import COLOURS, FAINT, INK, PAPER, figure_number, steps_label

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from rltrain.report.study.view import Scale


class Look(NamedTuple):
    """The look of trials of one kind."""

    colour: str
    marker: str
    hollow: bool = False

    def points(self, size: float) -> dict[str, Any]:
        """What matplotlib draws points with."""
        return {
            "ls": "", "marker": self.marker, "color": self.colour, "ms": size, "mew": 1.4,
            "mfc": "none" if self.hollow else self.colour, "clip_on": False,
        }  # fmt: skip


LOOKS = {
    "chosen": Look(COLOURS[1], "D"),
    "complete": Look(COLOURS[0], "o"),
    "pruned": Look(COLOURS[4], "v", hollow=True),
    "failed": Look(COLOURS[5], "x"),
}
BEST = COLOURS[2]
"""The line of the best so far."""
EDGE = 0.03
"""Room beside the bounds of a setting, as a share of its range."""
LETTERS = 36
"""More than so many of all labels of an axis do not fit beside each other."""
APART = 0.14
"""Room below an axis of parallel coordinates, for trials that do not search it."""


class Point(NamedTuple):
    """A trial in a figure: `kind` is a key of LOOKS, `x` its number or where its setting stands, `y` its value."""

    kind: str
    x: float
    y: float


def draw_history(axes: Axes, points: Sequence[Point], failed: Sequence[int], best: Sequence[tuple[int, float]]) -> None:
    """Values over trials; failed ones on the lower edge; the best so far as a line."""
    if best:
        numbers, values = zip(*best, strict=True)
        axes.step(numbers, values, where="post", color=BEST, lw=1.8, label="best so far", zorder=1)
    _draw_points(axes, points, 5.5)
    if failed:
        edge = axes.get_xaxis_transform()
        axes.plot(failed, [0.0] * len(failed), transform=edge, label="failed", zorder=4, **LOOKS["failed"].points(7))
    axes.set_xlim(-0.5, max([*failed, *(point.x for point in points), *(number for number, _ in best)]) + 0.5)
    axes.set_xlabel("trial")
    axes.locator_params(axis="x", nbins=6, integer=True)
    axes.locator_params(axis="y", nbins=6)
    axes.grid(axis="x", visible=False)
    _legend(axes)


def _draw_points(axes: Axes, points: Sequence[Point], size: float) -> None:
    for order, (kind, look) in enumerate(reversed(LOOKS.items())):
        found = [point for point in points if point.kind == kind]
        if found:
            x, y = [point.x for point in found], [point.y for point in found]
            grown = size + 1.5 if kind == "chosen" else size
            axes.plot(x, y, label=kind, alpha=0.85, zorder=2 + order, **look.points(grown))


def _legend(axes: Axes) -> None:
    """Above the figure."""
    figure = axes.get_figure(root=True)
    assert figure is not None
    lines, names = axes.get_legend_handles_labels()
    order = [name for name in (*LOOKS, "best so far") if name in names]
    shown = [lines[names.index(name)] for name in order]
    where: Any = {"loc": "outside upper left", "ncols": 4}
    figure.legend(shown, order, handlelength=1.4, columnspacing=1.2, fontsize=10, **where)


def draw_progress(axes: Axes, curves: Sequence[tuple[str, Sequence[float], Sequence[float]]]) -> None:
    """Kind, steps and intermediate values of each trial; nan where another seed begins."""
    kinds, faint = [kind for kind, _, _ in curves], _faint(len(curves))
    for index, (kind, steps, values) in enumerate(curves):
        look = LOOKS[kind]
        label = kind if kinds.index(kind) == index else None
        width: dict[str, Any] = (
            {"lw": 2.2, "zorder": 4} if kind == "chosen" else {"lw": 0.9, "alpha": 0.7 * faint, "zorder": 2}
        )
        axes.plot(steps, values, color=look.colour, ls="--" if look.hollow else "-", label=label, **width)
        if look.hollow:
            axes.plot(steps[-1:], values[-1:], zorder=3, alpha=0.85, **look.points(4.5))
    axes.set_xlabel("environment steps")
    axes.xaxis.set_major_formatter(steps_label)
    axes.locator_params(axis="x", nbins=5)
    axes.locator_params(axis="y", nbins=6)
    axes.grid(axis="x", visible=False)
    _legend(axes)


def _faint(count: int) -> float:
    """How opaque lines are, so that very many do not become one dark patch."""
    return min(1.0, max(0.15, 40 / max(1, count)))


def draw_importances(axes: Axes, shares: Mapping[str, float]) -> None:
    """Name -> share, a bar each."""
    rows = np.arange(len(shares))
    values = np.array(list(shares.values()))
    axes.barh(rows, values, height=0.55, color=COLOURS[0])
    for row, value in enumerate(values):
        axes.text(value + 0.01, row, f"{value:.2f}", va="center", color=INK, size=10)
    axes.set_yticks(rows, list(shares))
    axes.set_ylim(len(shares) - 0.4, -0.6)
    axes.set_xlim(0, max(0.2, 1.15 * float(values.max())))
    axes.set_xlabel("share of the importance")
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="y", visible=False)
    axes.spines["left"].set_visible(False)
    axes.locator_params(axis="x", nbins=5)


def draw_slice(axes: Axes, scale: Scale, points: Sequence[Point], limits: tuple[float, float]) -> None:
    """Values over one setting, on its own scale; `x` of a point is the setting's place from 0 to 1."""
    if scale.parameter.discrete:
        axes.set_xticks(*zip(*scale.marks, strict=True))
        axes.set_xlim(0, 1)
        letters = max(len(text) for _, text in scale.marks) * len(scale.marks)
        if letters > LETTERS:
            axes.tick_params(axis="x", labelrotation=20, labelsize=9)
        _draw_points(axes, _beside(points, 0.3 / len(scale.marks)), 5)
    else:
        if scale.log:
            axes.set_xscale("log")
        else:
            axes.locator_params(axis="x", nbins=5)
        axes.set_xlim(scale.value(-EDGE), scale.value(1 + EDGE))
        _draw_points(axes, [point._replace(x=scale.value(point.x)) for point in points], 5)
    axes.set_ylim(*limits)
    axes.locator_params(axis="y", nbins=5)
    axes.grid(axis="x", visible=False)


def _beside(points: Sequence[Point], reach: float) -> list[Point]:
    """Points of one value side by side, always in the same way, so that equal ones do not hide each other."""
    return [point._replace(x=point.x + reach * ((index * 0.618) % 1 - 0.5)) for index, point in enumerate(points)]


def draw_parallel(
    axes: Axes, scales: Sequence[Scale], lines: Sequence[tuple[str, Sequence[float | None], float]], values: str
) -> None:
    """A vertical axis for each setting and, last, one for the value; a line for each trial through all of them.

    `lines`: `chosen`, `good` or another word; places from 0 to 1, None where a setting is not searched; the value.
    """
    found = np.array([value for _, _, value in lines])
    low, high = float(found.min()), float(found.max())
    looks: dict[str, dict[str, Any]] = {
        "chosen": {"color": COLOURS[1], "lw": 2.6, "zorder": 4},
        "good": {"color": COLOURS[0], "lw": 1.5, "alpha": 0.85, "zorder": 3},
    }
    rest = {"color": FAINT, "lw": 0.8, "alpha": 0.5 * _faint(len(lines)), "zorder": 2}
    for kind, places, value in lines:
        heights = [-APART if place is None else place for place in places]
        heights.append((value - low) / (high - low) if high > low else 0.5)
        axes.plot(range(len(heights)), heights, **looks.get(kind, rest))
    ends = [*(scale.marks for scale in scales), [(at, _end(low, high, at)) for at in (0.0, 0.5, 1.0)]]
    absent = [any(places[at] is None for _, places, _ in lines) for at in range(len(scales))]
    for at, marks in enumerate(ends):
        axes.plot([at, at], [0, 1], color=FAINT, lw=1.2, zorder=5)
        shown = [*marks, *([(-APART, "not searched")] if at < len(scales) and absent[at] else [])]
        for height, text in shown:
            axes.text(at + 0.03, height, text, size=10, va="center", zorder=7, color=INK, bbox=_PAPER)
    axes.set_xticks(range(len(ends)), [*(scale.label for scale in scales), values])
    axes.set_xlim(-0.15, len(ends) - 0.5)
    axes.set_ylim(-APART - 0.05, 1.06)
    axes.xaxis.tick_top()
    axes.tick_params(axis="x", length=0, labelsize=11)
    axes.set_yticks([])
    axes.grid(visible=False)
    for spine in axes.spines.values():
        spine.set_visible(False)


_PAPER = {"boxstyle": "square,pad=0.12", "facecolor": PAPER, "edgecolor": "none", "alpha": 0.75}
"""Behind a label, so that lines do not cross it; the page puts its own paper in."""


def _end(low: float, high: float, at: float) -> str:
    return figure_number(low + (high - low) * at, max(abs(low), abs(high)))
