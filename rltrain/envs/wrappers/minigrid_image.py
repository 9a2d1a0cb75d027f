"""Show the agent a MiniGrid as an image of bytes, and nothing else: neither mission nor direction."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
from gymnasium.wrappers import TransformObservation
from pydantic import Field

from rltrain.settings import Settings

STRETCH = 25
"""MiniGrid's greatest number for an object is 10, that of a byte 255."""


class MinigridImage:
    """Observations of MiniGrid, a Dict, become its image alone: in colours, or as numbers for object, colour and state.

    Source: https://minigrid.farama.org/api/wrapper/
    """

    class Config(Settings):
        """What is shown."""

        tile_size: int | None = Field(default=None, ge=1, le=64)
        """Draw every cell in colours, with so many pixels in height and width, which makes a step four times slower.

        null for one pixel a cell whose channels are what MiniGrid itself gives: object (0 to 10), colour (0 to 5) and
        state (0 to 3), times 25.
        """
        whole: bool = False
        """The whole grid from above; false for what the agent sees, by default the 7 by 7 cells before it."""

    level = "env"

    def __init__(self, config: Config) -> None:
        self.config = config

    def wrap(self, env: gym.Env[Any, Any]) -> gym.Env[Any, Any]:
        """Return `env` with images. Raises ValueError where it is no MiniGrid, or MiniGrid is not installed."""
        try:
            from minigrid import minigrid_env, wrappers
        except ImportError as error:
            raise ValueError("minigrid_image needs MiniGrid: pip install 'rltrain[minigrid]'") from error
        if not isinstance(env.unwrapped, minigrid_env.MiniGridEnv):
            raise ValueError(f"minigrid_image is for MiniGrid alone, not {env.unwrapped}: leave it out")
        its: Any = wrappers  # without types
        size, whole = self.config.tile_size, self.config.whole
        if size is not None:
            drawn = its.RGBImgObsWrapper if whole else its.RGBImgPartialObsWrapper
            picture: gym.Env[Any, Any] = its.ImgObsWrapper(drawn(env, tile_size=size))
            return picture
        image = its.ImgObsWrapper(its.FullyObsWrapper(env) if whole else env)
        return TransformObservation(image, lambda obs: obs * STRETCH, image.observation_space)
