"""One page of panels, grids of coloured cells with arrows, numbers and marks in them, written as a PNG.

What the cells stand for is not known here. Legend for shapes: K cells of one panel, or triangles where cells are cut
into one an action. Coordinates inside a panel are cells: x right, y down. Places on the page are inches from the
lower left corner, so that text can be fitted to cells.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np

from rltrain.core import Array

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Direction: TypeAlias = tuple[int, int] | str
"""An arrow (rows down, columns right), or a letter."""
DOWN, UP, RIGHT, LEFT = (1, 0), (-1, 0), (0, 1), (0, -1)
HEAVY_ARROWS: dict[Direction, str] = {DOWN: "\u2b07", UP: "\u2b06", RIGHT: "\u27a1", LEFT: "\u2b05"}
DPI = 130
SMALLEST_TEXT = 6.0
"""Points below which numbers are left out."""
INK, PAPER = "#16181d", "#ffffff"
GREEDY = "#ff4f2e"
"""What is marked is outlined in this red."""
UNKNOWN, HATCH = "#e6e6e6", "#b4b4b4"
"""Face and lines of a cell without a value."""
LUMA = (0.299, 0.587, 0.114)
"""How bright red, green and blue look (ITU-R BT.601); text on bright colours is dark."""

PAGE_HEAD, PAGE_FOOT = 0.55, 0.5
"""Inches for the page's title and for the note below."""
TITLE, BELOW, SIDE = 0.5, 0.14, 0.22
"""Inches above, below and at both sides of a panel's cells."""
LABELS, BAR = 0.42, 0.75
"""Inches for the ticks and label of an axis, and for the colour bar."""


class MarkStyle(NamedTuple):
    """What a mark looks like."""

    face: str
    ink: str
    covers: bool  # the whole cell, or only its corner


class Mark(NamedTuple):
    """A letter that names a cell."""

    x: int
    y: int
    text: str
    style: MarkStyle


@dataclass(frozen=True)
class Panel:
    """A grid of cells, each coloured by its value; with `triangles`, each is cut into one triangle an action."""

    title: str
    shape: tuple[int, int]  # rows, columns
    cell: tuple[float, float]  # width, height in inches
    values: Array  # (K,) NaN, or 0 visits, where nothing was learnt; row by row, then action by action
    bar: str = ""  # name of the colour bar; none if empty
    limits: tuple[float, float] | None = None  # of the colours; None for visits, on a logarithmic scale
    glyphs: Sequence[Direction] = ()  # (K,)
    marked: Array | None = None  # (K,) bool
    triangles: Sequence[Direction] = ()
    marks: Sequence[Mark] = ()
    walls: Sequence[tuple[int, int]] = ()  # x, y: wall on the right of this cell
    ticks: tuple[Sequence[str], Sequence[str]] = ((), ())  # one a column, one a row
    labels: tuple[str, str] = ("", "")  # along x and y

    @property
    def left(self) -> float:
        """Inches left of the cells."""
        return SIDE + LABELS * bool(self.labels[0])

    @property
    def across(self) -> float:
        """Width of all cells in inches."""
        return self.shape[1] * self.cell[0]

    @property
    def down(self) -> float:
        """Height of all cells in inches."""
        return self.shape[0] * self.cell[1]

    @property
    def width(self) -> float:
        """Inches that the panel takes, with everything around the cells."""
        return self.left + self.across + BAR * bool(self.bar) + SIDE

    @property
    def height(self) -> float:
        """Inches that the panel takes, with everything around the cells."""
        return TITLE + self.down + BELOW + LABELS * bool(self.labels[0])

    def polygons(self) -> Array:
        """Corners (K, 3 or 4, 2) of every triangle or cell, as x and y."""
        centres = np.array([(x, y) for y, x in np.ndindex(self.shape)])[:, None]
        if not self.triangles:
            return np.asarray(np.add(centres, [(-0.5, -0.5), (0.5, -0.5), (0.5, 0.5), (-0.5, 0.5)]))
        towards = np.array([(move[1], move[0]) for move in self.triangles], float) / 2  # (A, 2)
        across = towards[:, ::-1] * (-1, 1)
        triangles = np.stack([0 * towards, towards + across, towards - across], 1)  # (A, 3, 2)
        return np.asarray(centres[:, None] + triangles).reshape(-1, 3, 2)


class Page(NamedTuple):
    """What is drawn into one file."""

    columns: list[list[Panel]]  # from left to right; each from top to bottom
    note: str  # a line below that explains signs


