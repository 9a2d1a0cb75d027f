"""Run folders: made once, locked while written, and every file in them whole or absent."""

from __future__ import annotations

import fcntl
import os
import re
import socket
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from rltrain.core import RltrainError

GROUP, STUDY = "group.yaml", "study.yaml"
LOOKS = 20
"""Tries to take a lock, a hundredth of a second apart."""
_NAME = re.compile(r"[^A-Za-z0-9._-]+")


class CannotCreate(RltrainError):
    """The run folder cannot be made."""

    exit_code = 73


class RunLocked(RltrainError):
    """Another process writes to this run."""

    exit_code = 75


class NoRun(RltrainError):
    """There is no run at this path."""

    exit_code = 66


def create_run(root: Path, name: str, seed: int | None, *, exact: Path | None = None) -> Path:
    """Make `root/<name>/<time>-seed<seed>`, without the seed for a group, or the exact folder, and return it.

    Two starts never share a folder, since making one is what decides who has it. Raises CannotCreate.
    """
    try:
        if exact is not None:
            exact.mkdir(parents=True, exist_ok=True)
            if any(exact.iterdir()):
                raise CannotCreate(f"{exact} is not empty: to go on with a run use --resume {exact}")
            return exact
        parent = root / (_NAME.sub("-", name).strip(".-")[:100] or "run")
        parent.mkdir(parents=True, exist_ok=True)
        stem = time.strftime("%Y%m%d-%H%M%S") + ("" if seed is None else f"-seed{seed}")
        for attempt in range(10_000):
            folder = parent / (stem if attempt == 0 else f"{stem}-{attempt + 1}")
            try:
                folder.mkdir()
            except FileExistsError:
                continue
            return folder
    except OSError as error:
        raise CannotCreate(f"{error.filename}: cannot make the run folder: {error.strerror}") from None
    raise CannotCreate(f"{parent}: too many runs in this second")


@contextmanager
def lock_run(folder: Path) -> Iterator[None]:
    """Hold the run's lock; the system frees it when the process ends, however it ends. Raises RunLocked."""
    try:
        descriptor = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise CannotCreate(f"{folder}: cannot be written: {error.strerror}") from None
    try:
        if not _taken(descriptor):
            holder = os.read(descriptor, 200).decode(errors="replace").strip() or "another process"
            raise RunLocked(f"{folder}: is being written by {holder}")
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"process {os.getpid()} on {socket.gethostname()}\n".encode(), 0)
        yield
    finally:
        os.close(descriptor)


def _taken(descriptor: int) -> bool:
    """Take the lock of a run. Who only looks holds it for a moment, which is waited for."""
    for attempt in range(LOOKS):
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(0.01 * (attempt < LOOKS - 1))
        else:
            return True
    return False


def is_locked(folder: Path) -> bool:
    """Whether a process writes to this run now."""
    try:
        descriptor = os.open(folder / ".lock", os.O_RDONLY)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def is_run(folder: Path) -> bool:
    """Whether this folder is a run."""
    return (folder / "config.yaml").is_file()


def is_group(folder: Path) -> bool:
    """Whether this folder is a group: runs of one configuration on several seeds."""
    return (folder / GROUP).is_file()


def is_study(folder: Path) -> bool:
    """Whether this folder is a study: trials of one search."""
    return (folder / STUDY).is_file()


def newest_study(folder: Path) -> Path | None:
    """The study in this folder that was worked on last."""
    return max(
        (path.parent for path in folder.glob(f"*/{STUDY}")),
        key=lambda study: (study / STUDY).stat().st_mtime,
        default=None,
    )


def resolve(path: Path) -> Path:
    """The run, checkpoint or group that `path` means: itself, or the newest run or group in it. Raises NoRun."""
    if is_run(path) or is_group(path) or (path / "manifest.json").is_file():
        return path
    if not path.is_dir():
        raise NoRun(f"{path}: no such run")
    found = [child for child in path.iterdir() if is_run(child) or is_group(child)]
    if not found:
        raise NoRun(f"{path}: no run in this folder")
    return max(found, key=lambda run: ((run / (GROUP if is_group(run) else "config.yaml")).stat().st_mtime, run.name))


def resolve_run(path: Path) -> Path:
    """The run or checkpoint that `path` means, as `resolve`; a group is refused, for it has no policy. Raises NoRun."""
    found = resolve(path)
    if is_group(found):
        one = next((child for child in sorted(found.iterdir()) if is_run(child)), None)
        raise NoRun(f"{found}: a group, {f'name one of its runs, such as {one}' if one else 'without a run yet'}")
    return found


def write_synced(path: Path, blocks: Iterable[bytes | memoryview]) -> None:
    """Write a new file, piece by piece, and wait until the disk has it."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    with os.fdopen(descriptor, "wb") as file:
        for block in blocks:
            file.write(block)
        file.flush()
        os.fsync(file.fileno())


def sync_folder(path: Path) -> None:
    """Wait until the disk has the names in a folder."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_atomic(path: Path, text: str | bytes) -> None:
    """Replace a file so that a reader, or a crash, finds the old content or the new, whole."""
    temporary = path.with_name(f".tmp-{path.name}-{os.getpid()}")
    try:
        write_synced(temporary, [text.encode() if isinstance(text, str) else text])
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)
