"""The sittings of a run, each from a start or a resume to its end: when, on what, by which command, with what outcome.

They stand in `sittings.json`, apart from what equal runs have in common. A sitting that was killed has no end.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shlex
import sys
import time
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from rltrain.redaction import redact
from rltrain.rundir import write_atomic

SITTINGS = "sittings.json"
_PACKAGES = ("rltrain", "numpy", "gymnasium", "torch", "numba")


@cache
def versions() -> dict[str, str]:
    """Name -> version of Python and of the packages that decide what a run does; nothing is loaded to find out."""
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


@cache
def source() -> str:
    """A digest of rltrain's source: a version may have many."""
    folder = Path(__file__).parent
    files = sorted(folder.rglob("*.py"))
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:12]


def what_runs() -> dict[str, str]:
    """Versions of everything that decides what a run does."""
    return {**versions(), "source": source()}


def usable_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1


def platform_of(device: str) -> dict[str, Any]:
    """Versions, processor, threads and device of this process: what may change the last bits of a run."""
    cores = usable_cores()
    threads = os.environ.get("OMP_NUM_THREADS", "")
    return {
        "versions": what_runs(),
        "machine": {
            "system": f"{platform.system()} {platform.release()} {platform.machine()}",
            "cpu": _processor(),
            "cores": cores,
            "threads": int(threads) if threads.isdigit() else cores,
            "device": device,
        },
    }


@cache
def _processor() -> str:
    """The processor's name, where the system tells it in a file."""
    try:
        lines = Path("/proc/cpuinfo").read_text(errors="replace").splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())


def command() -> str:
    """What the user typed, without passwords."""
    return shlex.join(redact(word) for word in (Path(sys.argv[0]).name, *sys.argv[1:]))


def read_sittings(folder: Path) -> list[dict[str, Any]]:
    """The sittings of a run, first to last; empty where none was written, or what was is not readable."""
    try:
        found: list[dict[str, Any]] = json.loads((folder / SITTINGS).read_bytes())["sittings"]
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return []
    return found


class Sitting:
    """The present sitting: on the disk from its beginning."""

    def __init__(self, folder: Path, step: int, device: str) -> None:
        """`step` is where it goes on from, in environment steps."""
        self._path = folder / SITTINGS
        self._began = time.monotonic()
        self._before = read_sittings(folder)
        self._this: dict[str, Any] = {
            "began": datetime.now(UTC).isoformat(timespec="seconds"),
            "command": command(),
            "from_step": step,
            "to_step": None,
            "seconds": None,
            "status": None,
            **platform_of(device),
        }
        self._write()

    def end(self, step: int, status: str) -> None:
        """Note where and how it ended."""
        self._this |= {"to_step": step, "seconds": round(time.monotonic() - self._began, 3), "status": status}
        self._write()

    def _write(self) -> None:
        write_atomic(self._path, json.dumps({"sittings": [*self._before, self._this]}, indent=2) + "\n")
