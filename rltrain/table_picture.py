"""Pictures of what a tabular agent learnt: values, greedy actions and visits, laid out as the environment is.

Legend for shapes: S states, A actions, K cells of one panel. Coordinates inside a panel are cells: x right, y down.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import gymnasium as gym
import numpy as np
from gymnasium.envs.toy_text import BlackjackEnv, CliffWalkingEnv, FrozenLakeEnv, TaxiEnv

from rltrain.core import Array

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Direction: TypeAlias = tuple[int, int] | str  # an arrow (rows down, columns right), or a letter
DOWN, UP, RIGHT, LEFT = (1, 0), (-1, 0), (0, 1), (0, -1)
ARROWS: dict[Direction, str] = {DOWN: "\u2b07", UP: "\u2b06", RIGHT: "\u27a1", LEFT: "\u2b05"}
DIRECTIONS: dict[type[gym.Env[Any, Any]], tuple[Direction, ...]] = {
    FrozenLakeEnv: (LEFT, DOWN, RIGHT, UP),
    CliffWalkingEnv: (UP, RIGHT, DOWN, LEFT),
    TaxiEnv: (DOWN, UP, RIGHT, LEFT, "P", "D"),
    BlackjackEnv: ("S", "H"),
}
DPI, MAX_STATES, SMALLEST_TEXT = 130, 200, 6.0  # rows of a plain matrix; points below which numbers are left out
GREY, HATCH, INK, PAPER, RED = "#e6e6e6", "#b4b4b4", "#16181d", "#ffffff", "#ff4f2e"
CELLS = {"H": (INK, PAPER), "C": (INK, PAPER), "G": ("#f59331", INK)}  # where no action is taken -> face, ink
CORNERS = {"S": (PAPER, INK), "landmark": (PAPER, INK), "passenger": (INK, PAPER), "destination": ("#f59331", INK)}
NEVER = "grey: never tried"
TOP, BOTTOM, SIDE, AXIS, BAR, HEAD, FOOT = 0.5, 0.14, 0.22, 0.42, 0.75, 0.55, 0.5  # inches around panels; of the page


@dataclass(frozen=True)
class Table:
    """A learnt table and the environment it belongs to."""

    q: Array  # (S, A) float64
    visits: Array | None  # (S, A) int64: how often each action was taken
    env: gym.Env[Any, Any]  # unwrapped; its map is read, nothing is stepped
    reachable: Array | None = None  # (S,) bool: an action can be taken here


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
    marks: Sequence[tuple[int, int, str, str]] = ()  # x, y, text, key of `CELLS` or `CORNERS`
    walls: Sequence[tuple[int, int]] = ()  # x, y: wall on the right of this cell
    ticks: tuple[Sequence[str], Sequence[str]] = ((), ())  # one a column, one a row
    labels: tuple[str, str] = ("", "")  # along x and y

    def inches(self) -> tuple[float, float, float, float, float]:
        """Space left of the cells, their width and height, and width and height of all."""
        axis, width, height = AXIS * bool(self.labels[0]), self.shape[1] * self.cell[0], self.shape[0] * self.cell[1]
        return SIDE + axis, width, height, 2 * SIDE + axis + width + BAR * bool(self.bar), TOP + height + BOTTOM + axis

    def polygons(self) -> Array:
        """Corners (K, 3 or 4, 2) of every triangle or cell, as x and y."""
        centres = np.array([(x, y) for y, x in np.ndindex(self.shape)])[:, None]
        if not self.triangles:
            return np.asarray(np.add(centres, [(-0.5, -0.5), (0.5, -0.5), (0.5, 0.5), (-0.5, 0.5)]))
        towards = np.array([(move[1], move[0]) for move in self.triangles], float) / 2
        across = towards[:, ::-1] * (-1, 1)
        triangles = np.stack([0 * towards, towards + across, towards - across], 1)  # (A, 3, 2)
        return np.asarray(centres[:, None] + triangles).reshape(-1, 3, 2)


def draw_table(path: Path, table: Table, *, title: str) -> None:
    """Write one PNG, whole or not at all. Equal tables give equal bytes. Raises OSError if it cannot be written."""
    import matplotlib.style
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    temporary = path.with_name(f".tmp-{path.name}")
    with matplotlib.style.context(["default", {"hatch.linewidth": 0.6}]):
        figure = Figure(dpi=DPI, facecolor=PAPER)
        _compose(figure, *layout(table), title)
        try:
            FigureCanvasAgg(figure).print_figure(temporary, format="png")
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)


def direction(env: gym.Env[Any, Any], action: int) -> Direction:
    """How an action is drawn: (rows down, columns right), or a letter; its number if the environment is not known."""
    return next((known[action] for kind, known in DIRECTIONS.items() if isinstance(env, kind)), str(action))


def layout(table: Table) -> tuple[list[list[Panel]], str]:
    """Columns of panels that suit the environment, and a line below; a matrix if env or shape is not known."""
    states, env = len(table.q), table.env
    if isinstance(env, FrozenLakeEnv) and states == np.size(env.desc):
        return _maze(table, np.asarray(env.desc).astype(str))
    if isinstance(env, CliffWalkingEnv) and states == np.prod(env.shape):
        letters = np.full(env.shape, "F")
        letters[-1] = ["S", *"C" * (env.shape[1] - 2), "G"]
        return _maze(table, letters)
    if isinstance(env, TaxiEnv) and states == 500:
        return _taxi(table, env)
    return _blackjack(table) if isinstance(env, BlackjackEnv) and states == 704 else _matrix(table)


def learnt(table: Table, taken: Array | None = None) -> tuple[Array, list[Direction], Array, Array]:
    """What there is to draw: only of states (S,) where an action can be `taken`, and of actions that were tried.

    Returns: V = max_a Q (S,), NaN if nothing was learnt; the lowest best action; Q (S, A) or NaN; (S, A) is it greedy?
    """
    flags = [flag[:, None] for flag in (taken, table.reachable) if flag is not None]
    flags += [] if table.visits is None else [table.visits > 0]
    known = np.all(np.broadcast_arrays(np.isfinite(table.q), *flags), axis=0)
    q = np.where(np.isfinite(table.q), table.q, -np.inf)
    best, somewhere = q.argmax(1), known.any(1)
    marked = (np.arange(q.shape[1]) == best[:, None]) & somewhere[:, None]
    glyphs = [direction(table.env, int(action)) for action in best]
    return np.where(somewhere, q.max(1), np.nan), glyphs, np.where(known, q, np.nan), marked


def _maze(table: Table, letters: Array) -> tuple[list[list[Panel]], str]:
    """V, Q of each action and visits on a map of letters (rows, columns)."""
    (rows, columns), wide = letters.shape, letters.shape[1] > 1.6 * letters.shape[0]
    size = min(1.3, 13.5 / columns if wide else 4.4 / max(rows, columns))
    values, glyphs, q, marked = learnt(table, ~np.isin(letters, list(CELLS)).ravel())
    marks = [(x, y, str(c), str(c)) for (y, x), c in np.ndenumerate(letters) if c in CELLS | CORNERS]
    cells = Panel("V and the greedy action", (rows, columns), (size, size), values, marks=marks)
    first = replace(cells, bar="V", limits=_limits(values), glyphs=glyphs)
    second = replace(cells, title="Q of each action (red: greedy)", bar="Q", limits=_limits(q), values=q.ravel())
    second = replace(second, marked=marked.ravel(), triangles=[direction(table.env, a) for a in range(q.shape[1])])
    visits = [] if table.visits is None else [replace(cells, title="Visits", bar="visits", values=table.visits.sum(1))]
    note = f"S start   ·   G goal   ·   {'C cliff' if (letters == 'C').any() else 'H hole'}   ·   {NEVER}"
    if wide:
        return [[first, second, *visits]], note
    size = (2 * rows * size + TOP + BOTTOM) / rows  # as high as the two others
    return [[first, *visits], [replace(second, cell=(size, size))]], note


def _taxi(table: Table, env: TaxiEnv) -> tuple[list[list[Panel]], str]:
    """V on the map: one panel for each place of the passenger (columns) and destination (rows)."""
    values, glyphs, _, _ = learnt(table)
    names = "RGYB"  # as the environment numbers them
    walls = [(x // 2, y) for y, x in np.argwhere(np.asarray(env.desc).astype(str)[1:-1, 1:-1] == "|")]
    cells = Panel("", (5, 5), (0.64, 0.64), values, limits=_limits(values), walls=walls)
    columns: list[list[Panel]] = [[] for _ in range(len(names) + 1)]
    for at, goal in np.ndindex(len(columns), len(names)):
        states = np.arange(25) * 20 + at * 4 + goal
        styles = {at: "passenger", goal: "destination"}
        marks = [(x, y, names[n], styles.get(n, "landmark")) for n, (y, x) in enumerate(env.locs)]
        title = f"passenger {f'at {names[at]}' if at < len(names) else 'in the taxi'}, going to {names[goal]}"
        panel = replace(cells, title=title, marks=marks, bar="V" if at == len(names) else "")
        columns[at].append(replace(panel, values=values[states], glyphs=[glyphs[s] for s in states]))
    return columns, f"P pick up   ·   D drop off   ·   black: passenger   ·   orange: destination   ·   {NEVER}"


def _blackjack(table: Table) -> tuple[list[list[Panel]], str]:
    """V and the greedy action, and visits below, without and with a usable ace; the player's sum goes up."""
    values, glyphs, _, _ = learnt(table)
    ticks = (["A", *map(str, range(2, 11))], [str(total) for total in range(21, 11, -1)])
    columns: list[list[Panel]] = []
    for ace, name in enumerate(("No usable ace", "Usable ace")):
        states = np.add.outer(np.arange(21, 11, -1) * 22, np.arange(1, 11) * 2).ravel() + ace
        cells = Panel(f"{name}: V and the greedy action", (10, 10), (0.66, 0.55), values[states], ticks=ticks)
        cells = replace(cells, labels=("dealer shows", "player's sum"))
        columns.append([replace(cells, bar="V", limits=_limits(values), glyphs=[glyphs[s] for s in states])])
        if table.visits is not None:
            columns[-1].append(
                replace(cells, title=f"{name}: visits", bar="visits", values=table.visits.sum(1)[states])
            )
    return columns, f"S stick   ·   H hit   ·   {NEVER}"


