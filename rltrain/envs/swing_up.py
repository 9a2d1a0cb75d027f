"""SwingUp: the pole hangs down, and nothing pays before it stands; every push on the way costs something."""

from __future__ import annotations

import math
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.envs.classic_control.cartpole import CartPoleEnv

from rltrain.core import Array

PUSH = 10.0
"""Newton, as CartPole's."""
NARROW = 1.0
"""Metres from the middle, and radians a second, within which a standing pole pays."""


class SwingUp(CartPoleEnv):
    """CartPole's cart and pole, begun with the pole hanging; actions push left, not at all, or right.

    A step pays 1 where cos(angle) > `height`, the cart is less than 1 m from the middle and the pole turns at less than
    1 rad/s, and costs `move_cost` for a push. Leaving the track, 2.4 m to each side, ends the episode; falling does
    not. Observed are position, speed, cosine and sine of the angle, and angular speed.

    Source: the task of Osband et al. 2020, "Behaviour Suite for Reinforcement Learning",
    https://arxiv.org/abs/1908.03568, on Gymnasium's equations of motion and step of 0.02 s, integrated so that a
    swing keeps its energy.
    """

    def __init__(self, height: float = 0.8, move_cost: float = 0.1, render_mode: str | None = None) -> None:
        if not -1 <= height < 1 or move_cost < 0:
            raise ValueError(f"height must be within -1 and 1 and move_cost not negative, not {height} and {move_cost}")
        super().__init__(render_mode=render_mode)
        self.state: Array
        self.height, self.move_cost = height, move_cost
        self.theta_threshold_radians = math.inf
        self.kinematics_integrator = "semi-implicit euler"  # the other adds energy: the pole would swing up by itself
        bound = np.array([2 * self.x_threshold, np.inf, 1.0, 1.0, np.inf], np.float32)
        self.observation_space = gym.spaces.Box(-bound, bound)
        self.action_space = gym.spaces.Discrete(3)  # type: ignore[assignment]

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Array, dict[str, Any]]:
        """Hang the pole, at most 0.05 from rest in every number of the state."""
        super().reset(seed=seed, options=options)
        self.state = self.state + np.array([0.0, 0.0, math.pi, 0.0])
        return self._observe(), {}

    def step(self, action: Any) -> tuple[Array, float, bool, bool, dict[str, Any]]:
        """Push with -10, 0 or 10 N."""
        if not self.action_space.contains(action):
            raise ValueError(f"there is no action {action!r}")
        self.force_mag = PUSH * (int(action) - 1)
        _, _, terminated, _, info = super().step(1)  # type: ignore[no-untyped-call]
        x, _, angle, turning = self.state
        stands = math.cos(angle) > self.height and abs(x) < NARROW and abs(turning) < NARROW
        return self._observe(), stands - self.move_cost * (action != 1), terminated, False, info

    def _observe(self) -> Array:
        x, speed, angle, turning = self.state
        return np.array([x, speed, math.cos(angle), math.sin(angle), turning], np.float32)
