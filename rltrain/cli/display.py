"""The live display of a training run: a progress bar on a terminal, plain lines anywhere else."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from rltrain.callbacks import score_of
from rltrain.cli.common import command
from rltrain.config.schema import Config
from rltrain.core import Progress as LoopProgress

if TYPE_CHECKING:
    from rltrain.experiment import Run

LINE_SECONDS = 5.0
"""Seconds between lines where there is no terminal."""


SHOWN = (
    ("loss", "train/loss"),
    ("epsilon", "exploration/epsilon"),
    ("temperature", "exploration/temperature"),
    ("coverage", "exploration/state_coverage"),
)
"""Metrics that are shown where they exist, and their labels."""
ON_LINES = (("success rate", "rollout/success_rate"), ("length", "rollout/length"))
"""Those that a bar of 80 columns has no room for."""


class Terminal(Console):
    """A console whose reader may go away: training goes on, unseen."""

    def on_broken_pipe(self) -> None:
        """Rich would end the program."""
        self.quiet = True
        nothing = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nothing, sys.stdout.fileno())  # also for what its buffer still has, and for who else prints
        os.close(nothing)


class Display:
    """A listener of the training loop that prints; it changes nothing and costs next to nothing."""

    every: int | None = None

    def __init__(self, config: Config, folder: Path, *, quiet: bool) -> None:
        self._config = config
        self._folder = folder
        self._quiet = quiet
        self._console = Terminal(highlight=False)
        self._live = not quiet and self._console.is_terminal
        self._bar: Progress | None = None
        self._task: Any = None
        self._run: Run | None = None
        self._printed = time.monotonic()
        self._began = (time.monotonic(), 0)
        self._returns: list[float] = []

    def __enter__(self) -> Display:
        if not self._quiet:
            name = self._config.agent.name  # type: ignore[attr-defined]
            total = self._config.train.total_steps
            self._print(f"{name} on {self._config.env.id}, {total:,} steps, seed {self._config.seed}")
            self._print(f"run folder: {self._folder}")
        if self._live:
            columns = (  # fits into 80 columns
                BarColumn(bar_width=8),
                TextColumn("{task.percentage:>3.0f}%"),
                TimeRemainingColumn(compact=True),
                TextColumn("{task.fields[text]}"),
            )
            self._bar = Progress(*columns, console=self._console, refresh_per_second=4)
            self._task = self._bar.add_task("", total=self._config.train.total_steps, text="")
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def watch(self, run: Run) -> None:
        """Take figures from this run."""
        self._run = run
        self._began = (time.monotonic(), run.step)
        self._printed = time.monotonic()  # a rate of the first steps, which load and compile, would mislead
        for note in (run.experiment.note, *run.experiment.notes):
            if not self._quiet and note is not None:
                self._print(f"note: {note}")

    def __call__(self, progress: LoopProgress) -> bool:
        """Show where the run is."""
        self._returns = (self._returns + progress.returns)[-20:]
        if self._bar is not None:
            self._bar.update(self._task, completed=progress.steps, text=self._text(progress))
        elif not self._quiet and time.monotonic() - self._printed >= LINE_SECONDS:
            self._printed = time.monotonic()
            share = progress.steps / self._config.train.total_steps
            rate = self._rate(progress.steps)
            eta = (self._config.train.total_steps - progress.steps) / max(rate, 1e-9)
            self._print(f"step {progress.steps:,} ({share:.0%}), eta {eta:.0f} s, {self._text(progress)}")
        return False

    def _rate(self, step: int) -> float:
        began, first = self._began
        return (step - first) / max(time.monotonic() - began, 1e-9)

    def _text(self, progress: LoopProgress) -> str:
        parts = [f"{self._rate(progress.steps):,.0f}/s" if self._live else f"{self._rate(progress.steps):,.0f} steps/s"]
        if self._returns:
            parts.append(f"return {sum(self._returns) / len(self._returns):.4g}")
        latest = self._run.log.latest if self._run is not None else {}
        for label, name in SHOWN if self._live else (*ON_LINES, *SHOWN):
            if name in latest:
                parts.append(f"{label} {latest[name]:.3g}")
        if self._run is not None and self._run.evaluate.latest is not None:
            parts.append(f"eval {score_of(self._run.evaluate.latest):.4g}")
        return ", ".join(parts)

    def conclude(self, summary: dict[str, Any]) -> None:
        """Say how the run ended and what to do next."""
        if self._quiet:
            return
        exact, best = summary.get("eval_exact_return"), summary["best_return"]
        score, name = (summary["eval_return"], "eval return") if exact is None else (exact, "exact return")
        text = "" if score is None else f", {name} {score:.5g} (best {best:.5g} at step {summary['best_step']:,})"
        if summary["eval_success_rate"] is not None:
            text += f", success rate {summary['eval_success_rate']:.1%}"
        if summary["eval_length"] is not None:
            text += f", mean length {summary['eval_length']:.1f}"
        self._print(f"{summary['status']} at step {summary['steps']:,} after {summary['seconds']:.1f} s{text}")
        if summary["status"] == "interrupted":
            self._print(f"go on with: {command('train', '--resume', self._folder)}")
        else:
            self._print(f"next: {command('eval', self._folder)}   or: tensorboard --logdir {self._folder}")

    def _print(self, text: str) -> None:
        self._console.print(escape(text), soft_wrap=True)
