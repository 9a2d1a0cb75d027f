"""`rltrain plot`: learning curves as one SVG or PNG."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

from rltrain.core import ConfigError
from rltrain.report.figures import Series, draw_curves, drawing, legend, sheet
from rltrain.report.learning import CURVES, reading, series, title
from rltrain.report.methods import Method, all_tasks, metrics
from rltrain.rundir import write_atomic

PANEL = (400, 280)
"""Width and height of one panel in points."""
ALONE = (520, 350)
"""Of a single one."""


def plot(path: Path, methods: Sequence[Method], names: Sequence[str] = ()) -> str:
    """Write one figure: a row for each environment, a column for each metric. Returns how it is to be read.

    Without `names` the return of the greedy evaluations is drawn, or where there is none the return while training.
    Raises ConfigError for a metric that was never logged.
    """
    known = metrics(methods)
    if unknown := [name for name in names if name not in known]:
        raise ConfigError(f"--metric: '{unknown[0]}' was never logged; there are: {', '.join(known) or 'none'}")
    chosen = names or [name for name in CURVES if name in known][:1]
    if not chosen:
        raise ConfigError(f"nothing to plot: neither {' nor '.join(CURVES)} was logged")
    panels = [(task, name, series(methods, task, name)) for task in all_tasks(methods) for name in chosen]
    with drawing():
        write_atomic(path, _draw([panel for panel in panels if panel[2]], len(chosen), methods, path.suffix[1:]))
    return reading(methods, all_tasks(methods))


def _draw(panels: Sequence[tuple[str, str, list[Series]]], columns: int, methods: Sequence[Method], kind: str) -> bytes:
    columns = min(columns, len(panels))
    rows = -(-len(panels) // columns)
    width, height = (columns * PANEL[0], rows * PANEL[1]) if len(panels) > 1 else ALONE
    figure, grid = sheet(width, height + 24, rows, columns)
    for axes, (task, name, lines) in zip(grid, panels, strict=False):
        draw_curves(axes, lines, name)
        axes.set_title(f"{title(name)}, {task}", loc="left", size=11.5, weight="bold", pad=8)
    for axes in grid[len(panels) :]:
        axes.set_axis_off()
    legend(figure, [(f"{method.name} (n = {method.n})", method.look) for method in methods])
    buffer = io.BytesIO()
    figure.savefig(buffer, format=kind, facecolor="white", metadata={"Date": None} if kind == "svg" else None)
    return buffer.getvalue()
