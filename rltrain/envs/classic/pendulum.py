"""Pendulum: swing a pendulum up and hold it there, with a motor that is too weak to lift it at once."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from rltrain.compilable import compilable
from rltrain.core import Array
from rltrain.envs.classic.task import Task, anything, square

MAX_SPEED, SECONDS, GRAVITY = 8.0, 0.05, 10.0
MAX_TORQUE, COST = np.float32(2.0), np.float32(0.001)
"""The torque is a number of single precision, and so is what is computed from it alone."""


@compilable
def move(state: Any, action: Any) -> tuple[float, bool]:
    """Apply the torque action[0], from -2 to 2. The task is never over."""
    theta, speed = state[0], state[1]
    torque = min(max(np.float32(action[0]), -MAX_TORQUE), MAX_TORQUE)
    angle = (theta + math.pi) % (2 * math.pi) - math.pi
    effort = COST * torque ** (np.float32(2.0) + np.float32(0.0) * torque)  # by `powf`, as in `square`
    cost = square(angle) + 0.1 * square(speed) + np.float64(effort)
    speed = speed + (3 * GRAVITY / 2.0 * math.sin(theta) + np.float64(np.float32(3.0) * torque)) * SECONDS
    speed = min(max(speed, -MAX_SPEED), MAX_SPEED)
    state[0], state[1] = theta + speed * SECONDS, speed
    return -cost, False


@compilable
def observe(state: Any, obs: Any) -> None:
    """Where the free end is, and how fast it turns."""
    obs[0], obs[1], obs[2] = math.cos(state[0]), math.sin(state[0]), state[1]


def start(rng: np.random.Generator, count: int) -> tuple[Array, Array]:
    """Anywhere, turning slowly."""
    high = np.array([np.pi, 1.0])
    states = rng.uniform(low=-high, high=high, size=(count, 2))
    obs = [np.cos(states[:, 0]), np.sin(states[:, 0]), states[:, 1]]
    return states, np.stack(obs, axis=1).astype(np.float32)


TASK = Task("gymnasium.envs.classic_control.pendulum:PendulumEnv", 2, anything, move, observe, start)
