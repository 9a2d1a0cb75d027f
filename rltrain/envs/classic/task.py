"""What a task must tell to be stepped by compiled code, and what several tasks share.

Everything is Gymnasium's, to the last bit: the order of the operations, the precision of each, and the draws of
a reset. Legend for shapes: S numbers of a state, O of an observation.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from rltrain.compilable import compilable
from rltrain.core import Array


class Task(NamedTuple):
    """One task. All but `start` are compilable; a state is a row of an array, and `move` changes it."""

    entry_point: str
    """Of Gymnasium's own class, as it is registered."""
    size: int
    """S."""
    valid: Callable[[Any], bool]
    """Whether there is such an action."""
    move: Callable[[Any, Any], tuple[float, bool]]
    """Take an action: what it pays, and whether the task is over."""
    observe: Callable[[Any, Any], None]
    """Write down the observation of a state, as `step` returns it."""
    start: Callable[[np.random.Generator, int], tuple[Array, Array]]
    """As many first states (K, S) and their observations (K, O) as wanted, drawn one after the other."""


@compilable
def one_of_two(action: int) -> bool:
    """Actions 0 and 1."""
    return 0 <= action < 2


@compilable
def one_of_three(action: int) -> bool:
    """Actions 0, 1 and 2."""
    return 0 <= action < 3


@compilable
def anything(action: Any) -> bool:
    """Continuous actions are clipped by the task."""
    return True


@compilable
def square(x: float) -> float:
    """x to the power of two, by the C library's `pow`, which `**` is for NumPy's scalars.

    One result in a thousand is not that of x * x, which a compiler would make of a constant exponent.
    """
    return math.pow(x, 2.0 + 0.0 * x)


@compilable
def copy_state(state: Any, obs: Any) -> None:
    """The observation is the beginning of the state, in single precision."""
    for index in range(len(obs)):
        obs[index] = state[index]