def _matrix(table: Table) -> tuple[list[list[Panel]], str]:
    """States (rows) by actions (columns), for an environment without a map."""
    states, actions = table.q.shape
    _, _, q, marked = learnt(table)
    rows = np.linspace(0, states - 1, min(states, MAX_STATES)).round().astype(int)
    cell = (min(max(6 / actions, 0.12), 1.2), min(max(9 / len(rows), 0.06), 0.4))
    cells = Panel("Visits", (len(rows), actions), cell, q[rows].ravel(), "visits", labels=("action", "state"))
    cells = replace(cells, ticks=([str(action) for action in range(actions)], [str(row) for row in rows]))
    first = replace(cells, title="Q (red: greedy)", bar="Q", limits=_limits(q), marked=marked[rows].ravel())
    note = NEVER if len(rows) == states else f"{len(rows)} of {states} states, evenly chosen   ·   {NEVER}"
    return [[first], *([] if table.visits is None else [[replace(cells, values=table.visits[rows].ravel())]])], note


def _limits(values: Array) -> tuple[float, float]:
    """Ends of the colours: those of the values, but rare heavy punishments do not flatten everything else."""
    known = values[np.isfinite(values)] if np.isfinite(values).any() else np.array([0.0, 1.0])
    low, quarter, three, high = (float(q) for q in np.quantile(known, (0, 0.25, 0.75, 1)))
    if three > quarter:
        low = float(known[known >= quarter - 3 * (three - quarter)].min())  # Tukey's far-out fence
    return (low, high) if high > low else (low - 0.5, high + 0.5)


