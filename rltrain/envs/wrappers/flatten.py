"""Flatten any observation (Dict, Tuple, Discrete as one-hot, images) to a vector."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
from gymnasium.wrappers import FlattenObservation

from rltrain.encoding import has_mission, in_words
from rltrain.envs.episode import Watched
from rltrain.settings import Settings


class Flatten:
    """Observations become one vector, with Gymnasium's `FlattenObservation`."""

    class Config(Settings):
        """No settings."""

    level = "env"

    def __init__(self, config: Config) -> None:
        self.config = config

    def wrap(self, env: gym.Env[Any, Any]) -> gym.Env[Any, Any]:
        """Return `env`, flattened. Raises ValueError where an observation has no fixed numbers."""
        space = env.observation_space
        if has_mission(space):  # Gymnasium has no flattening for it
            raise ValueError(f"flatten makes no vector of {in_words(space)}: use minigrid_image instead")
        flat = FlattenObservation(Watched(env))
        if not isinstance(flat.observation_space, gym.spaces.Box):
            raise ValueError(f"flatten makes no vector of {in_words(space)}: use a wrapper of your own instead")
        return flat
