"""Scalar functions that are written once and run twice: as Python by the readable loop, compiled by the kernel.

A function marked `@compilable` stays a plain Python function. `jit.py` makes it known to
Numba when a compiled loop is built; nothing here imports Numba, which is optional. Such a function uses
scalars, arrays, NamedTuples of them, `math`, and other compilable functions; it mutates only arrays.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

_F = TypeVar("_F", bound=Callable[..., Any])
FUNCTIONS: list[tuple[Callable[..., Any], bool]] = []
"""Every compilable function of the modules that are loaded, and whether it is put in at the place of each call."""


def compilable(function: _F) -> _F:
    """Decorator: Numba may compile this function."""
    FUNCTIONS.append((function, False))
    return function


def inlined(function: _F) -> _F:
    """Decorator: as `compilable`, for a small function that takes a row of an array.

    Counting the references to each row costs more than such a function itself; put in at the place of the
    call it counts none (a whole Q-learning step takes 0.55 times as long, at a second more to compile).
    """
    FUNCTIONS.append((function, True))
    return function
