"""Cut episodes short after a number of steps (a truncation, not a termination)."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
from gymnasium.wrappers import TimeLimit as GymnasiumTimeLimit
from pydantic import Field

from rltrain.settings import Settings


class TimeLimit:
    """Truncates an episode after `steps` agent steps, beside the environment's own limit."""

    class Config(Settings):
        """The limit."""

        steps: int = Field(ge=1)
        """Agent steps."""

    level = "env"

    def __init__(self, config: Config) -> None:
        self.config = config

    def wrap(self, env: gym.Env[Any, Any]) -> gym.Env[Any, Any]:
        """Return `env` with the limit."""
        return GymnasiumTimeLimit(env, self.config.steps)