def draw_page(path: Path, page: Page, *, title: str) -> None:
    """Write one PNG. Equal pages give equal bytes. Raises OSError if it cannot be written."""
    import matplotlib.style
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with matplotlib.style.context(["default", {"hatch.linewidth": 0.6}]):
        figure = Figure(dpi=DPI, facecolor=PAPER)
        _compose(figure, page, title)
        FigureCanvasAgg(figure).print_figure(path, format="png")


def number(value: float, largest: float) -> str:
    """As many decimals as a column with `largest` deserves; 12k from ten thousand, 12M from ten million on."""
    size, unit = 1.0, ""
    if abs(value) >= 1e7:
        size, unit = 1e6, "M"
    elif abs(value) >= 1e4:
        size, unit = 1e3, "k"
    decimals = int(np.clip(2 - np.floor(np.log10(max(largest, 0.1))), 0, 2))
    return f"{value / size:.{decimals}f}{unit}".replace("-", "\u2212")


def _compose(figure: Figure, page: Page, title: str) -> None:
    """Place every panel at its own size in inches."""
    widths = [max(panel.width for panel in column) for column in page.columns]
    width = sum(widths)
    height = PAGE_HEAD + PAGE_FOOT + max(sum(panel.height for panel in column) for column in page.columns)
    figure.set_size_inches(width, height)
    size = min(18, _fitting(len(title), width, letter=0.72))
    figure.suptitle(title, y=1 - 0.18 / height, size=size, color=INK, weight="bold")
    size = min(11, _fitting(len(page.note), width, letter=0.6))
    figure.text(0.5, 0.17 / height, page.note, size=size, color=INK, ha="center")
    for index, column in enumerate(page.columns):
        top = height - PAGE_HEAD
        for panel in column:
            x = sum(widths[:index]) + panel.left
            y = top - TITLE - panel.down
            axes = figure.add_axes((x / width, y / height, panel.across / width, panel.down / height))
            colours = _draw(axes, panel)
            if panel.bar:
                beside = (x + panel.across + 0.12) / width
                _draw_bar(figure, (beside, y / height, 0.17 / width, panel.down / height), panel, colours)
            top -= panel.height


def _fitting(letters: int, inches: float, *, letter: float) -> float:
    """Points of a text that is as wide as `inches`, where a letter is `letter` times as wide as high."""
    return 72 * inches / (letter * max(letters, 1))


def _draw_bar(figure: Figure, place: tuple[float, float, float, float], panel: Panel, colours: Any) -> None:
    """The colour bar at `place`: left, bottom, width and height as shares of the page."""
    form = None if panel.limits else lambda count, _: number(count, 1e3)
    bar = figure.colorbar(colours, cax=figure.add_axes(place), format=form)
    bar.minorticks_off()
    bar.ax.set_title(panel.bar, size=10, color=INK, pad=8)


def _draw(axes: Axes, panel: Panel) -> Any:
    """Everything inside one panel. Returns what maps values to colours."""
    values = panel.values if panel.limits else np.where(panel.values > 0, panel.values, np.nan)
    values = np.where(np.isfinite(values), values, np.nan)
    corners = panel.polygons()
    colours = _colours(panel, values[np.isfinite(values)])
    faces = colours.to_rgba(values)  # (K, 4)
    _draw_cells(axes, panel, values, corners, faces)
    for x, y in panel.walls:
        axes.plot([x + 0.5] * 2, [y - 0.5, y + 0.5], color=INK, lw=5, solid_capstyle="butt")
    _write_values(axes, panel, values, corners.mean(1), faces)
    for mark in panel.marks:
        _write_mark(axes, mark, 72 * min(panel.cell))
    _label(axes, panel)
    return colours


def _colours(panel: Panel, known: Array) -> Any:
    """The map from values to colours; visits get other colours, and at least one whole decade."""
    from matplotlib import cm, colors

    known = known if len(known) else np.ones(1)
    if panel.limits:
        low, high = panel.limits
        colours: Any = cm.ScalarMappable(colors.Normalize(low, high), "viridis")
    else:
        low = 10 ** np.floor(np.log10(known.min()))
        colours = cm.ScalarMappable(colors.LogNorm(low, max(known.max(), 10 * low)), "cividis")
    colours.cmap.colorbar_extend = "min" if known.min() < low else "neither"
    return colours


