"""Plain tables for a terminal or a pipe, and numbers, ages and sizes in few characters."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Mapping, Sequence

Row = Mapping[str, str]


def terminal_width() -> int | None:
    """Columns of the terminal; None for a pipe or a file, where nothing has to fit."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def fitting(rows: Sequence[Row], columns: Sequence[str], droppable: Sequence[str], width: int | None) -> list[str]:
    """The columns that fit into `width`; of `droppable` the first goes first."""
    kept = list(columns)
    for name in droppable:
        if width is None or _total(rows, kept) <= width:
            break
        kept.remove(name)
    return kept


def lines(rows: Sequence[Row], columns: Sequence[str], *, right: Sequence[str], width: int | None) -> list[str]:
    """A line for the head and one for each row; the first column gives way where a line would be too long."""
    widths = _widths(rows, columns)
    if width is not None:
        widths[0] = max(8, widths[0] - max(0, _total(rows, columns) - width))
    text = []
    for row in ({name: name for name in columns}, *rows):
        cells = [_cut(row[columns[0]], widths[0]), *(row[name] for name in columns[1:])]
        aligned = [
            cell.rjust(size) if name in right else cell.ljust(size)
            for cell, size, name in zip(cells, widths, columns, strict=True)
        ]
        text.append("  ".join(aligned).rstrip())
    return text


def _widths(rows: Sequence[Row], columns: Sequence[str]) -> list[int]:
    return [max(len(name), *(len(row[name]) for row in rows)) for name in columns]


def _total(rows: Sequence[Row], columns: Sequence[str]) -> int:
    return sum(_widths(rows, columns)) + 2 * (len(columns) - 1)


def _cut(text: str, width: int) -> str:
    """The end of a text that is too long: the end of a path tells more than its beginning."""
    return text if len(text) <= width else "…" + text[len(text) - width + 1 :]


def age(seconds: float) -> str:
    """90 -> `90 s`, 7200 -> `2 h`: two or three digits at most, up to days."""
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{max(seconds, 0):.0f} s"


def size(count: float) -> str:
    """1200000 -> `1.2 MB`."""
    units = ["TB", "GB", "MB", "kB", "B"]
    while count >= 999.5 and len(units) > 1:
        count /= 1_000
        units.pop()
    return f"{count:.3g} {units[-1]}"


def figure(value: float | None) -> str:
    """A return in few digits; `-` where there is none."""
    return "-" if value is None else f"{value:.5g}"
