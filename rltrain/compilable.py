"""Scalar functions that are written once and run twice: as Python by the readable loop, compiled by the kernel.

A function marked `@compilable` stays a plain Python function. `jit.py` makes it known to
Numba when a compiled loop is built; nothing here imports Numba, which is optional. Such a function uses
scalars, arrays, NamedTuples of them, `math`, and other compilable functions; it mutates only arrays.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

_F = TypeVar("_F", bound=Callable[..., Any])
FUNCTIONS: dict[Callable[..., Any], bool] = {}
"""Every compilable function of the modules that are loaded, and whether it makes arrays."""


def compilable(function: _F) -> _F:
    """Decorator: Numba may compile this function."""
    FUNCTIONS[function] = False
    return function


def making_arrays(function: _F) -> _F:
    """Decorator: as `compilable`, for a part of a loop in which arrays are made; `Generator.integers` makes one."""
    FUNCTIONS[function] = True
    return function
