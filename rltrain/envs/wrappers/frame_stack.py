"""Show the agent the last few observations at once."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
from gymnasium.wrappers import FrameStackObservation
from pydantic import Field

from rltrain.envs.episode import Watched
from rltrain.settings import Settings


class FrameStack:
    """Observations become the last `size` ones, (size, *obs_shape); a new episode starts with copies."""

    class Config(Settings):
        """How many observations."""

        size: int = Field(default=4, ge=1, le=1_000)
        """Observations seen at once."""

    level = "env"

    def __init__(self, config: Config) -> None:
        self.config = config

    def wrap(self, env: gym.Env[Any, Any]) -> gym.Env[Any, Any]:
        """Return `env`, stacked."""
        return FrameStackObservation(Watched(env), self.config.size, padding_type="reset")
