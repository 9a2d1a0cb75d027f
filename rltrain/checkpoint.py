"""Checkpoints that survive a crash at any moment, tell when they are damaged, and run no code when read.

A checkpoint is a folder `step-000000010000` with two files: `arrays.safetensors` holds every array,
`manifest.json` everything else: the format, the SHA-256 of the arrays and of itself, the step, the
configuration, package versions, and the state tree whose leaves name the arrays. There is no pickle.

It is written under a temporary name, flushed to the disk, and renamed: until then the previous ones
are untouched, and after it the new one is whole. Arrays go to the file, and come from it, without a copy in memory.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from typing import Any, Literal

import numpy as np

from rltrain import array_file
from rltrain.core import Array, RltrainError, State
from rltrain.rundir import sync_folder, write_synced
from rltrain.sittings import versions

FORMAT = 1
ARRAYS, MANIFEST = "arrays.safetensors", "manifest.json"
MAX_MANIFEST_BYTES = 256 << 20
_NAME = re.compile(r"step-\d{12,}")


class CheckpointError(RltrainError):
    """A checkpoint is missing, damaged, or from a newer version."""

    exit_code = 66


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint that was read and found whole."""

    path: Path
    step: int
    score: float | None
    config: dict[str, Any]
    versions: dict[str, str]
    state: State


def save(folder: Path, step: int, state: State, *, config: dict[str, Any], score: float | None) -> Path:
    """Write a checkpoint and return its folder. An older one of the same step is replaced."""
    arrays: dict[str, Array] = {}
    tree = _outline(state, "", arrays)
    name = f"step-{step:012d}"
    with _placed(folder, name) as temporary:
        content = {
            "format": FORMAT,
            "step": step,
            "score": score,
            "config": config,
            "versions": versions(),
            "arrays": _write_arrays(temporary / ARRAYS, arrays),
            "state": tree,
        }
        text = json.dumps(content, separators=(",", ":"))
        manifest = f'{{"sha256":"{hashlib.sha256(text.encode()).hexdigest()}","content":{text}}}\n'
        write_synced(temporary / MANIFEST, [manifest.encode()])
    return folder / name


def _write_arrays(path: Path, arrays: Mapping[str, Array]) -> dict[str, Any]:
    """Returns what the manifest says of the file."""
    digest, size = hashlib.sha256(), 0

    def counted() -> Iterator[bytes | memoryview]:
        nonlocal size
        for block in array_file.blocks(arrays):
            digest.update(block)
            size += len(block)
            yield block

    write_synced(path, counted())
    return {"bytes": size, "sha256": digest.hexdigest()}


def put(folder: Path, name: str, files: Mapping[str, bytes]) -> None:
    """Write a checkpoint's files, so that it is there whole or not at all."""
    with _placed(folder, name) as temporary:
        for file, data in files.items():
            write_synced(temporary / file, [data])


@contextmanager
def _placed(folder: Path, name: str) -> Iterator[Path]:
    """A temporary folder that gets its name when all is in it, on the disk."""
    folder.mkdir(parents=True, exist_ok=True)
    target, temporary = folder / name, folder / f".tmp-{name}"
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        temporary.mkdir()
        yield temporary
        sync_folder(temporary)
        _move(temporary, target)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    sync_folder(folder)


def _move(temporary: Path, target: Path) -> None:
    """Rename into place. A folder cannot replace a full one, so an old one steps aside first."""
    if target.exists():
        aside = target.with_name(f".tmp-old-{target.name}")
        shutil.rmtree(aside, ignore_errors=True)
        os.replace(target, aside)
        os.replace(temporary, target)
        shutil.rmtree(aside, ignore_errors=True)
    else:
        os.replace(temporary, target)


def _outline(value: Any, path: str, arrays: dict[str, Array]) -> Any:
    """The tree as JSON. Arrays and odd numbers become {"$": ...}; arrays are collected by path."""
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else {"$float": repr(value)}
    if isinstance(value, np.ndarray):
        arrays[path] = value
        return {"$array": path}
    if isinstance(value, list):
        return [_outline(item, f"{path}/{index}", arrays) for index, item in enumerate(value)]
    if isinstance(value, dict):
        if any(not isinstance(key, str) or key.startswith("$") for key in value):
            raise TypeError(f"state at '{path}': keys must be text and not begin with '$'")
        return {key: _outline(item, f"{path}/{key}", arrays) for key, item in value.items()}
    raise TypeError(f"state at '{path}': {type(value).__name__} cannot be saved")


def _filled(value: Any, arrays: dict[str, Array]) -> Any:
    """The state tree again, from its outline and the arrays."""
    if isinstance(value, list):
        return [_filled(item, arrays) for item in value]
    if isinstance(value, dict):
        if "$array" in value:
            return arrays[value["$array"]]
        if "$float" in value:
            return float(value["$float"])
        return {key: _filled(item, arrays) for key, item in value.items()}
    return value


