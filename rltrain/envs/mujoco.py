"""MuJoCo: its warnings, told as all others are, and the library by which it draws where there is no display."""

from __future__ import annotations

import os
import sys
import warnings
from importlib import import_module
from typing import Any

from rltrain.core import ConfigError, first_line

OFF_SCREEN = ("egl", "osmesa")
"""What draws without a display, as MUJOCO_GL calls it."""


def load(module: str) -> None:
    """Import it. Raises ConfigError where the library that MUJOCO_GL names keeps it from being imported."""
    try:
        import_module(module)
    except Exception as error:
        if chosen := os.environ.get("MUJOCO_GL"):
            raise _no_library(chosen, error) from error
        raise


def hear() -> None:
    """Have MuJoCo's warnings told as Python's, where it is loaded; else it keeps them in a file in this folder."""
    mujoco: Any = sys.modules.get("mujoco")
    if mujoco is not None and mujoco.get_mju_user_warning() is None:  # else the user hears them in his own way
        mujoco.set_mju_user_warning(_tell)


def _tell(text: str) -> None:
    """Deprecations are for those who write models: Python shows them where it is asked to, as by -W default."""
    try:
        warnings.warn(f"MuJoCo: {text}", DeprecationWarning if "deprecated" in text else RuntimeWarning, stacklevel=1)
    except Warning as error:  # by -W error; what is raised here would abort the process
        sys.stderr.write(f"warning: {error}\n")


def choose_off_screen() -> str:
    """The library that draws without a display. Raises ConfigError where MUJOCO_GL names another, or it cannot draw."""
    chosen = os.environ["MUJOCO_GL"] = os.environ.get("MUJOCO_GL") or OFF_SCREEN[0]
    if chosen not in OFF_SCREEN:
        raise ConfigError(f"MUJOCO_GL={chosen}: needs a display, and there is none: use {' or '.join(OFF_SCREEN)}")
    try:
        import_module(f"mujoco.{chosen}").GLContext(1, 1).free()
    except Exception as error:
        raise _no_library(chosen, error) from error
    return chosen


def _no_library(chosen: str, error: Exception) -> ConfigError:
    others = " or ".join(name for name in OFF_SCREEN if name != chosen)
    return ConfigError(f"MUJOCO_GL={chosen}: MuJoCo cannot draw with it here, use {others}: {first_line(error)}")
