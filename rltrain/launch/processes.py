"""The launcher of one machine: worker processes, each of which trains one job after another.

A worker is a fresh interpreter, so that it does what the command does for a single run; it takes several jobs, since
imports and compiled code are then loaded once. The end of a worker, whatever its cause, costs its job alone.
"""

from __future__ import annotations

import json
import os
import selectors
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from rltrain.config.load import to_dict
from rltrain.launch.job import Event, Job, NextJob
from rltrain.sittings import usable_cores

TICK_SECONDS = 0.1
"""How often to look for an interruption, and for workers that are no more."""
COMMAND = (sys.executable, "-P", "-c", "from rltrain.launch.worker import main; main()")
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


class _Worker:
    """The parent's side of a worker process."""

    def __init__(self, selector: selectors.BaseSelector) -> None:
        self.job: Job | None = None
        self.cancelled = False
        self.dismissed = False
        self._rest = b""
        self._selector = selector
        places = os.pathsep.join(place or str(Path.cwd()) for place in sys.path)  # it finds what its parent finds
        environment = os.environ | dict.fromkeys(THREADS, "1") | {"PYTHONPATH": places}
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # Ctrl-C is its parent's business
        try:
            self.process = subprocess.Popen(
                COMMAND, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment, bufsize=0
            )
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self._input, self._output = self.process.stdin, self.process.stdout
        os.set_blocking(self._output.fileno(), False)
        selector.register(self._output, selectors.EVENT_READ)

    def order(self, what: Any) -> None:
        """Send a command. That nobody was there to hear it is told by `gone`."""
        with suppress(OSError, ValueError):
            self._input.write(json.dumps(what).encode() + b"\n")

    def cancel(self) -> None:
        """Have the job that it has save and end; a job that comes after it is another."""
        assert self.job is not None
        self.cancelled = True
        self.order({"cancel": str(self.job.folder)})

    def gone(self) -> bool:
        """Whether the process has ended."""
        return self.process.poll() is not None

    def events(self) -> list[dict[str, Any]]:
        """What it has told since it was asked last."""
        while True:
            try:
                data = self._output.read(1 << 16)
            except OSError:
                break
            if not data:  # nothing more for now, or for ever
                break
            self._rest += data
        *lines, self._rest = self._rest.split(b"\n")
        return [json.loads(line) for line in lines]

    def dismiss(self) -> None:
        """Let it end: without a job it does so at once."""
        self.dismissed = True
        with suppress(OSError):
            self._input.close()

    def bury(self) -> str:
        """Free what it held, once it has ended. Returns how it ended."""
        self._selector.unregister(self._output)
        self._output.close()
        self.dismiss()
        code = self.process.returncode
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        return f"its process {how}"


class ProcessLauncher:
    """Runs jobs on the cores of this machine, as many at once as there are workers."""

    def __init__(self, workers: int | None = None, plugins: Sequence[str] = ()) -> None:
        self.workers = workers or usable_cores()
        self._plugins = list(plugins)

    def run(
        self,
        next_job: NextJob,
        listen: Callable[[Event], None],
        interrupted: Callable[[], bool] = lambda: False,
        unwanted: Callable[[Job], bool] = lambda job: False,
    ) -> None:
        """Train every job; see `Launcher`."""
        workers, stopping = list[_Worker](), False
        with selectors.DefaultSelector() as selector:
            try:
                while True:
                    if interrupted() and not stopping:
                        stopping = True
                        for worker in workers:
                            worker.order("stop")
                    if not stopping:
                        self._assign(next_job, workers, selector, listen)
                    if all(worker.job is None for worker in workers):
                        break
                    for worker in workers:
                        if worker.job is not None and not worker.cancelled and unwanted(worker.job):
                            worker.cancel()
                    selector.select(TICK_SECONDS)
                    for worker in list(workers):
                        self._attend(worker, workers, listen)
            finally:  # also when this is left by an error: who still trains saves first
                for worker in workers:
                    worker.dismiss()
                for worker in workers:
                    worker.process.wait()
                    worker.bury()

    def _assign(
        self,
        next_job: NextJob,
        workers: list[_Worker],
        selector: selectors.BaseSelector,
        listen: Callable[[Event], None],
    ) -> None:
        """Give a job to every idle worker, and to new ones as long as there may be more."""
        while True:
            idle = next((worker for worker in workers if worker.job is None and not worker.dismissed), None)
            if idle is None and len(workers) >= self.workers:
                return
            if (job := next_job()) is None:
                break
            if idle is None:
                idle = _Worker(selector)
                workers.append(idle)
            idle.job, idle.cancelled = job, False
            order = {"config": to_dict(job.config), "folder": str(job.folder)}
            idle.order(order | {"plugins": self._plugins, "command": sys.argv})
            listen(Event(job, "started", {}))
        for worker in workers:
            if worker.job is None:
                worker.dismiss()  # nothing is left for it, for now: its memory is free while others train

    @staticmethod
    def _attend(worker: _Worker, workers: list[_Worker], listen: Callable[[Event], None]) -> None:
        """Pass on what a worker tells, and notice when it is no more."""
        gone = worker.gone()  # asked first: what it told before its end is read after
        for event in worker.events():
            job, kind, data = worker.job, event["kind"], event["data"]
            if job is not None:
                listen(Event(job, kind, data))
            if kind in ("ended", "failed"):
                worker.job = None
            if kind == "ended" and data["status"] == "interrupted" and not worker.cancelled:
                worker.dismiss()  # told to stop, by us or by somebody else: it takes no other job
        if gone:
            workers.remove(worker)
            end = worker.bury()
            if worker.job is not None:
                listen(Event(worker.job, "failed", {"reason": end, "lost": True}))
