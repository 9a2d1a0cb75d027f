"""The launcher of one machine: worker processes, each of which trains one job after another.

A worker is a fresh interpreter, so that it does what the command does for a single run; it takes several jobs, since
imports and compiled code are then loaded once.
"""

from __future__ import annotations

import json
import os
import selectors
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from rltrain.config.load import to_dict
from rltrain.launch.job import Job
from rltrain.launch.slots import TICK_SECONDS, Heard, Slot, SlotLauncher
from rltrain.sittings import usable_cores

COMMAND = (sys.executable, "-P", "-c", "from rltrain.launch.worker import main; main()")
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def places() -> list[str]:
    """Where this process looks for modules, so that a worker finds what its parent finds."""
    return [place or str(Path.cwd()) for place in sys.path]


def order_of(job: Job, plugins: Sequence[str]) -> dict[str, Any]:
    """What a worker is sent to train a job."""
    order = {"config": to_dict(job.config), "folder": str(job.folder)}
    return order | {"plugins": list(plugins), "command": sys.argv}


class WorkerProcess:
    """The parent's side of a worker: orders go, events come."""

    def __init__(self, selector: selectors.BaseSelector, places: Sequence[str], folder: Path | None = None) -> None:
        """`places` are where it looks for modules, `folder` is where it works, by default where its parent does."""
        self._rest = b""
        self._selector = selector
        environment = os.environ | dict.fromkeys(THREADS, "1") | {"PYTHONPATH": os.pathsep.join(places)}
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # Ctrl-C is its parent's business
        try:
            self.process = subprocess.Popen(
                COMMAND, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment, cwd=folder, bufsize=0
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

    def hear(self) -> Heard:
        """What it has told, and how it ended where it is no more."""
        gone = self.gone()  # asked first: what it told before its end is read after
        events = self.events()
        return Heard(events, {"reason": f"its process {self._fate()}", "lost": True} if gone else None)

    def _fate(self) -> str:
        code = self.process.returncode
        return f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"

    def dismiss(self) -> None:
        """Let it end: without a job it does so at once."""
        with suppress(OSError):
            self._input.close()

    def close(self) -> None:
        """Wait for its end, and free what it held."""
        self.dismiss()
        self.process.wait()
        self._selector.unregister(self._output)
        self._output.close()


class _ProcessSlot(Slot):
    """A worker process of this machine."""

    def __init__(self, selector: selectors.BaseSelector, plugins: Sequence[str]) -> None:
        super().__init__()
        self._plugins = plugins
        self._worker = WorkerProcess(selector, places())

    def begin(self, job: Job) -> None:
        self._worker.order(order_of(job, self._plugins))

    def stop(self) -> None:
        self._worker.order("stop")

    def cancel(self) -> None:
        assert self.job is not None
        self._worker.order({"cancel": str(self.job.folder)})

    def hear(self) -> Heard:
        return self._worker.hear()

    def dismiss(self) -> None:
        self._worker.dismiss()

    def close(self) -> None:
        self._worker.close()


class ProcessLauncher(SlotLauncher):
    """Runs jobs on the cores of this machine, as many at once as there are workers."""

    def __init__(self, workers: int | None = None, plugins: Sequence[str] = ()) -> None:
        self._workers = workers or usable_cores()
        self._plugins = list(plugins)
        self._selector = selectors.DefaultSelector()

    @property
    def workers(self) -> int:
        """Processes at once."""
        return self._workers

    def open(self, job: Job) -> Slot:
        """Start a worker."""
        return _ProcessSlot(self._selector, self._plugins)

    def wait(self, slots: Sequence[Slot]) -> None:
        """Return when a worker has written something."""
        self._selector.select(TICK_SECONDS)
