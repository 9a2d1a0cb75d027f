"""Optuna's journal in a file, made to survive the death of whoever writes it.

A journal is a line of JSON for every operation. A process that dies while it appends leaves half a line, and the next
one's line would be joined to it, after which nobody could read the file. So whoever gets the lock first cuts off what
is not a whole line; and the lock is the system's, which frees it when its holder ends, however it ends.
"""

from __future__ import annotations

import fcntl
import json
import os
from pathlib import Path

from optuna.storages.journal import JournalFileBackend, JournalStorage
from optuna.storages.journal._file import BaseJournalFileLock

from rltrain.core import RltrainError
from rltrain.rundir import sync_folder

BLOCK = 1 << 16


class BadJournal(RltrainError):
    """The file is not a journal, or is damaged in its middle."""

    exit_code = 65


class HealingLock(BaseJournalFileLock):
    """An exclusive lock on a journal, whose holder finds only whole lines in it."""

    def __init__(self, journal: Path) -> None:
        self._journal = journal
        self._descriptor: int | None = None

    def acquire(self) -> bool:
        """Wait for the lock, and cut off half a line."""
        descriptor = os.open(lock_path(self._journal), os.O_RDWR | os.O_CREAT, 0o644)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        self._descriptor = descriptor
        _cut_half_line(self._journal)
        return True

    def release(self) -> None:
        """Give it back."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def lock_path(path: Path, what: str = "lock") -> Path:
    """The file beside a journal or a database that a lock of it is held on."""
    return path.with_name(f".{path.name}.{what}")


def open_journal(path: Path) -> JournalStorage:
    """The journal at a path, made where there is none. Raises BadJournal."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        path.touch()
        sync_folder(path.parent)
    lock = HealingLock(path)
    lock.acquire()
    try:
        _cut_bad_line(path)
    finally:
        lock.release()
    try:
        return JournalStorage(JournalFileBackend(str(path), lock_obj=lock))
    except (ValueError, KeyError, TypeError, AssertionError) as error:
        raise BadJournal(f"{path}: not a journal of studies, or damaged: {error}") from None


def _cut_half_line(path: Path) -> None:
    """Keep everything up to the last end of a line; what is cut goes to a file beside it."""
    with open(path, "rb+") as file:
        end = file.seek(0, os.SEEK_END)
        if end == 0:
            return
        file.seek(end - 1)
        if file.read(1) == b"\n":
            return
        keep = _line_end_before(file.fileno(), end)
        _set_aside(path, os.pread(file.fileno(), end - keep, keep))
        file.truncate(keep)
        os.fsync(file.fileno())


def _line_end_before(descriptor: int, end: int) -> int:
    """Offset behind the last line end before `end`; 0 where there is none."""
    while end > 0:
        start = max(0, end - BLOCK)
        found = os.pread(descriptor, end - start, start).rfind(b"\n")
        if found >= 0:
            return start + found + 1
        end = start
    return 0


def _cut_bad_line(path: Path) -> None:
    """Cut off last lines that are no JSON, as a disk may leave them whose power was cut."""
    with open(path, "rb+") as file:
        end = file.seek(0, os.SEEK_END)
        while end > 0:
            start = _line_end_before(file.fileno(), end - 1)
            line = os.pread(file.fileno(), end - start, start)
            try:
                json.loads(line)
                return
            except ValueError:
                if start == 0 and end == file.seek(0, os.SEEK_END):
                    raise BadJournal(f"{path}: not a journal of studies") from None
                _set_aside(path, line)
                file.truncate(start)
                os.fsync(file.fileno())
                end = start


def _set_aside(path: Path, data: bytes) -> None:
    with open(path.with_name(path.name + ".corrupt"), "ab") as file:
        file.write(data + b"\n")
