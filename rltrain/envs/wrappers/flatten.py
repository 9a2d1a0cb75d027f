"""Flatten any observation (Dict, Tuple, Discrete as one-hot, images) to a vector."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
from gymnasium.wrappers import FlattenObservation

from rltrain.settings import Settings


class Flatten:
    """Observations become one vector, with Gymnasium's `FlattenObservation`."""

    class Config(Settings):
        """No settings."""

    level = "env"

    def __init__(self, config: Config) -> None:
        self.config = config

    def wrap(self, env: gym.Env[Any, Any]) -> gym.Env[Any, Any]:
        """Return `env`, flattened."""
        return FlattenObservation(env)
