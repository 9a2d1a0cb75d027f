"""What a page is made of: sections of blocks, plain data that the template knows how to show."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from rltrain.report.episodes import ShownEpisode
from rltrain.report.style import DASHES, Style, figure_number
from rltrain.statistics.intervals import Estimate

DASH = "\u2013"
"""Where there is nothing to say."""


@dataclass(frozen=True)
class Cell:
    """One entry of a table: text, or a number with its interval in full precision beside what is shown."""

    text: str
    value: float | None = None
    low: float | None = None
    high: float | None = None
    look: Style | None = None  # the line of the method that this row is about

    @property
    def interval(self) -> str:
        """The interval as it is shown, with as many decimals as the number."""
        if self.value is None or self.low is None or self.high is None:
            return ""
        scale = max(abs(self.value), abs(self.low), abs(self.high))
        return f"[{figure_number(self.low, scale)}, {figure_number(self.high, scale)}]"


def number(value: float | None, missing: str = DASH) -> Cell:
    """A number, or a dash where there is none."""
    return Cell(missing) if value is None else Cell(figure_number(value), float(value))


def estimate(found: Estimate | None) -> Cell:
    """A figure with its interval."""
    if found is None:
        return number(None)
    scale = max(abs(found.low or 0), abs(found.high or 0))
    return Cell(figure_number(found.value, scale), found.value, found.low, found.high)


@dataclass(frozen=True)
class Table:
    """Rows under a head; the first entry of a row names it."""

    kind: ClassVar[str] = "table"
    name: str
    caption: str
    head: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    note: str = ""

    @property
    def numeric(self) -> list[bool]:
        """Which columns hold nothing but numbers; the first never does."""
        columns = list(zip(*self.rows, strict=True))[1:]
        return [False, *(all(cell.value is not None or cell.text == DASH for cell in column) for column in columns)]


@dataclass(frozen=True)
class Plot:
    """One figure."""

    title: str
    svg: str
    note: str = ""


@dataclass(frozen=True)
class Plots:
    """Figures side by side where there is room, under one legend."""

    kind: ClassVar[str] = "plots"
    plots: Sequence[Plot]
    legend: Sequence[tuple[str, Style]] = ()
    note: str = ""
    small: bool = False
    wide: bool = False  # one below the other, each as wide as the page; a phone scrolls them sideways


@dataclass(frozen=True)
class Text:
    """Paragraphs; `tone` is `verdict`, `warning` or nothing."""

    kind: ClassVar[str] = "text"
    lines: Sequence[str]
    tone: str = ""


@dataclass(frozen=True)
class Listing:
    """Text that is read letter by letter, folded away."""

    kind: ClassVar[str] = "listing"
    title: str
    text: str


@dataclass(frozen=True)
class Commands:
    """What can be done next: what for, and the command."""

    kind: ClassVar[str] = "commands"
    lines: Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Picture:
    """A picture with what it shows."""

    kind: ClassVar[str] = "picture"
    title: str
    uri: str
    alt: str
    width: int  # of a screen's pixels, where there is room


@dataclass(frozen=True)
class Watch:
    """Episodes of one method."""

    kind: ClassVar[str] = "watch"
    title: str
    episodes: Sequence[ShownEpisode]
    note: str = ""


Block = Table | Plots | Text | Listing | Commands | Picture | Watch


@dataclass(frozen=True)
class Section:
    """A heading and what stands below it."""

    name: str
    title: str
    blocks: Sequence[Block] = field(default_factory=list)


def name_parts(name: str) -> list[str]:
    """Where a name may be broken between lines: after a dot, and after an underscore."""
    return re.split(r"(?<=[._])", name)


def dash_array(look: Style) -> str:
    """The dashes of a style, as SVG says them."""
    return " ".join(f"{length:g}" for length in DASHES[look.number % len(DASHES)]) or "none"
