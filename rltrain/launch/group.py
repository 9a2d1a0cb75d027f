"""A group: one configuration on several seeds, a run for each, in one folder, and what they come to together."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rltrain.config.load import dump
from rltrain.config.schema import Config
from rltrain.config.seeds import seeds_text
from rltrain.launch.aggregate import across, write_aggregate
from rltrain.launch.job import Event, Job, Launcher, in_turn
from rltrain.records import SUMMARY, RunRecord, Status
from rltrain.rundir import GROUP, is_locked, is_run, write_atomic

MISSING = "missing"
"""Status of a seed that was not begun."""


@dataclass(frozen=True)
class Group:
    """The folder of a group and its configuration, `seeds` included."""

    folder: Path
    config: Config

    @classmethod
    def write(cls, folder: Path, config: Config, seeds: Sequence[int]) -> Group:
        """Make the folder a group of these seeds, or say that it is one of more, or of another length, now."""
        group = cls.of(folder, config, seeds)
        write_atomic(folder / GROUP, dump(group.config))
        return group

    @classmethod
    def of(cls, folder: Path, config: Config, seeds: Sequence[int]) -> Group:
        """The group of these seeds, with nothing written."""
        return cls(folder, config.model_copy(update={"seed": min(seeds), "seeds": seeds_text(seeds)}))

    @property
    def seeds(self) -> list[int]:
        """Its seeds, in order."""
        return self.config.group or []

    def run(self, seed: int) -> RunRecord | None:
        """The run of one seed, as it is on the disk now; None where it was not begun."""
        folder = self.folder / f"seed-{seed}"
        return RunRecord(folder) if is_run(folder) else None

    def jobs(self, *, all_seeds: bool = False) -> list[Job]:
        """What is missing: the runs that have not finished. With `all_seeds` the others too, which may train longer."""
        return [
            Job(self.config.single(seed), self.folder / f"seed-{seed}")
            for seed in self.seeds
            if all_seeds or (run := self.run(seed)) is None or run.status is not Status.FINISHED
        ]

    def train(
        self,
        jobs: Sequence[Job],
        launcher: Launcher,
        listen: Callable[[Event], None],
        interrupted: Callable[[], bool],
    ) -> dict[str, Any]:
        """Train these; write the group's summary, and its aggregate for TensorBoard. Returns the summary."""
        launcher.run(in_turn(jobs), recorded(listen), interrupted)
        return self.conclude()

    def conclude(self, *, aggregate: bool = True) -> dict[str, Any]:
        """Write what its runs come to now, and on demand the aggregate. Returns the summary."""
        summary = self.summary()
        write_atomic(self.folder / SUMMARY, json.dumps(summary, indent=2) + "\n")
        if aggregate:
            runs = [run for run in map(self.run, self.seeds) if run and run.status is Status.FINISHED]
            write_aggregate(self.folder, runs)
        return summary

    def summary(self) -> dict[str, Any]:
        """Every seed's outcome, and over the finished seeds what their figures come to."""
        rows = [self._row(seed) for seed in self.seeds]
        states = {row["status"] for row in rows}
        open_ = states & {Status.INTERRUPTED, Status.RUNNING, MISSING}
        finished = [row for row in rows if row["status"] == Status.FINISHED]
        settings: Any = self.config.agent
        names = [name for name in (finished[0] if finished else {}) if name.startswith("eval_")]
        return {
            "group": str(self.folder),
            "status": Status.INTERRUPTED if open_ else Status.FAILED if Status.FAILED in states else Status.FINISHED,
            "env": self.config.env.id,
            "agent": settings.name,
            "n": len(finished),
            "over_seeds": {name: across(name, finished) for name in names},
            "seeds": rows,
        }

    def _row(self, seed: int) -> dict[str, Any]:
        run = self.run(seed)
        if run is None:
            return {"seed": seed, "status": MISSING}
        told = {key: value for key, value in (run.summary or {}).items() if key not in ("env", "agent")}
        return {"seed": seed, "status": run.status} | told


def train_groups(
    groups: Sequence[Group], launcher: Launcher, listen: Callable[[Event], None], interrupted: Callable[[], bool]
) -> list[dict[str, Any]]:
    """Train what is missing of several groups, one after the other but without a break. Returns their summaries."""
    launcher.run(in_turn([job for group in groups for job in group.jobs()]), recorded(listen), interrupted)
    return [group.conclude() for group in groups]


def recorded(listen: Callable[[Event], None]) -> Callable[[Event], None]:
    """A listener that writes down in a run's folder what only the launcher knows, and then passes the event on."""

    def listening(event: Event) -> None:
        if event.kind == "started" and not is_locked(event.job.folder):
            (event.job.folder / SUMMARY).unlink(missing_ok=True)  # of an earlier sitting
        if event.kind == "failed":
            _keep_reason(event.job, event.data["reason"])
        listen(event)

    return listening


def _keep_reason(job: Job, reason: str) -> None:
    """Write what became of a run where it could not do so itself, as when its process was killed."""
    if (job.folder / SUMMARY).exists() or is_locked(job.folder):
        return
    job.folder.mkdir(parents=True, exist_ok=True)
    if not is_run(job.folder):
        write_atomic(job.folder / "config.yaml", dump(job.config))
    settings: Any = job.config
    summary = {
        "run": str(job.folder),
        "status": Status.FAILED,
        "reason": reason,
        "env": job.config.env.id,
        "agent": settings.agent.name,
        "seed": job.config.seed,
        "total_steps": job.config.train.total_steps,
        "steps": RunRecord(job.folder).standing.steps,
    }
    write_atomic(job.folder / SUMMARY, json.dumps(summary, indent=2) + "\n")
