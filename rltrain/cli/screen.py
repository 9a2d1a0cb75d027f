"""What several groups at once, or the trials of a study, look like on a terminal: a live table, or plain lines."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from types import TracebackType

from rich.console import Group
from rich.live import Live
from rich.markup import escape
from rich.table import Table

from rltrain.cli.board import clock, noted, score_in
from rltrain.cli.display import LINE_SECONDS, Terminal
from rltrain.launch.group import Group as Seeds
from rltrain.launch.job import Event

COLORS = {
    "running": "cyan",
    "complete": "green",
    "finished": "green",
    "failed": "red",
    "pruned": "magenta",
    "interrupted": "yellow",
    "waiting": "dim",
}
TEXTS = ("settings",)
"""Columns that are no numbers."""
Cells = Sequence[str]


class Screen:
    """Lines above, a table below that follows what happens; without a terminal only the lines."""

    def __init__(self, heads: Sequence[str], rows: Callable[[int], list[Cells]], line: Callable[[], str], quiet: bool):
        """`rows` gives as many rows as it is told that there is room for, `line` the line below them."""
        self.heads, self.rows, self.line = heads, rows, line
        self._quiet = quiet
        self._console = Terminal(highlight=False)
        self.live = not quiet and self._console.is_terminal
        self._live = Live(get_renderable=self._table, console=self._console, refresh_per_second=4)
        self._printed = time.monotonic()
        self._notes: set[str] = set()

    def start(self) -> None:
        """Show the table, where there is a terminal."""
        if self.live:
            self._live.start()

    def stop(self) -> None:
        """Leave the table as it is."""
        if self.live:
            self._live.stop()

    def say(self, text: str) -> None:
        """Print a line, above the table."""
        if not self._quiet:
            self._console.print(escape(text), soft_wrap=True)

    def note(self, text: str) -> None:
        """Say once what runs want to be known."""
        if text not in self._notes:
            self._notes.add(text)
            self.say(noted(text))

    def pulse(self) -> None:
        """Without a table, say now and then how it goes."""
        if not self.live and time.monotonic() - self._printed >= LINE_SECONDS:
            self._printed = time.monotonic()
            self.say(self.line())

    def _table(self) -> Group:
        table = Table(box=None, pad_edge=False, header_style="bold")
        for index, name in enumerate(self.heads):
            table.add_column(name, justify="left" if index < 2 or name in TEXTS else "right", no_wrap=True)
        for cells in self.rows(max(self._console.height - 5, 3)):
            color = COLORS.get(cells[1], "default")
            table.add_row(escape(cells[0]), f"[{color}]{escape(cells[1])}[/]", *map(escape, cells[2:]))
        return Group(table, escape(self.line()))


class GroupsBoard:
    """Listens to a launcher that trains several groups: a row for each."""

    def __init__(self, names: Sequence[str], groups: Sequence[Seeds], *, quiet: bool) -> None:
        self._groups = dict(zip(names, groups, strict=True))
        self._name_of = {group.folder: name for name, group in self._groups.items()}
        self._scores: dict[str, dict[int, float | None]] = {name: {} for name in names}
        self._running: dict[str, set[int]] = {name: set() for name in names}
        self._failed: dict[str, set[int]] = {name: set() for name in names}
        for name, group in self._groups.items():
            for seed in group.seeds:
                if (run := group.run(seed)) is not None and run.summary and run.summary["status"] == "finished":
                    self._scores[name][seed] = score_in(run.summary)
        self._todo = sum(len(group.seeds) for group in groups) - sum(map(len, self._scores.values()))
        self._done, self._began = 0, time.monotonic()
        self.screen = Screen(("group", "state", "seeds", "mean eval"), self._rows, self._line, quiet)
        self.say = self.screen.say

    def __enter__(self) -> GroupsBoard:
        self.screen.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.screen.stop()

    def __call__(self, event: Event) -> None:
        """Take in what happened to a seed."""
        name, seed = self._name_of[event.job.folder.parent], event.job.config.seed
        if event.kind == "started":
            self._running[name].add(seed)
        elif event.kind == "note":
            self.screen.note(event.data["text"])
        elif event.kind == "failed":
            self._failed[name].add(seed)
            self.screen.say(f"{name} seed {seed} failed: {event.data['reason']}")
        elif event.kind == "ended" and event.data["status"] == "finished":
            self._scores[name][seed] = score_in(event.data)
        if event.kind in ("ended", "failed"):
            self._running[name].discard(seed)
            self._done += 1
            if len(self._scores[name]) == len(self._groups[name].seeds) and not self.screen.live:
                self.screen.say(f"{name}: {' '.join(self._cells(name)[2:])}")
        self.screen.pulse()

    def _cells(self, name: str) -> Cells:
        known = [score for score in self._scores[name].values() if score is not None]
        total, done = len(self._groups[name].seeds), len(self._scores[name])
        state = "running" if self._running[name] else "finished" if done == total else "waiting"
        state = "failed" if self._failed[name] and not self._running[name] else state
        return (name, state, f"{done}/{total}", f"{sum(known) / len(known):.4g}" if known else "")

    def _rows(self, room: int) -> list[Cells]:
        rows = [self._cells(name) for name in self._groups]
        order = ("running", "failed", "waiting", "finished")
        shown = sorted(sorted(range(len(rows)), key=lambda index: order.index(rows[index][1]))[:room])
        return [rows[index] for index in shown]

    def _line(self) -> str:
        left = self._todo - self._done
        text = f"{sum(map(len, self._scores.values()))} of {sum(len(g.seeds) for g in self._groups.values())} seeds"
        if self._done and left:
            text += f", eta {clock((time.monotonic() - self._began) / self._done * left)}"
        return text
