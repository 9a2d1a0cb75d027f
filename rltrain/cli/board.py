"""The live table of a group: a row for each seed on a terminal, plain lines anywhere else."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Any

from rich.console import Group
from rich.live import Live
from rich.markup import escape
from rich.table import Table

from rltrain.cli.common import command
from rltrain.cli.display import LINE_SECONDS, Terminal
from rltrain.launch.group import MISSING
from rltrain.launch.group import Group as Seeds
from rltrain.launch.job import Event
from rltrain.launch.single import OUTPUT

COLORS = {"running": "cyan", "finished": "green", "failed": "red", "interrupted": "yellow", "waiting": "dim"}


@dataclass
class Row:
    """Where one seed is."""

    state: str = "waiting"
    step: int = 0
    rate: float = 0.0  # environment steps a second
    latest: float | None = None  # mean of the latest training returns
    score: float | None = None  # latest evaluation


def score_in(summary: Any) -> float | None:
    """What policies are compared by, out of a run's summary: the exact return where it is known."""
    value = summary.get("eval_exact_return", summary.get("eval_return"))
    return None if value is None else float(value)


class Board:
    """Listens to a launcher and shows the seeds of a group."""

    def __init__(self, group: Seeds, todo: list[int], *, quiet: bool) -> None:
        self._group = group
        self._total = group.config.train.total_steps
        self._quiet = quiet
        self._console = Terminal(highlight=False)
        self._notes: set[str] = set()
        self._began = self._printed = time.monotonic()
        self._rows = {seed: self._row(seed, seed in todo) for seed in group.seeds}
        on = not quiet and self._console.is_terminal
        self._live = Live(get_renderable=self._table, console=self._console, refresh_per_second=4) if on else None

    def _row(self, seed: int, todo: bool) -> Row:
        run = self._group.run(seed)
        told = (run.summary if run else None) or {}
        state = "waiting" if todo else str(told.get("status"))
        return Row(state, told.get("steps") or 0, score=score_in(told))

    def __enter__(self) -> Board:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def say(self, text: str) -> None:
        """Print a line, above the table."""
        if not self._quiet:
            self._console.print(escape(text), soft_wrap=True)

    def __call__(self, event: Event) -> None:
        """Take in what happened to a seed."""
        seed, data = event.job.config.seed, event.data
        row = self._rows[seed]
        if event.kind == "started":
            row.state = "running"
        elif event.kind == "progress":
            row.step, row.rate, row.latest = data["step"], data["rate"], data["return"]
            row.score = row.score if data["eval"] is None else data["eval"]
        elif event.kind == "note" and data["text"] not in self._notes:
            self._notes.add(data["text"])
            self.say(noted(data["text"]))
        elif event.kind in ("ended", "failed"):
            self._ended(seed, row, event)
        if self._live is None and time.monotonic() - self._printed >= LINE_SECONDS:
            self._printed = time.monotonic()
            self.say(self._so_far())

    def _ended(self, seed: int, row: Row, event: Event) -> None:
        row.state, row.rate = event.data.get("status", "failed"), 0.0
        if event.kind == "failed":
            self._failed(seed, event.data["reason"])
            return
        row.step, row.score = event.data.get("steps", row.step), score_in(event.data)
        if self._live is None and "seconds" in event.data:
            score = "" if row.score is None else f", eval {row.score:.5g}"
            self.say(f"seed {seed} {row.state} at step {row.step:,} after {event.data['seconds']:.1f} s{score}")

    def _failed(self, seed: int, reason: str | None) -> None:
        run = self._group.run(seed)
        output = None if run is None else run.folder / OUTPUT  # a traceback may be in it
        more = f" (see {output})" if output is not None and output.exists() else ""
        self.say(f"seed {seed} failed: {reason}{more}")

    def _so_far(self) -> str:
        """All seeds in one line."""
        rows = list(self._rows.values())
        states = [f"{count} {state}" for state in COLORS if (count := sum(row.state == state for row in rows))]
        parts = [", ".join(states)]
        scores = [row.score for row in rows if row.score is not None]
        if scores:
            parts.append(f"mean eval {sum(scores) / len(scores):.4g} of {len(scores)}")
        rate = sum(row.rate for row in rows)
        if rate:
            left = sum(self._total - row.step for row in rows if row.state in ("running", "waiting"))
            parts.append(f"{rate:,.0f} steps/s, eta {clock(left / rate)}")
        return "; ".join(parts)

    def _table(self) -> Group:
        """The rows that fit, those that run first, and the line of all."""
        table = Table(box=None, pad_edge=False, header_style="bold")
        for name in ("seed", "state"):
            table.add_column(name)
        for name in ("step", "%", "return", "eval", "steps/s", "eta"):
            table.add_column(name, justify="right")
        room = max(self._console.height - 5, 3)
        shown = sorted(sorted(self._rows, key=self._rank)[:room])
        for seed in shown:
            table.add_row(str(seed), *self._cells(self._rows[seed]))
        hidden = len(self._rows) - len(shown)
        more = [f"... and {hidden} more seeds"] if hidden else []
        return Group(table, *more, self._so_far())

    def _rank(self, seed: int) -> int:
        order = ("running", "failed", "interrupted", "waiting", "finished")
        state = self._rows[seed].state
        return order.index(state) if state in order else len(order)

    def _cells(self, row: Row) -> Iterator[str]:
        color = COLORS.get(row.state)
        yield f"[{color}]{row.state}[/]" if color else row.state
        yield f"{row.step:,}"
        yield f"{row.step / self._total:.0%}"
        yield "" if row.latest is None else f"{row.latest:.4g}"
        yield "" if row.score is None else f"{row.score:.4g}"
        yield f"{row.rate:,.0f}" if row.rate else ""
        yield clock((self._total - row.step) / row.rate) if row.rate else ""

    def conclude(self, summary: dict[str, Any]) -> None:
        """Say in two lines what the seeds came to, name those that failed, and say what to do next."""
        from rltrain.cli.across import across_line

        seconds, total = time.monotonic() - self._began, len(summary["seeds"])
        status = "" if summary["status"] == "finished" else f"{summary['status']}: "
        self.say(f"{status}{summary['n']} of {total} seeds finished, {seconds:.1f} s")
        over = summary["over_seeds"]
        name = "exact return" if over.get("eval_exact_return") else "eval return"
        if figures := over.get("eval_exact_return") or over.get("eval_return"):
            self.say(f"{name} {across_line(figures)}")
        for row in summary["seeds"]:
            if row["status"] == "failed":
                self._failed(row["seed"], row.get("reason"))
        open_ = [row for row in summary["seeds"] if row["status"] in ("failed", "interrupted", MISSING)]
        folder = self._group.folder
        if open_:
            self.say(f"do what is missing with: {command('train', '--resume', folder)}")
        else:
            self.say(f"next: {command('eval', folder)}   or: tensorboard --logdir {folder}")


def noted(text: str) -> str:
    """What a run wants to be known, as a line."""
    return text if text.startswith("warning") else f"note: {text}"


def clock(seconds: float) -> str:
    """Seconds as a clock shows them."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
