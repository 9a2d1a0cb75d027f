"""Turn continuous observations, or tuples of discrete ones, into a single number, for tabular agents."""

from __future__ import annotations

import math
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.wrappers import DiscretizeObservation, TransformObservation
from pydantic import model_validator

from rltrain.encoding import in_words
from rltrain.envs.episode import Watched
from rltrain.settings import Settings


class Discretize:
    """Each number of the observation falls into one of `bins` equal parts between `low` and `high`.

    Gymnasium's `DiscretizeObservation` needs finite bounds; where the space has none, give them here.
    Tuples of discrete parts, as Blackjack's, need no bins: they are numbered in row-major order.
    """

    class Config(Settings):
        """Bins and bounds."""

        bins: int | tuple[int, ...] = 10
        """Parts per number of the observation."""
        low: tuple[float, ...] | None = None
        """Lower bounds; null takes the space's."""
        high: tuple[float, ...] | None = None
        """Upper bounds; null takes the space's."""

        @model_validator(mode="after")
        def _positive(self) -> Discretize.Config:
            if any(b < 1 for b in (self.bins if isinstance(self.bins, tuple) else (self.bins,))):
                raise ValueError("bins must be at least 1")
            return self

    level = "env"

    def __init__(self, config: Config) -> None:
        self.config = config

    def wrap(self, env: gym.Env[Any, Any]) -> gym.Env[Any, Any]:
        """Return `env` with one `Discrete` observation. Raises ValueError for settings that do not fit it."""
        space, fields = env.observation_space, self.Config.model_fields
        if isinstance(space, gym.spaces.Tuple | gym.spaces.MultiDiscrete):
            if given := [name for name, field in fields.items() if getattr(self.config, name) != field.default]:
                raise ValueError(f"discretize numbers what is discrete as it is: leave out {', '.join(given)}")
            return _number(env, space)
        if not isinstance(space, gym.spaces.Box):
            raise ValueError(f"discretize needs a Box, MultiDiscrete or Tuple observation, not {in_words(space)}")
        size = math.prod(space.shape)
        for name in fields:
            numbers = getattr(self.config, name)
            if isinstance(numbers, tuple) and len(numbers) != size:
                raise ValueError(f"discretize: {name} has {len(numbers)} numbers, an observation {size}")
        low = np.asarray(self.config.low or space.low, space.dtype).reshape(space.shape)
        high = np.asarray(self.config.high or space.high, space.dtype).reshape(space.shape)
        if (low >= high).any():
            raise ValueError("discretize: every 'low' must be below its 'high'")
        if not (np.isfinite(low).all() and np.isfinite(high).all()):
            raise ValueError("discretize needs finite bounds: set 'low' and 'high'")
        bounded = gym.spaces.Box(low, high, dtype=space.dtype.type)
        clipped = TransformObservation(env, lambda obs: np.clip(obs, low, high), bounded)
        return DiscretizeObservation(clipped, bins=self.config.bins)


def _number(env: gym.Env[Any, Any], space: Any) -> gym.Env[Any, Any]:
    """Number the combinations of the parts: the last part counts fastest."""
    parts = list(space)  # a MultiDiscrete too is iterated as its Discrete parts
    if not all(isinstance(part, gym.spaces.Discrete) for part in parts):
        raise ValueError(f"discretize needs a Tuple of Discrete parts, not {in_words(space)}")
    sizes = [int(part.n) for part in parts]
    starts = [int(part.start) for part in parts]

    def number(obs: Any) -> int:
        index = 0
        for value, size, start in zip(obs, sizes, starts, strict=True):
            index = index * size + int(value) - start
        return index

    return TransformObservation(Watched(env), number, gym.spaces.Discrete(math.prod(sizes)))
