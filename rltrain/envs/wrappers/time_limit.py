"""Cut episodes short after a number of steps (a truncation, not a termination)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import gymnasium as gym
from gymnasium.wrappers import TimeLimit as GymnasiumTimeLimit
from pydantic import Field

from rltrain.core import EnvSpec
from rltrain.settings import Settings


class TimeLimit:
    """Truncates an episode after `steps` agent steps, beside the environment's own limit."""

    class Config(Settings):
        """The limit."""

        steps: int = Field(ge=1)
        """Agent steps."""

        def notes(self, spec: EnvSpec) -> Iterator[str]:
            """That the environment ends an episode sooner, where it does."""
            limit = spec.max_episode_steps
            if limit is not None and self.steps >= limit:
                yield f"time_limit: {self.steps:,} steps do nothing: an episode ends after {limit:,} anyway"

    level = "env"

    def __init__(self, config: Config) -> None:
        self.config = config

    def wrap(self, env: gym.Env[Any, Any]) -> gym.Env[Any, Any]:
        """Return `env` with the limit."""
        return GymnasiumTimeLimit(env, self.config.steps)
