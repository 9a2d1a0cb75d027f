"""What `rltrain tune` shows: its trials, and then the groups that confirm the best of them."""

from __future__ import annotations

import time
from collections.abc import Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any

from rltrain.cli.board import clock
from rltrain.cli.common import command
from rltrain.cli.screen import Cells, GroupsBoard, Screen
from rltrain.launch.group import Group
from rltrain.launch.job import Event
from rltrain.tuning.results import values_text

if TYPE_CHECKING:
    from rltrain.tuning.study import Study
    from rltrain.tuning.tuner import Work

LOOK_SECONDS = 5.0
"""Time between two looks at what other processes have done."""


class TrialBoard:
    """Shows the trials of a study, and then how its best are confirmed."""

    def __init__(self, study: Study, again: str, *, quiet: bool) -> None:
        """`again` is the command that goes on with the study."""
        self._study, self._again, self._quiet = study, again, quiet
        self._works: dict[int, Work] = {}
        self._counted: dict[int, str] = {}  # of every process
        self._told_of: dict[int, str] = {}  # of this one
        self._best: tuple[float, int] | None = None
        self._done_before = 0
        self._began = self._looked = time.monotonic()
        self._groups: GroupsBoard | None = None
        self._screen = Screen(("trial", "state", "value", "seeds", "time", "settings"), self._rows, self._line, quiet)
        self.say = self._screen.say

    def __enter__(self) -> TrialBoard:
        self._screen.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        (self._groups.screen if self._groups else self._screen).stop()

    def begin(self, workers: int) -> None:
        """Say what is about to be done."""
        study, tune = self._study, self._study.tune
        self._count()
        done = self._done_before = self._done
        self.say(
            f"study {study.name}: {study.budget} trials of {len(study.seeds)} seeds, {done} done; {tune.sampler}, "
            f"pruner {tune.pruner}, {study.objective.name}, workers: {workers}"
        )
        self.say(f"study folder: {study.folder}, storage: {study.store.shown}")

    def _count(self) -> None:
        """Take in what other processes have done."""
        from rltrain.tuning.results import state_of

        self._looked = time.monotonic()
        for trial in self._study.trials():
            self._counted[trial.number] = state_of(trial)
            if trial.state.name == "COMPLETE" and trial.value is not None:
                self._take_best(trial.value, trial.number)

    @property
    def _done(self) -> int:
        return sum(state not in ("running", "interrupted") for state in self._counted.values())

    def _take_best(self, value: float, number: int) -> None:
        if self._best is None or self._study.objective.better(value, self._best[0]):
            self._best = (value, number)

    def __call__(self, work: Work) -> None:
        """Take in how a trial goes."""
        if time.monotonic() - self._looked >= LOOK_SECONDS:
            self._count()
        fresh = self._told_of.get(work.number) != work.state
        self._works[work.number] = work
        self._counted[work.number] = self._told_of[work.number] = work.state
        if fresh and work.state in ("complete", "pruned", "failed"):
            if work.state == "complete" and work.value is not None:
                self._take_best(work.value, work.number)
            if not self._screen.live or work.state == "failed":
                self.say(self._told(work))
        self._screen.pulse()

    def _told(self, work: Work) -> str:
        """A trial that has ended, in a line."""
        value = "" if work.value is None else f" {work.value:.5g}"
        why = f": {work.reason}" if work.reason else ""
        return f"trial {work.number} {work.state}{value}{why} ({values_text(work.held.values)}); {self._line()}"

    def _rows(self, room: int) -> list[Cells]:
        works = sorted(self._works.values(), key=lambda work: (work.state != "running", -work.number))[:room]
        rows: list[Cells] = []
        for work in sorted(works, key=lambda work: work.number):
            seeds = f"{len(work.finished)}/{len(work.group.seeds)}"
            value = "" if work.value is None else f"{work.value:.5g}"
            seconds = (work.ended or time.monotonic()) - work.began
            best = " *" if self._best is not None and self._best[1] == work.number else ""
            rows.append(
                (f"{work.number}{best}", work.state, value, seeds, clock(seconds), values_text(work.held.values))
            )
        return rows

    def _line(self) -> str:
        done = self._done
        parts = [f"{done} of {self._study.budget} trials"]
        if self._best is not None:
            parts.append(f"best {self._best[0]:.5g} (trial {self._best[1]})")
        left = self._study.budget - done
        if done > self._done_before and left > 0:
            parts.append(f"eta {clock((time.monotonic() - self._began) / (done - self._done_before) * left)}")
        return ", ".join(parts)

    def confirming(self, names: Sequence[str], groups: Sequence[Group]) -> None:
        """From now on show the groups that confirm."""
        if not groups:
            return
        self._screen.stop()
        self.say(f"{self._line()}; confirming {', '.join(names)} on {len(groups[0].seeds)} fresh seeds")
        self._groups = GroupsBoard(names, groups, quiet=self._quiet)
        self._groups.screen.start()

    def listen(self, event: Event) -> None:
        """Take in what happened to a seed: of a group that confirms, or of a trial, whose figures a `Tuner` knows."""
        if self._groups is not None:
            self._groups(event)
        elif event.kind == "note":
            self._screen.note(event.data["text"])

    def conclude(self, summary: dict[str, Any]) -> None:
        """Say what the study came to, and what to do next."""
        from rltrain.tuning.results import BEST, TRIALS

        seconds, folder = time.monotonic() - self._began, self._study.folder
        states = ", ".join(f"{count} {state}" for state, count in summary["trials"].items())
        self.say(f"{summary['status']}: {states or 'no trials'}; {seconds:.1f} s")
        if summary["best"] is not None:
            best = summary["best"]
            self.say(f"best in the study: trial {best['trial']}, {best['value']:.5g} ({values_text(best['values'])})")
        for each in (*summary["confirmed"], *filter(None, [summary["as_it_stands"]])):
            self.say(_confirmed_line(each))
        if summary["status"] == "finished" and summary["confirmed"]:
            self.say(f"chosen: trial {summary['chosen']}; {summary['verdict']}")
        if summary["status"] in ("interrupted", "running elsewhere"):
            self.say(f"go on with: {self._again}")
        if summary["status"] == "finished":
            self.say(f"next: {command('train', folder / BEST)}   all trials: {folder / TRIALS}")


def _confirmed_line(each: dict[str, Any]) -> str:
    name = "as it stands" if each["trial"] is None else f"trial {each['trial']}"
    figures = each["confirmed"]
    if figures is None:
        return f"{name}: no value on fresh seeds"
    interval = "" if figures["low"] is None else f" [{figures['low']:.5g}, {figures['high']:.5g}]"
    curse = ""
    if each["winners_curse"] is not None:
        curse = f"; {each['tuned']:.5g} in the study, winner's curse {each['winners_curse']:+.4g}"
    missing = f", {each['missing']} missing" if each["missing"] else ""
    return f"{name}: {figures['value']:.5g}{interval} on {each['n']} fresh seeds{missing}{curse}"
