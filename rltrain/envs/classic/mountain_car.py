"""MountainCar: drive a car out of a valley that is too steep for its engine."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from rltrain.compilable import compilable
from rltrain.core import Array
from rltrain.envs.classic.task import Task, copy_state, one_of_three

MIN_POSITION, MAX_POSITION, MAX_SPEED, GOAL = -1.2, 0.6, 0.07, 0.5
FORCE, GRAVITY = 0.001, 0.0025


@compilable
def move(state: Any, action: int) -> tuple[float, bool]:
    """Accelerate to the left (0), not at all (1), or to the right (2)."""
    position, velocity = state[0], state[1]
    velocity += (action - 1) * FORCE + math.cos(3 * position) * (-GRAVITY)
    velocity = min(max(velocity, -MAX_SPEED), MAX_SPEED)
    position = min(max(position + velocity, MIN_POSITION), MAX_POSITION)
    if position == MIN_POSITION and velocity < 0.0:
        velocity = 0.0
    state[0], state[1] = position, velocity
    return -1.0, position >= GOAL and velocity >= 0.0


def start(rng: np.random.Generator, count: int) -> tuple[Array, Array]:
    """At rest near the bottom of the valley."""
    states = np.zeros((count, 2))
    states[:, 0] = rng.uniform(low=-0.6, high=-0.4, size=count)
    return states, states.astype(np.float32)


TASK = Task("gymnasium.envs.classic_control.mountain_car:MountainCarEnv", 2, one_of_three, move, copy_state, start)
