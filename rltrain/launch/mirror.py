"""A run's folder in two places: where it is trained, and where it belongs. What is new goes from one to the other.

What arrives can be gone on with at any moment: logs come before the checkpoint that counts on them, and a checkpoint is
there whole or not at all.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from rltrain import checkpoint
from rltrain.launch.single import OUTPUT
from rltrain.logger import EVENTS, METRICS
from rltrain.rundir import write_atomic

CHECKPOINTS = "checkpoints"
_Signature = tuple[int, int, int]


class Changes(NamedTuple):
    """What is new in a folder."""

    files: dict[str, tuple[int, bytes]]
    """Name -> from which byte on, and what stands there."""
    checkpoints: dict[str, dict[str, bytes]]
    """Name -> its files."""
    gone: list[str]
    """Files and checkpoints that are no more."""

    @property
    def names(self) -> list[str]:
        """All that has come."""
        return [*self.files, *self.checkpoints]


class Mirror:
    """Finds what is new in a run's folder since it was asked last."""

    def __init__(self, folder: Path, known: Iterable[str] = ()) -> None:
        """`known` are names that the other side has, of which nothing more is known."""
        self._folder = folder
        self._sent: dict[str, _Signature | None] = dict.fromkeys(known)

    def changes(self) -> Changes:
        """What is new. Checkpoints are read first, so that the logs reach at least as far."""
        found: dict[str, _Signature] = {}
        checkpoints = self._checkpoints(found)
        files = self._files(found)
        gone = [name for name in self._sent if name not in found]
        self._sent = dict(found)
        return Changes(files, checkpoints, gone)

    def _checkpoints(self, found: dict[str, _Signature]) -> dict[str, dict[str, bytes]]:
        new = {}
        for path in self._folder.glob(f"{CHECKPOINTS}/step-*"):
            with suppress(OSError):  # it may be removed while it is read
                signature = _signature(path)
                if self._sent.get(path.name) != signature:
                    files = {file.name: file.read_bytes() for file in path.iterdir()}
                    if _signature(path) != signature:
                        continue
                    new[path.name] = files
                found[path.name] = signature
        return new

    def _files(self, found: dict[str, _Signature]) -> dict[str, tuple[int, bytes]]:
        new = {}
        for path in self._folder.iterdir():
            if path.name.startswith(".") or not path.is_file():
                continue
            with suppress(FileNotFoundError), open(path, "rb") as file:
                signature, before = _signature(file.fileno()), self._sent.get(path.name)
                if signature != before:
                    start = before[1] if before is not None and _grew(path.name, before, signature) else 0
                    file.seek(start)
                    new[path.name] = (start, file.read(signature[1] - start))
                found[path.name] = signature
        return new


def _signature(path: Path | int) -> _Signature:
    """Which file it is, how long, and when it was written."""
    found = os.stat(path)
    return found.st_ino, found.st_size, found.st_mtime_ns


def _grew(name: str, before: _Signature, now: _Signature) -> bool:
    """Whether what stood there before still does: while a run trains, its logs only grow; others are replaced."""
    return name.startswith((METRICS, EVENTS, OUTPUT)) and now[0] == before[0] and now[1] > before[1]


def apply(folder: Path, changes: Changes) -> None:
    """Bring a folder to where the other one is."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, (start, data) in changes.files.items():
        if start == 0:
            write_atomic(folder / name, data)
        else:
            _append(folder / name, start, data, synced=bool(changes.checkpoints))
    for name, files in changes.checkpoints.items():
        checkpoint.put(folder / CHECKPOINTS, name, files)
    for name in changes.gone:
        shutil.rmtree(folder / CHECKPOINTS / name, ignore_errors=True)
        (folder / name).unlink(missing_ok=True)


def _append(path: Path, start: int, data: bytes, *, synced: bool) -> None:
    with open(path, "r+b") as file:
        file.seek(start)
        file.write(data)
        file.truncate()
        if synced:
            file.flush()
            os.fsync(file.fileno())
