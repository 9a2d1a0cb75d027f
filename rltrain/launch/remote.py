"""The launcher of a Ray cluster: hosts on its machines, each with a worker that trains one job after another.

Only the driver knows of groups and studies. A host that sees the driver's folder trains in it; from any other, all that
is new is brought to the driver. Either way a job whose machine is lost goes on elsewhere, from its last checkpoint.
"""

from __future__ import annotations

import json
import math
import secrets
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

from rltrain.cluster import NoCluster
from rltrain.core import RltrainError
from rltrain.launch.host import Greeting, Host, Told
from rltrain.launch.job import Event, Job, Losses, NextJob
from rltrain.launch.mirror import Mirror, apply
from rltrain.launch.processes import order_of, places
from rltrain.launch.slots import TICK_SECONDS, Heard, Slot, SlotLauncher
from rltrain.launch.worker import GRACE_SECONDS
from rltrain.records import SUMMARY
from rltrain.rundir import lock_run, write_atomic
from rltrain.sittings import what_runs

PATIENCE_SECONDS = 15.0
"""A job that has no machine for so long is told of."""
ENDED: dict[str, Any] = {"kind": "ended", "data": {"status": "interrupted"}}


class RemoteSlot(Slot):
    """The driver's side of a host: one call of it is under way at a time, and its answer is what there is to hear."""

    def __init__(self, ray: Any, host: Any, plugins: Sequence[str]) -> None:
        super().__init__()
        self._ray, self._host, self._plugins = ray, host, plugins
        self._greeting: Greeting | None = None
        self._off = False  # called off before there was a machine for it
        self._refused: str | None = None  # why its job cannot train
        self._since = time.monotonic()
        self._held = ExitStack()  # while the job trains in a folder of another machine, or that is not known yet
        self.answer: Any = None
        """What the host was asked last; None where it was not."""

    def begin(self, job: Job) -> None:
        """Train this, once it is known where."""
        self._off = False
        if self._greeting is not None:
            self._train(job)
        elif self.answer is None:
            mark = job.folder.absolute().parent / f".mark-{secrets.token_hex(8)}"
            mark.touch()
            self._held.callback(mark.unlink, missing_ok=True)
            self.answer = self._host.greet.remote(str(mark))

    def _train(self, job: Job) -> None:
        assert self._greeting is not None
        content = None
        if not self._greeting.shared:
            job.folder.mkdir(exist_ok=True)
            try:
                self._held.enter_context(lock_run(job.folder))
            except RltrainError as error:  # this job fails, the next is another
                self._refused = str(error)
                return
            content = Mirror(job.folder).changes()
        self.answer = self._host.begin.remote(order_of(job, self._plugins), content)

    def stop(self) -> None:
        """Have the job save and end."""
        self._call_off("stop")

    def cancel(self) -> None:
        """The same for this job alone."""
        self._call_off("cancel")

    def _call_off(self, what: str) -> None:
        if self._greeting is None:
            self._off = True
        else:
            self._host.order.remote(what)

    def hear(self) -> Heard:
        """What the host has answered."""
        if self._off and self.job is not None:
            return Heard([ENDED])
        if self._refused is not None:
            reason, self._refused = self._refused, None
            return Heard([{"kind": "failed", "data": {"reason": reason}}])
        if self.answer is None:
            return Heard()
        if not self._ray.wait([self.answer], timeout=0)[0]:
            return self._waiting()
        try:
            found, self.answer = self._ray.get(self.answer), None
        except self._ray.exceptions.RayTaskError as error:
            return self._lost(f"{self._where}: {str(error.cause) or type(error.cause).__name__}", machine=False)
        except self._ray.exceptions.RayError as error:
            why = "" if self._greeting is not None else f": {(str(error).strip() or 'no message').splitlines()[-1]}"
            return self._lost(f"{self._where} was lost{why}", machine=True)
        if isinstance(found, Greeting):
            return self._greeted(found)
        return Heard(end={}) if found is None else self._told(found)

    @property
    def _where(self) -> str:
        return "its machine" if self._greeting is None else f"machine {self._greeting.node}"

    def _waiting(self) -> Heard:
        if self._greeting is not None or time.monotonic() - self._since < PATIENCE_SECONDS:
            return Heard()
        self._since = math.inf
        return Heard([{"kind": "note", "data": {"text": "waits for a free CPU in the Ray cluster"}}])

    def _lost(self, reason: str, *, machine: bool) -> Heard:
        self.answer = None
        self._held.close()
        return Heard(end={"reason": reason, "lost": machine, "machine": machine})

    def _greeted(self, greeting: Greeting) -> Heard:
        """There is a machine: begin. Raises NoCluster where it would not do the same as this one."""
        here = what_runs()
        if odd := [name for name in here if greeting.versions.get(name) != here[name]]:
            told = ", ".join(f"{name} {greeting.versions.get(name)} (here: {here[name]})" for name in odd)
            raise NoCluster(f"machine {greeting.node} has {told}: install the same on every machine of the cluster")
        self._greeting = greeting
        self._held.close()
        if self.job is not None:
            self._train(self.job)
        return Heard()

    def _told(self, told: Told) -> Heard:
        events, end = told.heard
        assert self.job is not None
        if told.changes is not None:
            apply(self.job.folder, told.changes)
            _rename(self.job.folder)
        if end is not None or any(event["kind"] in ("ended", "failed") for event in events):
            self._held.close()
        else:
            self.answer = self._host.tell.remote()
        for event in events:
            if "run" in event["data"]:
                event["data"]["run"] = str(self.job.folder)
        return Heard(events, end)

    def dismiss(self) -> None:
        """Have the host save and end."""
        if self._greeting is None:
            self._ray.kill(self._host)
        elif self.answer is None or self.job is not None:
            self.answer = self._host.close.remote()

    def close(self) -> None:
        """Wait for that, and give the machine back."""
        self._held.close()
        if self.answer is not None and self._greeting is not None:
            self._ray.wait([self.answer], timeout=GRACE_SECONDS)
        with suppress(self._ray.exceptions.RayError):
            self._ray.kill(self._host)