def number(value: float, largest: float) -> str:
    """As many decimals as a column with `largest` deserves; 12k from ten thousand, 12M from ten million on."""
    size, unit = next(((s, u) for s, u in ((1e6, "M"), (1e3, "k")) if abs(value) >= 10 * s), (1, ""))
    decimals = int(np.clip(2 - np.floor(np.log10(max(largest, 0.1))), 0, 2))
    return f"{value / size:.{decimals}f}{unit}".replace("-", "\u2212")


def _compose(figure: Figure, columns: list[list[Panel]], note: str, title: str) -> None:
    """Place every panel at its own size in inches, so that text can be fitted to cells."""
    widths = [max(panel.inches()[3] for panel in column) for column in columns]
    width, height = sum(widths), HEAD + FOOT + max(sum(panel.inches()[4] for panel in column) for column in columns)
    figure.set_size_inches(width, height)
    size = min(18.0, 72 * width / (0.72 * max(len(title), 1)))
    figure.suptitle(title, y=1 - 0.18 / height, size=size, color=INK, weight="bold")
    figure.text(0.5, 0.17 / height, note, size=min(11.0, 72 * width / (0.6 * len(note))), color=INK, ha="center")
    for index, column in enumerate(columns):
        y = height - HEAD
        for panel in column:
            left, across, down, _, used = panel.inches()
            x, bottom, y = sum(widths[:index]) + left, y - TOP - down, y - used
            colours = _draw(figure.add_axes((x / width, bottom / height, across / width, down / height)), panel)
            if panel.bar:
                place = ((x + across + 0.12) / width, bottom / height, 0.17 / width, down / height)
                form = None if panel.limits else lambda count, _: number(count, 1e3)
                bar = figure.colorbar(colours, cax=figure.add_axes(place), format=form)
                bar.minorticks_off()
                bar.ax.set_title(panel.bar, size=10, color=INK, pad=8)


