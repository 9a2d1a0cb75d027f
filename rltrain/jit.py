"""Numba, for whatever is compiled: loaded when it is needed, and what it compiled kept on disk.

Numba keeps what it compiled beside the file of the function and looks at that file alone. A changed rule in
another file would run as it was before, and a class that was renamed would make the old entries unreadable.
So every state of the source has a folder of its own here.
"""

from __future__ import annotations

import hashlib
import importlib.util
import inspect
import os
import shutil
import sys
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path
from typing import Any

from rltrain.compilable import FUNCTIONS

KEPT = 10
"""Folders of other states of the source that stay; older ones are removed."""
COMPILED_FROM = 100_000_000
"""Numbers that loops have been through when they are compiled: NumPy takes as long for them as loading Numba takes."""
PACKAGE = Path(__file__).parent
FOLDERS = ("agents", "exploration", "bonuses", "envs", "envs/classic", "kernels", "nn")
"""Where compilable functions are, beside the package's own folder."""


class CannotCompile(Exception):
    """Numba does not understand a part of what it should compile; says which name or type."""


def available() -> bool:
    """Whether Numba is installed."""
    return importlib.util.find_spec("numba") is not None


def load_numba() -> None:
    """Load Numba without the matrix products that nothing here uses.

    Numba looks for SciPy's BLAS when it is set up, and loading that takes longer than many a run of a table.
    Where a user's own code has loaded Numba or SciPy's linear algebra already, nothing is left out.
    """
    if "numba" in sys.modules or "scipy.linalg" in sys.modules:
        return
    sys.modules["scipy.linalg"] = None  # type: ignore[assignment] # an import of it fails at once
    try:
        importlib.import_module("numba.np.arraymath")
    finally:
        del sys.modules["scipy.linalg"]


@cache
def _register(function: Callable[..., Any]) -> None:
    """Tell Numba that it may compile a function."""
    from numba.extending import register_jitable

    register_jitable(forceinline=True)(function)  # each function that it calls takes the options of the outermost


def _makes_arrays(parts: list[Callable[..., Any]]) -> bool:
    """Whether references to arrays must be counted, also those to every row that is looked at.

    Without, and with each call put in its place, a step of SARSA takes 0.6 times as long. A user's own part may do
    as it likes.
    """
    return any(FUNCTIONS.get(part, True) or not part.__module__.startswith("rltrain.") for part in parts)


def compiled(function: Callable[..., Any], parts: Iterable[Callable[..., Any]]) -> Any:
    """`function` for Numba, with the `parts` that it calls; it is compiled, or found on disk, at its first call."""
    load_numba()
    from numba import njit
    from numba.core import config

    parts = list(parts)
    options: Any = {"_nrt": _makes_arrays(parts)}
    for part in dict.fromkeys([*FUNCTIONS, *parts]):  # a user's part may be unmarked
        _register(part)
    folder = cache_folder(digest([*FUNCTIONS, *parts]))
    settings: Any = config
    before = settings.CACHE_DIR
    try:
        settings.CACHE_DIR = str(folder)  # read when a function is decorated
        return njit(function, cache=folder is not None, error_model="numpy", **options)
    finally:
        settings.CACHE_DIR = before


class CompiledLater:
    """A loop over arrays of numbers, of which NumPy gives the same results to the last bit, only slower.

    So a run does not change where it is compiled, and a short one never loads Numba.
    """

    seen = 0
    """Numbers that all such loops of this process have been through."""

    def __init__(self, loop: Callable[..., None]) -> None:
        self._loop = loop
        self._compiled: Callable[..., None] | None = None

    def after(self, count: int) -> Callable[..., None] | None:
        """The compiled loop; None until it pays, with `count` numbers more to go through."""
        if self._compiled is None:
            CompiledLater.seen += count
            if CompiledLater.seen < COMPILED_FROM or not available():
                return None
            self._compiled = compiled(self._loop, [self._loop])
        return self._compiled


def entry_point(function: Any, *arguments: Any) -> Callable[..., Any]:
    """The compiled code for arguments of these types, which are passed to it once.

    It takes half a microsecond less than the function does, for it looks at no type: the caller has to.
    """
    function(*arguments)
    (code,) = function.overloads.values()
    entry: Callable[..., Any] = code.entry_point
    return entry


@cache
def _sources() -> bytes:
    """All of rltrain that a compiled loop may call."""
    folders = (PACKAGE, *(PACKAGE / name for name in FOLDERS))
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
