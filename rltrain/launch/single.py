"""One run in its folder, the same whether it is alone or one of many: begin or go on, and train."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from rltrain import checkpoint
from rltrain.config.schema import Config
from rltrain.core import ConfigError
from rltrain.envs.episode import EnvironmentFault
from rltrain.experiment import Run, Summary
from rltrain.loop import Callback

OUTPUT = "output.log"
"""What a run that is one of many prints, and the traceback of what ended a run in its environment."""


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
    """Train in a folder that the caller has locked; with `resuming`, from `saved` or from nothing."""
    try:
        run = Run(config, folder, [watcher])
        try:
            if resuming:
                run.resume(saved)
            watcher.watch(run)
            return run.train(interrupted)
        finally:
            run.close()
    except EnvironmentFault as error:
        _keep_traceback(error.__cause__, folder / OUTPUT, error)
        raise


def _keep_traceback(cause: BaseException | None, file: Path, error: Exception) -> None:
    """Write down what the environment raised, for whoever wrote it, and say where."""
    if cause is None or isinstance(cause, EnvironmentFault):
        return
    with suppress(OSError), file.open("a") as output:
        traceback.print_exception(cause, file=output)
        error.add_note(f"its traceback is in {file}")
