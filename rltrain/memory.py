"""How much memory is left to a program."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

WORTH_TELLING = 2**28
"""Bytes from which a user is told that something takes them."""
MEMORY_SHARE = 0.8
"""Of the memory that is free, replay may take this much, and so may networks."""
MEMINFO = Path("/proc/meminfo")
OWN_GROUP = Path("/proc/self/cgroup")
CGROUP = Path("/sys/fs/cgroup")
"""What limits a container or a job, where Linux says so: https://docs.kernel.org/admin-guide/cgroup-v2.html#memory"""
VERSION_1 = {"memory.max": "memory.limit_in_bytes", "memory.current": "memory.usage_in_bytes"}
"""How files are called in version 1: https://docs.kernel.org/admin-guide/cgroup-v1/memory.html"""


def available_bytes() -> int:
    """Memory that this program can still take: of the machine, and of every group of processes that it is in."""
    return min([_of_the_machine(), *(_of_the_group(folder) for folder in _groups())])


def _of_the_machine() -> int:
    try:
        return 1024 * _entries(MEMINFO)["MemAvailable:"]
    except (OSError, KeyError, ValueError):
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _groups() -> Iterator[Path]:
    """The folder of this process's group and of all around it, with a limit or none; of both versions."""
    try:
        lines = [line.split(":", 2) for line in OWN_GROUP.read_text().splitlines()]
    except OSError:
        return
    for _, controllers, own in lines:
        if not controllers or "memory" in controllers.split(","):
            root = CGROUP / "memory" if controllers else CGROUP
            folder = root / own.strip("/")
            yield from (group for group in (folder, *folder.parents) if group.is_relative_to(root))


def _of_the_group(folder: Path) -> int:
    """The limit less what is taken, of which the system gives back cached files; without a limit no bound."""
    with suppress(OSError, ValueError):  # no such file, or "max"
        names = VERSION_1 if (folder / VERSION_1["memory.max"]).exists() else {}
        limit, taken = (int((folder / names.get(name, name)).read_text()) for name in ("memory.max", "memory.current"))
        cached = _entries(folder / "memory.stat").get("total_inactive_file" if names else "inactive_file", 0)
        return max(0, limit - taken + cached)
    return sys.maxsize


def _entries(path: Path) -> dict[str, int]:
    """The numbers of a file with a name and a number on every line."""
    return {line.split()[0]: int(line.split()[1]) for line in path.read_text().splitlines()}