def _rename(folder: Path) -> None:
    """A run's summary names its folder: not that of another machine."""
    with suppress(FileNotFoundError):
        summary = json.loads((folder / SUMMARY).read_bytes())
        if summary["run"] != str(folder):
            write_atomic(folder / SUMMARY, json.dumps(summary | {"run": str(folder)}, indent=2) + "\n")


class RayLauncher(SlotLauncher):
    """Runs jobs on the CPUs of a cluster, as many at once as there are, or as many as are wanted."""

    def __init__(self, ray: Any, workers: int | None = None, plugins: Sequence[str] = ()) -> None:
        self._ray, self._most, self._plugins = ray, workers, list(plugins)
        self._host = ray.remote(Host)
        if not self.workers:
            raise NoCluster("the Ray cluster has no CPU to train on")

    @property
    def workers(self) -> int:
        """Jobs at once on the machines that there are now."""
        cpus = int(self._ray.cluster_resources().get("CPU", 0))
        return cpus if self._most is None else min(self._most, cpus)

    def open(self, job: Job) -> Slot:
        """Ask for a CPU somewhere, and for a share of a GPU where one is wanted by name."""
        gpus = self._ray.cluster_resources().get("GPU", 0) if job.config.device == "cuda" else 0
        share = 1 / math.ceil(self.workers / gpus) if gpus else 0
        options = {"num_cpus": 1, "num_gpus": share, "scheduling_strategy": "SPREAD"}
        return RemoteSlot(self._ray, self._host.options(**options).remote(places(), str(Path.cwd())), self._plugins)

    def wait(self, slots: Sequence[Slot]) -> None:
        """Return when a host has answered."""
        answers = [slot.answer for slot in slots if isinstance(slot, RemoteSlot) and slot.answer is not None]
        if answers:
            self._ray.wait(answers, timeout=TICK_SECONDS)
        else:
            time.sleep(TICK_SECONDS)

    def run(
        self,
        next_job: NextJob,
        listen: Callable[[Event], None],
        interrupted: Callable[[], bool] = lambda: False,
        unwanted: Callable[[Job], bool] = lambda job: False,
    ) -> None:
        """Train every job; see `Launcher`. One whose machine is lost is begun again."""
        again = Again(next_job, listen)
        super().run(again.next_job, again, interrupted, unwanted)
        again.conclude()


class Again:
    """Between a launcher and those who want runs: a job whose machine was lost comes again, before others do."""

    def __init__(self, next_job: NextJob, listen: Callable[[Event], None]) -> None:
        self._next, self._listen = next_job, listen
        self._waiting = deque[Job]()
        self._losses = Losses()

    def next_job(self) -> Job | None:
        """A job that comes again, or another."""
        return self._waiting.popleft() if self._waiting else self._next()

    def __call__(self, event: Event) -> None:
        """Pass on what happened; of a machine that was lost a note is enough."""
        job, data = event.job, event.data
        if event.kind != "failed" or not data.get("machine"):
            self._listen(event)
        elif self._losses.again(job):
            self._waiting.append(job)
            self._listen(Event(job, "note", {"text": f"{job.folder.name}: {data['reason']}; it goes on elsewhere"}))
        else:
            self._listen(Event(job, "failed", {"reason": f"{data['reason']}, once too often"}))

    def conclude(self) -> None:
        """No job begins any more: those that still wait were interrupted."""
        for job in self._waiting:
            self._listen(Event(job, "ended", ENDED["data"]))
