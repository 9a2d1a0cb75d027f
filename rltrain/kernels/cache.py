"""Where compiled loops are kept on disk: a folder for every state of the source.

Numba keeps what it compiled beside the file of the function and looks at that file alone. A changed rule in
another file would run as it was before, and a class that was renamed would make the old entries unreadable.
"""

from __future__ import annotations

import hashlib
import inspect
import os
import shutil
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path
from typing import Any

KEPT = 10
"""Folders of other states of the source that stay; older ones are removed."""
PACKAGE = Path(__file__).parent.parent


@cache
def _sources() -> bytes:
    """All of rltrain that a compiled loop may call."""
    folders = (PACKAGE, *(PACKAGE / name for name in ("agents", "exploration", "bonuses", "kernels")))
    return b"".join(file.read_bytes() for folder in folders for file in sorted(folder.glob("*.py")))


def digest(functions: Iterable[Callable[..., Any]]) -> str:
    """A digest of rltrain's source, and of the files of those functions that are a user's own."""
    files = {inspect.getsourcefile(function) for function in functions}
    own = sorted(Path(file) for file in files if file and not Path(file).is_relative_to(PACKAGE))
    return hashlib.sha256(_sources() + b"".join(file.read_bytes() for file in own)).hexdigest()[:20]


def cache_folder(name: str) -> Path | None:
    """The folder of this digest: beside the code, or else in the user's cache; None where neither can be written."""
    users = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    for base in (Path(__file__).parent / "__pycache__" / "loops", users / "rltrain" / "loops"):
        try:
            (base / name).mkdir(parents=True, exist_ok=True)
        except OSError:
            continue
        if os.access(base / name, os.W_OK):
            _prune(base)
            return base / name
    return None


def _prune(base: Path) -> None:
    folders = sorted(base.iterdir(), key=lambda folder: folder.stat().st_mtime, reverse=True)
    for folder in folders[KEPT + 1 :]:
        shutil.rmtree(folder, ignore_errors=True)