def _draw_cells(axes: Axes, panel: Panel, values: Array, corners: Array, faces: Array) -> None:
    """The coloured cells, what separates them, and what marks the greedy ones."""
    from matplotlib.collections import PolyCollection

    def add(shapes: Any, face: Any, edge: str, width: float, hatch: str | None = None) -> None:
        style = {"facecolors": face, "edgecolors": edge, "linewidths": width, "hatch": hatch}
        axes.add_collection(PolyCollection(shapes, **style))

    known, points = np.isfinite(values), 72 * min(panel.cell)
    add(corners[~known], UNKNOWN, HATCH, 0, "////")
    add(corners[known], faces[known], "none", 0)
    add(corners, "none", PAPER, min(0.7, points / 60))
    if panel.marked is None:
        return
    centres = corners.mean(1, keepdims=True)
    if panel.triangles:  # an outline just inside
        outlines = centres + 0.87 * (corners - centres)
        add(outlines[panel.marked], "none", GREEDY, min(1.6, points / 28))
    else:  # a bar at the left
        width = min(0.06 / panel.cell[0], 0.4)
        bars = centres + (corners - centres) * (width, 1) - (0.5 - width / 2, 0)
        add(bars[panel.marked], GREEDY, "none", 0)


def _write_values(axes: Axes, panel: Panel, values: Array, centres: Array, faces: Array) -> None:
    """Arrows or letters, and numbers as far as they fit, into the cells whose value is known."""
    known = np.flatnonzero(np.isfinite(values))
    largest = max(np.abs([*values[known], *(panel.limits or (1e3,))]))
    texts = [number(values[k], largest) for k in known]
    size = _size_of_numbers(panel, max(map(len, texts), default=1))
    lift = 0.12 if panel.glyphs and size >= SMALLEST_TEXT else 0  # a glyph makes room for the number below it
    inks = np.where(faces[:, :3] @ LUMA > 0.5, INK, PAPER)
    style: dict[str, Any] = {"ha": "center", "va": "center_baseline"}
    for k, text in zip(known.tolist(), texts, strict=True):
        x, y = centres[k] - 0.14 * (centres[k] - centres[k].round())  # off a triangle's edge
        if size >= SMALLEST_TEXT:
            axes.text(x, y + 2.6 * lift, text, color=inks[k], size=size, **style)
        if panel.glyphs:
            glyph, points = panel.glyphs[k], 72 * min(panel.cell)
            large = min(0.6 * points, 32) if glyph in HEAVY_ARROWS else min(0.4 * points, 16)
            sign = HEAVY_ARROWS.get(glyph, str(glyph))
            axes.text(x, y - lift, sign, color=inks[k], size=large, weight="bold", **style)


def _size_of_numbers(panel: Panel, letters: int) -> float:
    """Points of text that fit into a cell beside what else stands in it."""
    width, height = 0.8, 0.6  # shares of a cell
    if panel.triangles:
        width, height = 0.34, 0.2
    elif panel.glyphs:
        width, height = 0.88, 0.25
    return min(10.5, _fitting(letters, panel.cell[0] * width, letter=0.63), 72 * panel.cell[1] * height)


def _write_mark(axes: Axes, mark: Mark, points: float) -> None:
    """A mark in a cell whose shorter side has so many points."""
    face, ink, covers = mark.style
    if covers:
        axes.bar(mark.x, 1, 1, mark.y - 0.5, color=face, ec=PAPER, lw=0.5)
        size = min(0.42 * points, 20)
        axes.text(mark.x, mark.y, mark.text, color=ink, size=size, ha="center", va="center_baseline")
        return
    box = {"boxstyle": "round,pad=0.15", "fc": face, "ec": INK, "lw": 0.5}
    size = max(min(0.18 * points, 11), 5)
    axes.text(mark.x - 0.44, mark.y - 0.44, mark.text, color=ink, size=size, bbox=box, va="top")


def _label(axes: Axes, panel: Panel) -> None:
    """Extent, title, names of rows and columns."""
    axes.set(xlim=(-0.5, panel.shape[1] - 0.5), ylim=(panel.shape[0] - 0.5, -0.5))
    axes.set(xlabel=panel.labels[0], ylabel=panel.labels[1])
    size = min(12, _fitting(len(panel.title), panel.across, letter=0.56))
    axes.set_title(panel.title, size=size, color=INK, pad=7)
    for axis, names, inches in zip((axes.xaxis, axes.yaxis), panel.ticks, panel.cell, strict=True):
        step = int(np.ceil(0.25 / inches))
        axis.set_ticks(range(0, len(names), step), names[::step], size=9)
    axes.tick_params(length=0)
