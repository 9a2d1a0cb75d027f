"""Clip the reward that the agent learns from; the reported return stays unclipped."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
from gymnasium.wrappers import TransformReward
from pydantic import model_validator

from rltrain.settings import Settings


class ClipReward:
    """The agent sees the reward clipped to [low, high]."""

    class Config(Settings):
        """The bounds."""

        low: float = -1.0
        """Smallest reward."""
        high: float = 1.0
        """Greatest reward."""

        @model_validator(mode="after")
        def _ordered(self) -> ClipReward.Config:
            if self.low >= self.high:
                raise ValueError("low must be below high")
            return self

    level = "env"

    def __init__(self, config: Config) -> None:
        self.config = config

    def wrap(self, env: gym.Env[Any, Any]) -> gym.Env[Any, Any]:
        """Return `env` with clipped rewards."""
        low, high = self.config.low, self.config.high
        return TransformReward(env, lambda reward: min(max(float(reward), low), high))
