"""A run against its log of an earlier time, entry by entry as they come."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from rltrain.config.schema import Config
from rltrain.core import Progress
from rltrain.differences import ABSENT, Unlike, differing, unlike
from rltrain.experiment import Run, device_name
from rltrain.logger import METRICS, log_lines
from rltrain.loop import Callback
from rltrain.records import RunRecord, Status
from rltrain.rundir import NoRun
from rltrain.sittings import platform_of


@dataclass(frozen=True)
class Original:
    """The run that is to come out again, as far as it is compared."""

    record: RunRecord
    lines: Sequence[bytes]
    """Entries of its log."""
    limit: int | None
    """Environment steps after which nothing is compared, where the run goes on there."""

    @classmethod
    def read(cls, folder: Path, config: Config, steps: int | None) -> Original:
        """The first `steps` of the run in `folder`, or all of it. Raises NoRun, or DamagedLog."""
        record = RunRecord(folder)
        entries = log_lines(folder)
        if config.train.stop.return_ is None:  # what an earlier sitting was stopped by
            entries = [(line, entry) for line, entry in entries if entry.keys() != {"step", "eval/return_confirmed"}]
        if not entries:
            raise NoRun(f"{folder}: nothing was logged yet, so that there is nothing to compare")
        limit = None if steps is None or steps >= record.standing.steps else steps
        lines = [line for line, entry in entries if limit is None or entry["step"] <= limit]
        if not lines:
            raise NoRun(f"{folder}: nothing was logged in the first {steps:,} steps")
        return cls(record, lines, limit)

    @cached_property
    def end(self) -> int | None:
        """The step at which it finished, with an evaluation; None where it did not, or is not compared so far."""
        finished = self.limit is None and self.record.status is Status.FINISHED
        return self.record.standing.steps if finished else None

    @property
    def earlier_ends(self) -> list[int]:
        """Steps at which it had finished, and was completed, before it was told to go on."""
        return [each["to_step"] for each in self.record.sittings[:-1] if each["status"] == Status.FINISHED]

    def ran_elsewhere(self, device: str) -> dict[str, list[Any]] | None:
        """Dotted name -> value in each sitting and here, of what differs; None where it was not recorded."""
        if not self.record.sittings:
            return None
        here = platform_of(device)
        return differing([*({part: each[part] for part in here} for each in self.record.sittings), here])


@dataclass
class _At:
    """Does something at one step of the loop, which pauses there for it."""

    every: int | None
    act: Callable[[], bool]

    def __call__(self, progress: Progress) -> bool:
        return progress.steps == self.every and self.act()


class Comparison:
    """Reads what a new run logs, and says when it need not go on."""

    every: int | None = None

    def __init__(self, original: Original, folder: Path) -> None:
        self.equal = 0  # entries
        self.figures = 0  # numbers in them
        self.unlike: Unlike | None = None
        self.step = 0  # of the last entry that was equal
        self._original = original
        self._path = folder / METRICS
        self._offset = 0
        self._run: Run | None = None

    def listeners(self) -> list[Callback]:
        """This, and what has to happen at certain steps."""
        end = self._original.end
        stops = [] if end is None else [_At(end, lambda: True)]
        return [*(_At(step, self._complete) for step in self._original.earlier_ends), *stops, self]

    def watch(self, run: Run) -> dict[str, list[Any]] | None:
        """Take note of the new run; says in what versions and machine it differs, as `Original.ran_elsewhere`."""
        self._run = run
        return self._original.ran_elsewhere(device_name(run.experiment.agent))

    def _complete(self) -> bool:
        """What happened at the end of a sitting."""
        assert self._run is not None
        self._run.complete()
        return False

    def __call__(self, progress: Progress) -> bool:
        """Compare what is new. True when it is decided."""
        self.read()
        return self.over

    @property
    def over(self) -> bool:
        """Whether nothing that is still to come would count."""
        if self.unlike is not None:
            return True
        whole = self._original.end is not None  # then one entry too many is a difference
        return not whole and self.equal == len(self._original.lines)

    @property
    def identical(self) -> bool:
        """Whether every entry came again, and no other."""
        return self.unlike is None and self.equal == len(self._original.lines)

    def conclude(self, *, stopped: bool) -> None:
        """Compare the last entries; what is missing is a difference, unless the new run was `stopped`."""
        self.read()
        lines = self._original.lines
        if self.unlike is None and not stopped and self.equal < len(lines):
            entry = json.loads(lines[self.equal])
            step = entry.pop("step")
            self.unlike = Unlike(step, {name: (value, ABSENT) for name, value in entry.items()})

    def read(self) -> None:
        """Compare what was logged since the last time."""
        if not self._path.exists():
            return
        with open(self._path, "rb") as file:
            file.seek(self._offset)
            new = file.read()
        whole = new[: new.rfind(b"\n") + 1]
        self._offset += len(whole)
        for line in whole.splitlines():
            if not self.over:
                self._compare(line)

    def _compare(self, line: bytes) -> None:
        lines = self._original.lines
        if self.equal == len(lines):
            entry = json.loads(line)
            step = entry.pop("step")
            self.unlike = Unlike(step, {name: (ABSENT, value) for name, value in entry.items()})
        elif (found := unlike(lines[self.equal], line)) is not None:
            self.unlike = found
        else:
            entry = json.loads(line)
            self.equal, self.step = self.equal + 1, entry["step"]
            self.figures += len(entry) - 1