def load(path: Path) -> Checkpoint:
    """Read a checkpoint and verify every byte. Raises CheckpointError, naming what is wrong.

    Large arrays of the state stay in the file until they are used.
    """
    content = _manifest(path)
    if _digest(path / ARRAYS, content["arrays"]["bytes"]) != content["arrays"]["sha256"]:
        raise CheckpointError(f"{path}: {ARRAYS} is damaged (its SHA-256 differs from the manifest's)")
    try:
        state = _filled(content["state"], array_file.read(path / ARRAYS))
    except Exception as error:
        raise CheckpointError(f"{path}: the state cannot be read: {error}") from None
    return Checkpoint(path, content["step"], content["score"], content["config"], content["versions"], state)


def _manifest(path: Path) -> dict[str, Any]:
    raw = _read(path / MANIFEST)
    try:
        envelope = json.loads(raw)
        content: dict[str, Any] = envelope["content"]
        text = json.dumps(content, separators=(",", ":"))
        whole = hashlib.sha256(text.encode()).hexdigest() == envelope["sha256"]
        form = content["format"]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise CheckpointError(f"{path}: {MANIFEST} is damaged (not what was written)") from None
    if not whole or raw != f'{{"sha256":"{envelope["sha256"]}","content":{text}}}\n'.encode():
        raise CheckpointError(f"{path}: {MANIFEST} is damaged (its SHA-256 differs)")
    if form > FORMAT:
        raise CheckpointError(f"{path}: written by a newer rltrain (format {form}, this one reads up to {FORMAT})")
    return content


def _read(path: Path) -> bytes:
    with _opened(path, None) as file:
        return file.read()


def _digest(path: Path, size: int) -> str:
    with _opened(path, size) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def _opened(path: Path, size: int | None) -> Iterator[BufferedReader]:
    """A regular file of the expected size; a link could lead anywhere and is refused."""
    try:
        if path.is_symlink() or not path.is_file():
            raise CheckpointError(f"{path.parent}: {path.name} is missing")
        found = path.stat().st_size
        if found != size if size is not None else found > MAX_MANIFEST_BYTES:
            wanted = "fewer" if size is None else f"{size:,}"
            raise CheckpointError(f"{path.parent}: {path.name} has {found:,} bytes, expected {wanted}")
        with open(path, "rb") as file:
            yield file
    except OSError as error:
        raise CheckpointError(f"{path}: {error.strerror}") from None


def _folders(folder: Path) -> list[Path]:
    """Checkpoints by step, newest first. Only names count, never the time of a file."""
    if not folder.is_dir():
        return []
    found = [path for path in folder.iterdir() if _NAME.fullmatch(path.name) and not path.is_symlink()]
    return sorted(found, key=lambda path: int(path.name[5:]), reverse=True)


def newest(folder: Path, *, on_corrupt: Callable[[Path, str], None]) -> Checkpoint | None:
    """The newest checkpoint that is whole, None where there is none.

    Damaged ones are renamed `*.corrupt` and reported. Raises CheckpointError when there were
    checkpoints and none is whole. What an interrupted save left behind is cleared away.
    """
    for left in folder.glob(".tmp-old-*"):
        whole = folder / left.name.removeprefix(".tmp-old-")
        if not whole.exists():  # killed between two renames: the old one is still good
            os.replace(left, whole)
    for left in folder.glob(".tmp-*"):
        shutil.rmtree(left, ignore_errors=True)
    paths = _folders(folder)
    for path in paths:
        try:
            return load(path)
        except CheckpointError as error:
            if "newer rltrain" in str(error):
                raise
            aside = path.with_name(path.name + ".corrupt")
            shutil.rmtree(aside, ignore_errors=True)
            os.replace(path, aside)
            on_corrupt(path, str(error).removeprefix(f"{path}: "))
    if paths:
        raise CheckpointError(f"{folder}: every checkpoint is damaged; they were renamed *.corrupt")
    return None


def find(folder: Path, which: Literal["last", "best"] | int) -> Path:
    """The folder of the last, the best, or one step's checkpoint. Raises CheckpointError."""
    paths = _folders(folder)
    if not paths:
        raise CheckpointError(f"{folder}: no checkpoint yet")
    if which == "last":
        return paths[0]
    if which == "best":
        scored = [(score, path) for path in paths if (score := _score(path)) is not None]
        if not scored:
            raise CheckpointError(f"{folder}: no checkpoint was evaluated, so none is the best")
        return max(scored, key=lambda pair: (pair[0], pair[1].name))[1]
    for path in paths:
        if int(path.name[5:]) == which:
            return path
    steps = ", ".join(f"{int(path.name[5:]):,}" for path in reversed(paths))
    raise CheckpointError(f"{folder}: no checkpoint of step {which:,} (there are: {steps})")


def _score(path: Path) -> float | None:
    try:
        score: float | None = _manifest(path)["score"]
    except CheckpointError:
        return None
    return score


def prune(folder: Path, keep_last: int, keep_best: int) -> None:
    """Remove all but the last and the best checkpoints; of equal scores the later one is better."""
    paths = _folders(folder)
    scored = [(score, path.name, path) for path in paths if (score := _score(path)) is not None]
    best = [path for _, _, path in sorted(scored, reverse=True)[:keep_best]]
    for path in paths[keep_last:]:
        if path not in best:
            shutil.rmtree(path, ignore_errors=True)
