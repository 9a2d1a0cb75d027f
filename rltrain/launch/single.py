"""One run in its folder, the same whether it is alone or one of many: begin or go on, train, leave a summary."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

from rltrain import checkpoint
from rltrain.config.schema import Config
from rltrain.core import ConfigError, RltrainError
from rltrain.experiment import Run, Summary
from rltrain.logger import METRICS, read_metrics
from rltrain.loop import Callback
from rltrain.records import SUMMARY
from rltrain.rundir import write_atomic


class Watcher(Callback, Protocol):
    """Something that shows how a run goes."""

    def watch(self, run: Run) -> None:
        """The run stands and is about to train."""


def newest_checkpoint(folder: Path, config: Config, warn: Callable[[str], None]) -> checkpoint.Checkpoint | None:
    """What a run goes on from; None where nothing was saved yet. A damaged one is set aside with a warning.

    Raises ConfigError where the run is further than it should train.
    """
    saved = checkpoint.newest(
        folder / "checkpoints", on_corrupt=lambda path, why: warn(f"warning: {path}: {why}; set aside")
    )
    if saved is not None and saved.step > config.train.total_steps:
        raise ConfigError(f"train.total_steps: the run is at step {saved.step:,} already")
    return saved


def train_run(
    config: Config,
    folder: Path,
    watcher: Watcher,
    interrupted: Callable[[], bool],
    *,
    resuming: bool = False,
    saved: checkpoint.Checkpoint | None = None,
) -> Summary:
    """Train in a folder that the caller has locked; with `resuming`, from `saved` or from nothing.

    An error is written to the run's summary and raised.
    """
    (folder / SUMMARY).unlink(missing_ok=True)  # it told of the sitting before
    try:
        run = Run(config, folder, [watcher])
        try:
            if resuming:
                run.resume(saved)
            watcher.watch(run)
            return run.train(interrupted)
        finally:
            run.close()
    except Exception as error:
        with suppress(OSError):  # a full disk has the first word
            write_failure(config, folder, reason_of(error))
        raise


def reason_of(error: Exception) -> str:
    """An error in one line."""
    text = (str(error).strip() or "no message").splitlines()[0]
    return text if isinstance(error, RltrainError) else f"{type(error).__name__}: {text}"


def write_failure(config: Config, folder: Path, reason: str) -> None:
    """Leave a summary in a run that failed: what it was, and why it is no more."""
    settings: Any = config
    entries = read_metrics(folder) if (folder / METRICS).exists() else []
    summary = {
        "run": str(folder),
        "status": "failed",
        "reason": reason,
        "env": config.env.id,
        "agent": settings.agent.name,
        "seed": config.seed,
        "steps": entries[-1]["step"] if entries else 0,
    }
    write_atomic(folder / SUMMARY, json.dumps(summary, indent=2) + "\n")
