"""Where a page or a figure goes: what cannot be written is refused before any work."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from rltrain.core import ConfigError
from rltrain.rundir import CannotCreate


def check_ending(path: Path, suffixes: Sequence[str]) -> None:
    """Raises ConfigError for another suffix."""
    if path.suffix not in suffixes:
        raise ConfigError(f"--out: {path}: the name must end in {' or '.join(suffixes)}")


def check_output(path: Path, suffixes: Sequence[str]) -> None:
    """Raises ConfigError for another suffix, CannotCreate where no such file could be written."""
    check_ending(path, suffixes)
    if path.is_dir():
        raise CannotCreate(f"{path}: cannot be written: it is a folder")
    if not path.parent.is_dir():
        raise CannotCreate(f"{path}: cannot be written: there is no folder {path.parent}")
    if not os.access(path.parent, os.W_OK):
        raise CannotCreate(f"{path}: cannot be written: no permission in {path.parent}")
