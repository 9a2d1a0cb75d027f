"""The driver of trials: jobs for a launcher, and what their events mean for the study.

Only the driver touches the study; those who train know nothing of it, so that they may be anywhere.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from rltrain.core import ConfigError, first_line
from rltrain.launch.group import Group
from rltrain.launch.job import Event, Job, Losses
from rltrain.records import RunRecord, Status
from rltrain.tuning.objective import NeverLogged, NoValue
from rltrain.tuning.study import Held, Study

WARM_UP = 0.25
"""Share of a run in which a trial is early: many learn nothing visible before their first updates."""
LOOK_SECONDS = 1.0
"""Time between two looks for trials that others have left, when there are no new ones."""


@dataclass
class Work:
    """A trial on its way."""

    held: Held
    group: Group
    state: str = "running"
    """running, complete, pruned, failed; interrupted where it goes on another time."""
    value: float | None = None
    """Its value, or the latest intermediate one."""
    running: set[int] = field(default_factory=set)
    finished: dict[int, float] = field(default_factory=dict)
    """Seed -> score."""
    reason: str | None = None
    began: float = field(default_factory=time.monotonic)
    ended: float | None = None

    @property
    def number(self) -> int:
        """The trial's number."""
        return self.held.number


class Tuner:
    """Gives a launcher the seeds of trials as jobs, and listens to what becomes of them."""

    def __init__(
        self, study: Study, together: int, changed: Callable[[Work], None], deadline: float | None = None
    ) -> None:
        """`together`: how many seeds of a trial can train at once; no trial begins after `deadline` (monotonic)."""
        self.study = study
        self._together = max(1, min(together, len(study.seeds)))
        self._changed = changed
        self._deadline = deadline
        self._open: dict[int, Work] = {}
        self._waiting: deque[Job] = deque()
        self._look = 0.0
        self._losses = Losses()
        self.hopeless: str | None = None
        """Why no trial will have a value; then none begins, and those that train end."""

    def next_job(self) -> Job | None:
        """The next seed of a trial that is open, or the first one of another trial."""
        while self.hopeless is None and not self._waiting and time.monotonic() >= self._look:
            late = self._deadline is not None and time.monotonic() >= self._deadline
            if (held := self.study.take(new=not late)) is None:
                self._look = time.monotonic() + LOOK_SECONDS
                break
            self._start(held)
        return self._waiting.popleft() if self._waiting and self.hopeless is None else None

    def _start(self, held: Held) -> None:
        try:
            config = self.study.space.config(held.values)
        except ConfigError as error:  # values that do not go together, of which each goes by itself
            self.study.fail(held, first_line(error))
            self.study.release(held)
            return
        group = Group.write(held.folder, config, self.study.seeds)
        work = self._open[held.number] = Work(held, group)
        if misfit := self.study.space.misfits(config):
            self._end(work, "failed", misfit[0])
            return
        jobs = group.jobs()
        missing = {job.config.seed for job in jobs}
        for seed in group.seeds:
            if seed not in missing and not self._score(work, seed):
                return
        self._waiting.extend(jobs)
        self._changed(work)
        if not jobs:
            self._complete(work)

    def unwanted(self, job: Job) -> bool:
        """Whether a job's trial has ended without it."""
        work = self._of(job)
        return self.hopeless is not None or work is None or work.state != "running"

    def __call__(self, event: Event) -> None:
        """Take in what became of a seed."""
        work, seed = self._of(event.job), event.job.config.seed
        if work is None:
            return
        if event.kind == "started":
            work.running.add(seed)
        elif event.kind == "progress" and event.data["eval_step"] is not None:
            self._report(work)
        elif event.kind in ("ended", "failed"):
            work.running.discard(seed)
            self._settle(work, seed, event)
        self._changed(work)
        self._let_go(work)

    def _of(self, job: Job) -> Work | None:
        return next((work for work in self._open.values() if work.group.folder == job.folder.parent), None)

    def _settle(self, work: Work, seed: int, event: Event) -> None:
        """A seed's run has ended, one way or another."""
        if work.state != "running":
            return
        if event.kind == "failed" and event.data.get("lost") and self._losses.again(event.job):
            self._waiting.appendleft(event.job)
            return
        if event.kind == "failed":
            self._end(work, "failed", f"seed {seed}: {event.data['reason']}")
        elif event.data["status"] == Status.INTERRUPTED:
            self._waiting.append(event.job)  # goes on, unless everything stops
        elif self._score(work, seed):
            if len(work.finished) == len(work.group.seeds):
                self._complete(work)
            else:
                self._report(work)

    def _score(self, work: Work, seed: int) -> bool:
        """Take in a finished seed. Without a score the trial fails."""
        try:
            work.finished[seed] = self.study.objective.score(RunRecord(work.group.folder / f"seed-{seed}"))
        except NoValue as error:
            self._end(work, "failed", f"seed {seed}: {error}")
            if isinstance(error, NeverLogged) and not any(t.state.name == "COMPLETE" for t in self.study.trials()):
                self.hopeless = str(error)
            return False
        return True

    def _complete(self, work: Work) -> None:
        self._tell_shown(work)
        scores = {seed: work.finished[seed] for seed in work.group.seeds}
        work.value = self.study.objective.combine(list(scores.values()))
        self.study.complete(work.held, work.value, scores)
        self._close(work, "complete")

    def _report(self, work: Work) -> None:
        """Tell the study how the trial stands, and end it where that is too low."""
        if work.state == "running" and self._tell_shown(work):
            self.study.prune(work.held)
            self._close(work, "pruned")

    def _tell_shown(self, work: Work) -> bool:
        """Report what is new: means over the first k seeds at a step that all of them have reached.

        The step in the study is `(k - 1) * total_steps + step`: environment steps over seeds one after another. So a
        trial is only ever held against the same seeds at the same step of other trials. k goes in steps of as many
        seeds as train at once, since those are known together.
        """
        shown = [self.study.objective.shown(RunRecord(work.group.folder / f"seed-{seed}")) for seed in work.group.seeds]
        total, unfinished = work.group.config.train.total_steps, len(work.finished) < len(work.group.seeds)
        for count in [*range(self._together, len(shown), self._together), len(shown)]:
            for step in sorted(set.intersection(*(set(values) for values in shown[:count]))):
                at = (count - 1) * total + step
                if at in work.held.reported:
                    continue
                work.value = self.study.objective.combine([values[step] for values in shown[:count]])
                early = count == self._together and step < WARM_UP * total
                if self.study.report(work.held, at, work.value, early=early) and unfinished:
                    return True
        return False

    def _end(self, work: Work, state: str, reason: str) -> None:
        work.reason = reason
        self.study.fail(work.held, reason)
        self._close(work, state)

    def _close(self, work: Work, state: str) -> None:
        """The study knows; its seeds that have not begun do not, and those that train are unwanted."""
        work.state, work.ended = state, time.monotonic()
        self._waiting = deque(job for job in self._waiting if self._of(job) is not work)
        self._changed(work)
        self._let_go(work)

    def _let_go(self, work: Work) -> None:
        if work.state != "running" and not work.running and work.number in self._open:
            del self._open[work.number]
            work.group.conclude(aggregate=False)
            self.study.release(work.held)

    def leave(self) -> None:
        """Leave what is open as it is: it goes on another time, here or elsewhere."""
        for work in list(self._open.values()):
            if work.state == "running":
                work.state = "interrupted"
                self._changed(work)
            self._let_go(work)
