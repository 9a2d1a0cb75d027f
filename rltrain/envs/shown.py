"""Whether what an environment shows lies in the space that it names.

Arrays cast without a word: 0.9 would be the byte 0, 300 the byte 44, and -1 the last state of a table.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np

from rltrain.core import Array
from rltrain.encoding import LONGEST, in_words

Judge = Callable[[Any], str | None]
"""Says what is wrong with an observation, or None."""


def judge(space: gym.Space[Any]) -> Judge:
    """Who judges the observations of this space. For what is as it should be that takes a tenth of a microsecond."""
    if isinstance(space, gym.spaces.Dict):
        named = {name: judge(part) for name, part in space.items()}
        return lambda obs: next(filter(None, (of(obs[name]) for name, of in named.items())), None)
    if isinstance(space, gym.spaces.Tuple):
        parts = [judge(part) for part in space]
        return lambda obs: next(filter(None, (of(part) for of, part in zip(parts, obs, strict=True))), None)
    if isinstance(space, gym.spaces.Box):
        return _box(space)
    if not isinstance(space, gym.spaces.Discrete | gym.spaces.MultiDiscrete | gym.spaces.MultiBinary):
        return lambda obs: None  # of texts and graphs nothing can be cast

    def choices(obs: Any) -> str | None:
        array = np.asarray(obs)
        return _cast(space, array) or (None if space.contains(array.astype(space.dtype)) else _outside(space, array))

    return _number(space, choices) if isinstance(space, gym.spaces.Discrete) else choices


def _box(space: gym.spaces.Box) -> Judge:
    dtype, shape = space.dtype, space.shape
    other = np.dtype(np.float64) if dtype.kind == "f" else dtype  # what arithmetic makes of float32

    def box(obs: Any) -> str | None:
        if type(obs) is np.ndarray and (obs.dtype is dtype or obs.dtype is other) and obs.shape == shape:
            return None
        return _cast(space, np.asarray(obs))

    return box


def _number(space: gym.spaces.Discrete, slowly: Judge) -> Judge:
    low, high = int(space.start), int(space.start + space.n)
    plain = (int, space.dtype.type) if space.dtype == np.int64 else (space.dtype.type,)

    def number(obs: Any) -> str | None:
        return None if type(obs) in plain and low <= obs < high else slowly(obs)

    return number


def _cast(space: gym.Space[Any], array: Array) -> str | None:
    """What would be lost if this became an element of the space."""
    assert space.dtype is not None
    if not np.can_cast(array.dtype, space.dtype, "same_kind"):
        return f"its observations are {array.dtype}, its space says {space.dtype}"
    if array.shape != space.shape:
        return f"its observations have the shape {array.shape}, not {space.shape} as it says"
    if space.dtype.kind in "iu" and (array.astype(space.dtype) != array).any():  # narrower
        return _outside(space, array)
    return None


def _outside(space: gym.Space[Any], array: Array) -> str:
    return f"its observation {' '.join(str(array).split())[:LONGEST]} is not in its space {in_words(space)}"
