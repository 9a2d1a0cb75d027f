"""CartPole: keep a pole upright on a cart that is pushed to the left or to the right."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from rltrain.compilable import compilable
from rltrain.core import Array
from rltrain.envs.classic.task import Task, copy_state, one_of_two

GRAVITY, FORCE, SECONDS = 9.8, 10.0, 0.02
POLE_MASS, TOTAL_MASS, HALF_LENGTH = 0.1, 1.1, 0.5
POLE_MASS_LENGTH = POLE_MASS * HALF_LENGTH
MAX_POSITION, MAX_ANGLE = 2.4, 12 * 2 * math.pi / 360


@compilable
def move(state: Any, action: int) -> tuple[float, bool]:
    """One Euler step of position, velocity, angle and angular velocity."""
    x, x_dot, theta, theta_dot = state[0], state[1], state[2], state[3]
    force = FORCE if action == 1 else -FORCE
    cos, sin = math.cos(theta), math.sin(theta)
    temp = (force + POLE_MASS_LENGTH * (theta_dot * theta_dot) * sin) / TOTAL_MASS
    inertia = HALF_LENGTH * (4.0 / 3.0 - POLE_MASS * (cos * cos) / TOTAL_MASS)
    theta_acc = (GRAVITY * sin - cos * temp) / inertia
    x_acc = temp - POLE_MASS_LENGTH * theta_acc * cos / TOTAL_MASS
    x, theta = x + SECONDS * x_dot, theta + SECONDS * theta_dot
    state[0], state[1] = x, x_dot + SECONDS * x_acc
    state[2], state[3] = theta, theta_dot + SECONDS * theta_acc
    return 1.0, x < -MAX_POSITION or x > MAX_POSITION or theta < -MAX_ANGLE or theta > MAX_ANGLE


def start(rng: np.random.Generator, count: int) -> tuple[Array, Array]:
    """Close to upright and at rest."""
    states = rng.uniform(low=-0.05, high=0.05, size=(count, 4))
    return states, states.astype(np.float32)


TASK = Task("gymnasium.envs.classic_control.cartpole:CartPoleEnv", 4, one_of_two, move, copy_state, start)
