"""What every launcher does: jobs go to slots, one at a time each, and what becomes of them is told.

A slot is a process on this machine, or one on another. The end of a slot, whatever its cause, costs its job alone.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from rltrain.launch.job import Event, Job, NextJob

TICK_SECONDS = 0.1
"""How often to look for an interruption, and for slots that are no more."""


class Heard(NamedTuple):
    """What a slot has told since it was asked last."""

    events: Sequence[dict[str, Any]] = ()
    """Each with a `kind` and its `data`, as in `Event`."""
    end: dict[str, Any] | None = None
    """Where the slot is no more: the data of the event `failed` for the job that it had."""


class Slot(ABC):
    """A place in which one job at a time trains."""

    def __init__(self) -> None:
        self.job: Job | None = None
        self.cancelled = False
        """Its job was called off, and what comes after it is another."""
        self.dismissed = False
        """It takes no other job."""

    @abstractmethod
    def begin(self, job: Job) -> None:
        """Train this."""

    @abstractmethod
    def stop(self) -> None:
        """Have the job that it has save and end."""

    @abstractmethod
    def cancel(self) -> None:
        """The same, though it takes other jobs after it."""

    @abstractmethod
    def hear(self) -> Heard:
        """What it has told, without waiting."""

    @abstractmethod
    def dismiss(self) -> None:
        """Let it end once it has no job."""

    @abstractmethod
    def close(self) -> None:
        """Wait for its end, and free what it held."""


class SlotLauncher(ABC):
    """A `Launcher` over slots, as many at once as there is room for."""

    @property
    @abstractmethod
    def workers(self) -> int:
        """How many jobs there is room for."""

    @abstractmethod
    def open(self, job: Job) -> Slot:
        """Make a slot in which this job can train, and others like it."""

    @abstractmethod
    def wait(self, slots: Sequence[Slot]) -> None:
        """Return when one of these has something to tell, at the latest after a tick."""

    def run(
        self,
        next_job: NextJob,
        listen: Callable[[Event], None],
        interrupted: Callable[[], bool] = lambda: False,
        unwanted: Callable[[Job], bool] = lambda job: False,
    ) -> None:
        """Train every job; see `Launcher`."""
        slots, stopping = list[Slot](), False
        try:
            while True:
                if interrupted() and not stopping:
                    stopping = True
                    for slot in slots:
                        slot.stop()
                if not stopping:
                    self._assign(next_job, slots, listen)
                if all(slot.job is None for slot in slots):
                    break
                for slot in slots:
                    if slot.job is not None and not slot.cancelled and unwanted(slot.job):
                        slot.cancelled = True
                        slot.cancel()
                self.wait(slots)
                for slot in list(slots):
                    _attend(slot, slots, listen)
        finally:  # also when this is left by an error: who still trains saves first
            for slot in slots:
                _dismiss(slot)
            for slot in slots:
                slot.close()

    def _assign(self, next_job: NextJob, slots: list[Slot], listen: Callable[[Event], None]) -> None:
        """Give a job to every idle slot, and to new ones as long as there may be more."""
        while True:
            idle = next((slot for slot in slots if slot.job is None and not slot.dismissed), None)
            if idle is None and len(slots) >= self.workers:
                return
            if (job := next_job()) is None:
                break
            if idle is None:
                idle = self.open(job)
                slots.append(idle)
            idle.job, idle.cancelled = job, False
            idle.begin(job)
            listen(Event(job, "started", {}))
        for slot in slots:
            if slot.job is None:
                _dismiss(slot)  # nothing is left for it, for now: its memory is free while others train


def _dismiss(slot: Slot) -> None:
    slot.dismissed = True
    slot.dismiss()


def _attend(slot: Slot, slots: list[Slot], listen: Callable[[Event], None]) -> None:
    """Pass on what a slot tells, and notice when it is no more."""
    heard = slot.hear()
    for event in heard.events:
        job, kind, data = slot.job, event["kind"], event["data"]
        if job is not None:
            listen(Event(job, kind, data))
        if kind in ("ended", "failed"):
            slot.job = None
        if kind == "ended" and data["status"] == "interrupted" and not slot.cancelled:
            _dismiss(slot)  # told to stop, by us or by somebody else: it takes no other job
    if heard.end is not None:
        slots.remove(slot)
        slot.close()
        if slot.job is not None:
            listen(Event(slot.job, "failed", heard.end))
