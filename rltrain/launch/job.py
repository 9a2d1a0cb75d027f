"""What is between those who want runs and whatever runs them: jobs go there, events come back.

A launcher trains every job that it is given, somewhere, and tells a listener what happens. It knows nothing of what the
jobs have in common: a group of seeds is one use of it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol, TypeAlias

from rltrain.config.schema import Config


class Job(NamedTuple):
    """One run that is wanted: begun in its folder, or gone on with where the folder is a run already."""

    config: Config
    folder: Path


class Event(NamedTuple):
    """Something that happened to a job.

    `data` is plain: for `progress` the `step`, the `rate` in environment steps a second, `return`, the mean of the
    latest training returns, `eval`, the latest score, and `eval_step`, where that was (None before there is one); every
    evaluation is told at once; for `note` a `text`; for `ended` the run's summary, whose status is finished or
    interrupted, or the status alone where it was interrupted before it had begun; for `failed` the `reason`, and
    whether it was `lost`: its process is no more, and the run can go on from where it was saved.
    """

    job: Job
    kind: Literal["started", "progress", "note", "ended", "failed"]
    data: Mapping[str, Any]


MAX_LOST = 5
"""A job that is lost more often than this, without a new checkpoint in between, is given up."""


class Losses:
    """How often jobs were lost by no fault of theirs, such as the end of their process."""

    def __init__(self) -> None:
        self._counts: dict[Path, tuple[str, int]] = {}  # folder -> its newest checkpoint, and how often lost with that

    def again(self, job: Job) -> bool:
        """Note a loss; whether the job should be begun again."""
        saved = max((path.name for path in job.folder.glob("checkpoints/step-*")), default="")
        before, count = self._counts.get(job.folder, ("", 0))
        count = count + 1 if saved == before else 1
        self._counts[job.folder] = (saved, count)
        return count <= MAX_LOST


NextJob: TypeAlias = Callable[[], Job | None]
"""Asked whenever there is room for a job; None where there is none for now."""


def in_turn(jobs: Sequence[Job]) -> NextJob:
    """These jobs, one after another."""
    waiting = deque(jobs)
    return lambda: waiting.popleft() if waiting else None


class Launcher(Protocol):
    """Runs jobs. A job that fails, in whatever way, is an event, and the others go on."""

    @property
    def workers(self) -> int:
        """Jobs at once."""

    def run(
        self,
        next_job: NextJob,
        listen: Callable[[Event], None],
        interrupted: Callable[[], bool] = lambda: False,
        unwanted: Callable[[Job], bool] = lambda job: False,
    ) -> None:
        """Return when every job has ended or failed and there is none to begin.

        Once `interrupted`, none begins, and those that train save and end; so does one that is `unwanted`, by itself.
        """