def _draw(axes: Axes, panel: Panel) -> Any:
    """Everything inside one panel. Returns what maps values to colours."""
    from matplotlib import cm, collections, colors

    values = panel.values if panel.limits else np.where(panel.values > 0, panel.values, np.nan)
    known, corners, points = np.isfinite(values), panel.polygons(), 72 * min(panel.cell)
    centres, some = corners.mean(1, keepdims=True), values[known] if known.any() else np.ones(1)
    decade = 1 if panel.limits else 10 ** np.floor(np.log10(some.min()))
    low, high = panel.limits or (decade, max(some.max(), 10 * decade))
    norm, name = (colors.Normalize(low, high), "viridis") if panel.limits else (colors.LogNorm(low, high), "cividis")
    colours: Any = cm.ScalarMappable(norm, name)
    colours.cmap.colorbar_extend = "min" if some.min() < low else "neither"
    faces = colours.to_rgba(values)
    layers: list[Any] = [(corners[~known], GREY, HATCH, 0), (corners[known], faces[known], "none", 0)]
    layers += [(corners, "none", PAPER, min(0.7, points / 60))]
    if panel.triangles:  # an outline just inside
        layers += [((centres + 0.87 * (corners - centres))[panel.marked], "none", RED, min(1.6, points / 28))]
    elif panel.marked is not None:  # a bar at the left
        part = min(0.06 / panel.cell[0], 0.4)
        layers += [((centres + (corners - centres) * (part, 1) - (0.5 - part / 2, 0))[panel.marked], RED, "none", 0)]
    for shapes, face, edge, line in layers:
        style = {"facecolors": face, "edgecolors": edge, "linewidths": line, "hatch": "////" if edge == HATCH else None}
        axes.add_collection(collections.PolyCollection(shapes, **style))
    for x, y in panel.walls:
        axes.plot([x + 0.5] * 2, [y - 0.5, y + 0.5], color=INK, lw=5, solid_capstyle="butt")
    _write(axes, panel, np.where(known, values, np.nan), centres[:, 0], faces)
    axes.set(xlim=(-0.5, panel.shape[1] - 0.5), ylim=(panel.shape[0] - 0.5, -0.5))
    axes.set(xlabel=panel.labels[0], ylabel=panel.labels[1])
    axes.set_title(panel.title, size=min(12, 72 * panel.inches()[1] / (0.56 * len(panel.title))), color=INK, pad=7)
    for axis, names, inches in zip((axes.xaxis, axes.yaxis), panel.ticks, panel.cell, strict=True):
        step = int(np.ceil(0.25 / inches))
        axis.set_ticks(range(0, len(names), step), names[::step], size=9)
    axes.tick_params(length=0)
    return colours


def _write(axes: Axes, panel: Panel, values: Array, centres: Array, faces: Array) -> None:
    """Arrows, letters and numbers in the cells that were learnt, as far as they fit, and the marks."""
    known, cell = np.flatnonzero(np.isfinite(values)), 72 * min(panel.cell)
    largest = max(np.abs([*values[known], *(panel.limits or (1e3,))]))
    texts = [number(values[k], largest) for k in known]
    wide, high = (0.34, 0.2) if panel.triangles else (0.88, 0.25) if panel.glyphs else (0.8, 0.6)
    size = min(10.5, 72 * panel.cell[0] * wide / (0.63 * max(map(len, texts), default=1)), 72 * panel.cell[1] * high)
    lift = 0.12 * bool(panel.glyphs) * (size >= SMALLEST_TEXT)  # a glyph makes room for the number below it
    inks = np.where(faces[:, :3] @ (0.299, 0.587, 0.114) > 0.5, INK, PAPER)
    style: dict[str, Any] = {"ha": "center", "va": "center_baseline"}
    for k, text in zip(known.tolist(), texts, strict=True):
        x, y = centres[k] - 0.14 * (centres[k] - centres[k].round())  # off a triangle's edge
        if size >= SMALLEST_TEXT:
            axes.text(x, y + 2.6 * lift, text, color=inks[k], size=size, **style)
        for glyph in panel.glyphs[k : k + 1]:
            large = min(0.6 * cell, 32) if glyph in ARROWS else min(0.4 * cell, 16)
            axes.text(x, y - lift, ARROWS.get(glyph, str(glyph)), color=inks[k], size=large, weight="bold", **style)
    for x, y, text, key in panel.marks:
        face, ink = (CELLS | CORNERS)[key]
        if key in CELLS:
            axes.bar(x, 1, 1, y - 0.5, color=face, ec=PAPER, lw=0.5)
            axes.text(x, y, text, color=ink, size=min(0.42 * cell, 20), **style)
        else:
            box = {"boxstyle": "round,pad=0.15", "fc": face, "ec": INK, "lw": 0.5}
            axes.text(x - 0.44, y - 0.44, text, color=ink, size=max(min(0.18 * cell, 11), 5), bbox=box, va="top")
