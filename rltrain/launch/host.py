"""What runs on a machine of a Ray cluster: one worker process there, with a run's folder, and what both tell.

An actor of Ray's, whose methods the driver calls one after another. It trains nothing itself: its worker is that of a
single machine, so that a run does there what it does anywhere.
"""

from __future__ import annotations

import os
import selectors
import shutil
import socket
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from rltrain.launch.mirror import Changes, Mirror, apply
from rltrain.launch.processes import WorkerProcess
from rltrain.launch.slots import Heard
from rltrain.sittings import what_runs

LISTEN_SECONDS = 1.0
"""How long to wait for news; an order of the driver's waits as long."""


class Greeting(NamedTuple):
    """Where a host is."""

    node: str
    shared: bool
    """Whether it sees the driver's folder."""
    versions: dict[str, str]


class Told(NamedTuple):
    """What there is to tell."""

    heard: Heard
    changes: Changes | None
    """What is new in the run's folder, where it is a folder of this machine."""


class Host:
    """A worker process, started at the first job and again where it has died."""

    def __init__(self, places: Sequence[str], folder: str) -> None:
        """`places` are where the driver looks for modules, `folder` is where it works; both may be missing here."""
        self._places = [place for place in places if os.path.exists(place)]
        self._folder = Path(folder) if os.path.isdir(folder) else None
        self._selector = selectors.DefaultSelector()
        self._worker: WorkerProcess | None = None
        self._own: Path | None = None  # of the run, where this machine does not see the driver's
        self._mirror: Mirror | None = None
        self._job = ""  # the folder of the run, as the worker knows it
        if os.environ.get("CUDA_VISIBLE_DEVICES") == "":  # Ray hides GPUs that were not asked for
            del os.environ["CUDA_VISIBLE_DEVICES"]

    def greet(self, mark: str) -> Greeting:
        """Where this is, and whether the driver's file `mark` is seen from here."""
        return Greeting(socket.gethostname(), os.path.exists(mark), what_runs())

    def begin(self, order: dict[str, Any], content: Changes | None) -> Told:
        """Train; from `content`, which is the run's folder as it stands, where this machine does not see that."""
        self._clean()
        if content is not None:
            self._own = Path(tempfile.mkdtemp(prefix="rltrain-run-")) / Path(order["folder"]).name
            apply(self._own, content)
            self._mirror = Mirror(self._own, content.names)
            order = order | {"folder": str(self._own)}
        if self._worker is None:
            self._worker = WorkerProcess(self._selector, self._places, self._folder)
        self._job = order["folder"]
        self._worker.order(order)
        return self.tell()

    def order(self, what: str) -> None:
        """`stop`: save and end. `cancel`: end the job alone."""
        if self._worker is not None:
            self._worker.order({"cancel": self._job} if what == "cancel" else what)

    def tell(self) -> Told:
        """Wait for news, and tell them."""
        assert self._worker is not None
        self._selector.select(LISTEN_SECONDS)
        heard, changes = self._worker.hear(), None
        if heard.end is not None:
            self._worker.close()
            self._worker = None
        trained = heard.end is not None or any(event["kind"] != "note" for event in heard.events)
        if self._mirror is not None and trained:  # not before: logs are cut back at first
            changes = self._mirror.changes()
        return Told(heard, changes)

    def close(self) -> None:
        """Have the worker save and end, and leave nothing behind."""
        if self._worker is not None:
            self._worker.close()
            self._worker = None
        self._clean()

    def _clean(self) -> None:
        if self._own is not None:
            shutil.rmtree(self._own.parent, ignore_errors=True)
        self._own = self._mirror = None
