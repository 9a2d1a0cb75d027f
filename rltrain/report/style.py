"""How figures look: colours that everyone can tell apart, a line style for each, and the way numbers are written."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

INK, FAINT, GRID, PAPER = "#1f2328", "#656d77", "#d5dae0", "#fefefe"
"""Text; axes and what explains; lines behind the data; behind a label that lies on lines."""
COLOURS = ("#0072b2", "#d55e00", "#007a5a", "#a8457f", "#9a6700", "#4a5568")
"""After Okabe and Ito 2008, https://jfly.uni-koeln.de/color/: told apart with any colour vision. Darker where they
would be less than 3 to 1 against white."""
DASHES: tuple[tuple[float, ...], ...] = ((), (6, 2.5), (1.6, 1.8), (7, 2, 1.6, 2), (10, 3, 3, 3))
"""Lengths of dashes and gaps in points; the first is a solid line."""
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
RC: dict[str, Any] = {
    "font.family": "sans-serif", "font.sans-serif": ["DejaVu Sans"], "font.size": 11,
    "text.color": INK, "axes.labelcolor": FAINT, "axes.edgecolor": FAINT, "xtick.color": FAINT, "ytick.color": FAINT,
    "xtick.labelcolor": INK, "ytick.labelcolor": INK, "axes.linewidth": 0.8, "axes.facecolor": "none",
    "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True, "axes.axisbelow": True,
    "grid.color": GRID, "grid.linewidth": 0.7, "lines.linewidth": 2.0, "legend.frameon": False,
    "svg.fonttype": "none", "svg.hashsalt": "rltrain", "path.simplify": True, "savefig.dpi": 160,
}  # fmt: skip
"""Settings of matplotlib, on top of its defaults, so that no file of the user's changes a figure."""


class Style(NamedTuple):
    """The look of one method, the same in every figure."""

    number: int
    colour: str
    dashes: tuple[float, ...]
    marker: str

    @property
    def line(self) -> Any:
        """The line style, as matplotlib takes it."""
        return (0, self.dashes) if self.dashes else "-"


def style(index: int) -> Style:
    """The look of the method of this number; colour and dashes repeat together only after 30."""
    return Style(index, COLOURS[index % len(COLOURS)], DASHES[index % len(DASHES)], MARKERS[index % len(MARKERS)])


def figure_number(value: float, beside: float = 0.0) -> str:
    """A number for people, with a comma at thousands and as many decimals as the greater of both deserves."""
    size = max(abs(value), abs(beside))
    if 0 < size < 0.01:
        text = f"{value:.2g}"
    else:
        text = f"{value:,.{0 if size >= 1000 else 1 if size >= 100 else 2 if size >= 10 else 3}f}"
    return text.replace("-", "\u2212")


def plain_number(value: float) -> str:
    """A number in a sentence: without the zeros that only a column needs."""
    text = figure_number(value)
    return text.rstrip("0").rstrip(".") if "." in text else text


def steps_label(steps: float, _: Any = None) -> str:
    """Environment steps at an axis: 500, 20k, 1.5M."""
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(steps) >= size:
            return f"{steps / size:.4g}{unit}"
    return f"{steps:.4g}"


def listed(names: Sequence[str]) -> str:
    """a, b and c."""
    return " and ".join([*([", ".join(names[:-1])] if names[:-1] else []), names[-1]])
