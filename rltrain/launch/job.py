"""What is between those who want runs and whatever runs them: jobs go there, events come back.

A launcher trains every job that it is given, somewhere, and tells a listener what happens. It knows nothing of what the
jobs have in common: a group of seeds is one use of it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol

from rltrain.config.schema import Config


class Job(NamedTuple):
    """One run that is wanted: begun in its folder, or gone on with where the folder is a run already."""

    config: Config
    folder: Path


class Event(NamedTuple):
    """Something that happened to a job.

    `data` is plain: for `progress` the `step`, the `rate` in environment steps a second, `return`, the mean of the
    latest training returns, and `eval`, the latest score (both None before there is one); for `note` a `text`; for
    `ended` the run's summary, whose status is finished or interrupted, or the status alone where it was interrupted
    before it had begun; for `failed` the `reason`.
    """

    job: Job
    kind: Literal["started", "progress", "note", "ended", "failed"]
    data: Mapping[str, Any]


class Launcher(Protocol):
    """Runs jobs. A job that fails, in whatever way, is an event, and the others go on."""

    def run(
        self, jobs: Sequence[Job], listen: Callable[[Event], None], interrupted: Callable[[], bool] = lambda: False
    ) -> None:
        """Return when every job has ended or failed. Once `interrupted`, none begins, those that train save and end."""
