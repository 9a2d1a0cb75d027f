"""What a worker process does: train one job after another, tell its parent, and stop when told or left alone.

Commands come and events go as lines of JSON. What a run prints goes to `output.log` in its folder.
"""

from __future__ import annotations

import faulthandler
import json
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from rltrain.callbacks import score_of
from rltrain.config.load import dump, from_dict
from rltrain.config.schema import Config
from rltrain.core import Progress, RltrainError, first_line
from rltrain.experiment import Run, Summary
from rltrain.launch.single import OUTPUT, newest_checkpoint, train_run
from rltrain.registry import load_plugins
from rltrain.rundir import RunLocked, is_run, lock_run, write_atomic

TELL_SECONDS = 0.25
"""Time between two reports of progress."""
GRACE_SECONDS = 120.0
"""A worker whose parent is gone has this long to save; it can hang in an environment."""
LOCK_SECONDS = 30.0
"""A run that another worker still saves, whose parent was killed, is waited for this long."""

Tell = Callable[..., None]


class Orders:
    """What the parent wants, read in a thread of its own: jobs, and to stop. The end of the pipe means it as well."""

    def __init__(self, descriptor: int) -> None:
        self.stop = threading.Event()
        self.unwanted: set[str] = set()
        """Folders of runs that should save and end."""
        self.jobs: SimpleQueue[dict[str, Any] | None] = SimpleQueue()
        threading.Thread(target=self._read, args=(descriptor,), daemon=True).start()

    def _read(self, descriptor: int) -> None:
        for line in _lines(descriptor):
            order = json.loads(line)
            if order == "stop":
                self.stop.set()
            elif "cancel" in order:
                self.unwanted.add(order["cancel"])
            else:
                self.unwanted.discard(order["folder"])
                self.jobs.put(order)
        if self.stop.is_set():  # a second signal ended the parent: so does this
            os._exit(1)
        self.stop.set()
        self.jobs.put(None)
        time.sleep(GRACE_SECONDS)
        os._exit(1)


def _lines(descriptor: int) -> Iterator[bytes]:
    """Lines of a pipe, without a buffered file, whose lock a forked environment would inherit."""
    rest = b""
    while data := os.read(descriptor, 1 << 16):
        *lines, rest = (rest + data).split(b"\n")
        yield from lines


class Reporter:
    """A listener of the training loop that tells the parent where the run is."""

    every: int | None = None

    def __init__(self, tell: Tell) -> None:
        self._tell = tell
        self._run: Run | None = None
        self._returns: list[float] = []
        self._told = 0.0
        self._evaluated: int | None = None
        self._began: tuple[float, int] | None = None

    def watch(self, run: Run) -> None:
        """Take figures from this run."""
        self._run = run
        for note in (run.experiment.note, *run.experiment.notes):
            if note is not None:
                self._tell("note", {"text": note})

    def __call__(self, progress: Progress) -> bool:
        """Tell, when it is time."""
        self._returns = (self._returns + progress.returns)[-20:]
        now = time.monotonic()
        if self._began is None:  # not before: a rate of the first steps, which load and compile, would mislead
            self._began, self._told = (now, progress.steps), now
        if self._run is None:
            return False
        evaluation = self._run.evaluate
        if now - self._told >= TELL_SECONDS or evaluation.step != self._evaluated:
            self._told, self._evaluated = now, evaluation.step
            latest, returns, seconds = evaluation.latest, self._returns, now - self._began[0]
            data = {
                "step": progress.steps,
                "rate": (progress.steps - self._began[1]) / seconds if seconds else 0.0,
                "return": sum(returns) / len(returns) if returns else None,
                "eval": None if latest is None else score_of(latest),
                "eval_step": evaluation.step,
            }
            self._tell("progress", data)
        return False


@contextmanager
def _locked(folder: Path, stop: threading.Event) -> Iterator[None]:
    """Hold the run's lock, which a worker without a parent may still have for a moment."""
    deadline = time.monotonic() + LOCK_SECONDS
    while True:
        lock = lock_run(folder)
        try:
            lock.__enter__()
            break
        except RunLocked:
            if stop.wait(0.1) or time.monotonic() > deadline:
                raise
    try:
        yield
    finally:
        lock.__exit__(None, None, None)


def train(config: Config, folder: Path, tell: Tell, orders: Orders) -> Summary:
    """What `rltrain train` does for one run: begin it, or go on with it where there is one."""

    def interrupted() -> bool:
        return orders.stop.is_set() or str(folder) in orders.unwanted

    folder.mkdir(parents=True, exist_ok=True)
    with _locked(folder, orders.stop), _output_to(folder / OUTPUT):
        resuming = is_run(folder)
        saved = newest_checkpoint(folder, config, lambda text: tell("note", {"text": text})) if resuming else None
        write_atomic(folder / "config.yaml", dump(config))
        try:
            return train_run(config, folder, Reporter(tell), interrupted, resuming=resuming, saved=saved)
        except RltrainError:
            raise
        except Exception:
            traceback.print_exc()  # into the run's output
            raise


@contextmanager
def _output_to(path: Path) -> Iterator[None]:
    """Everything that this process and its environments print is kept beside the run, if there is anything."""
    before = os.dup(2)
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    for descriptor in (1, 2):
        os.dup2(file, descriptor)
    os.close(file)
    try:
        yield
    finally:
        sys.stdout.flush()
        for descriptor in (1, 2):
            os.dup2(before, descriptor)
        os.close(before)
        if path.stat().st_size == 0:
            path.unlink()


def _reason(error: Exception) -> str:
    """An error in one line."""
    text, kind = first_line(error), type(error).__name__
    return text if isinstance(error, RltrainError) or text == kind else f"{kind}: {text}"


def _serve(orders: Orders, tell: Tell) -> None:
    """Train what comes until nothing more does; what comes after the word to stop is not begun."""
    while (order := orders.jobs.get()) is not None:
        if orders.stop.is_set():
            tell("ended", {"status": "interrupted"})
            continue
        sys.argv[:] = order["command"]  # what the user typed, which the run notes down
        try:
            load_plugins(order["plugins"])
            config = from_dict(order["config"]).config
            summary = train(config, Path(order["folder"]), tell, orders)
        except Exception as error:  # one job fails, the next is another
            tell("failed", {"reason": _reason(error)})
        else:
            tell("ended", summary)


def main() -> None:
    """Serve the process that started this one, over standard input and output."""
    reading, writing, nothing = os.dup(0), os.dup(1), os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.dup2(2, 1)  # what an environment prints must not look like an event
    faulthandler.enable()
    orders = Orders(reading)
    signal.signal(signal.SIGTERM, lambda *_: orders.stop.set())

    def tell(kind: str, data: dict[str, Any]) -> None:
        with suppress(OSError):  # nobody listens any more
            os.write(writing, json.dumps({"kind": kind, "data": data}).encode() + b"\n")

    _serve(orders, tell)
