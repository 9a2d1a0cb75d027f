"""How much memory is left to a program."""

from __future__ import annotations

import os
from pathlib import Path

MEMINFO = Path("/proc/meminfo")
CGROUP = Path("/sys/fs/cgroup")
"""What limits a container, where Linux says so (version 2): https://docs.kernel.org/admin-guide/cgroup-v2.html#memory"""


def available_bytes() -> int:
    """Memory that this program can still take: of the machine, or of the container that it runs in."""
    machine, container = _of_the_machine(), _of_the_container()
    return machine if container is None else min(machine, container)


def _of_the_machine() -> int:
    try:
        return 1024 * _entries(MEMINFO)["MemAvailable:"]
    except (OSError, KeyError, ValueError):
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _of_the_container() -> int | None:
    """The limit less what is taken, of which the system gives back cached files; None without a limit."""
    try:
        limit, taken = (int((CGROUP / name).read_text()) for name in ("memory.max", "memory.current"))
        return max(0, limit - taken + _entries(CGROUP / "memory.stat").get("inactive_file", 0))
    except (OSError, ValueError):  # no such file, or "max"
        return None


def _entries(path: Path) -> dict[str, int]:
    """The numbers of a file with a name and a number on every line."""
    return {line.split()[0]: int(line.split()[1]) for line in path.read_text().splitlines()}
