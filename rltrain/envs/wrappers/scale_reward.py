"""Multiply the reward that the agent learns from; the reported return stays unscaled."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import gymnasium as gym
from gymnasium.wrappers import TransformReward

from rltrain.core import EnvSpec
from rltrain.settings import Settings


class ScaleReward:
    """The agent sees `scale * reward`."""

    class Config(Settings):
        """The factor."""

        scale: float
        """Factor on every reward."""

        def notes(self, spec: EnvSpec) -> Iterator[str]:
            """That the agent is left without rewards, where it is."""
            if self.scale == 0:
                yield "scale_reward: scale is 0: the agent sees no reward of the environment"

    level = "env"

    def __init__(self, config: Config) -> None:
        self.config = config

    def wrap(self, env: gym.Env[Any, Any]) -> gym.Env[Any, Any]:
        """Return `env` with scaled rewards."""
        return TransformReward(env, lambda reward: self.config.scale * float(reward))
