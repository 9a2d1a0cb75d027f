"""MountainCarContinuous: the same valley, with an engine that costs the square of its force.

Gymnasium keeps the state in single precision, but draws the first one in double, and a Python float beside a
single-precision number counts as one. An action beyond the bounds is clipped to a Python float, one within them
stays a NumPy number: which of two sums is rounded earlier depends on that.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from rltrain.compilable import compilable
from rltrain.core import Array
from rltrain.envs.classic.task import Task, anything, copy_state

MIN_POSITION, MAX_POSITION = np.float32(-1.2), np.float32(0.6)
MAX_SPEED, GOAL = np.float32(0.07), np.float32(0.45)
POWER, GRAVITY = 0.0015, 0.0025


@compilable
def push(force: Any, slope: float) -> float:
    """What the engine and the hill add to the velocity."""
    if force < -1.0 or force > 1.0:
        return (1.0 if force > 0.0 else -1.0) * POWER - slope
    return np.float64(np.float32(force * np.float32(POWER)) - np.float32(slope))


@compilable
def move(state: Any, action: Any) -> tuple[float, bool]:
    """Accelerate by action[0], from -1 to 1. The last number of the state says whether it is the first."""
    force = np.float32(action[0])
    cost = np.float64(force) * np.float64(force) * 0.1  # Numba leaves float(force) in single precision
    if state[2] == 1.0:  # in double precision, and nowhere near a bound
        added = push(force, GRAVITY * math.cos(3 * state[0]))
        state[0], state[1], state[2] = np.float32(state[0] + added), np.float32(added), 0.0
        return 0.0 - cost, False
    position, velocity = np.float32(state[0]), np.float32(state[1])
    added = push(force, GRAVITY * math.cos(np.float64(np.float32(3.0) * position)))
    velocity = np.float32(velocity + np.float32(added))
    velocity = min(max(velocity, -MAX_SPEED), MAX_SPEED)
    position = min(max(np.float32(position + velocity), MIN_POSITION), MAX_POSITION)
    if position == MIN_POSITION and velocity < np.float32(0.0):
        velocity = np.float32(0.0)
    over = bool(position >= GOAL and velocity >= np.float32(0.0))
    state[0], state[1] = position, velocity
    return (100.0 if over else 0.0) - cost, over


def start(rng: np.random.Generator, count: int) -> tuple[Array, Array]:
    """At rest near the bottom of the valley."""
    states = np.zeros((count, 3))
    states[:, 0] = rng.uniform(low=-0.6, high=-0.4, size=count)
    states[:, 2] = 1.0
    return states, states[:, :2].astype(np.float32)


ENTRY_POINT = "gymnasium.envs.classic_control.continuous_mountain_car:Continuous_MountainCarEnv"
TASK = Task(ENTRY_POINT, 3, anything, move, copy_state, start)
