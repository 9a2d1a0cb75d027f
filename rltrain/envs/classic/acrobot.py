"""Acrobot: swing the free end of two links above a line, with a motor between them.

Sources: Sutton 1996; Sutton and Barto 2018, whose equation of motion this is (`book_or_nips = "book"`).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from rltrain.compilable import compilable
from rltrain.core import Array
from rltrain.envs.classic.task import Task, one_of_three, square

SECONDS, GRAVITY = 0.2, 9.8
MASS, LENGTH, CENTRE, INERTIA = 1.0, 1.0, 0.5, 1.0
"""Of either link; CENTRE is how far along the link its mass is."""
MAX_SPEED_1, MAX_SPEED_2 = 4 * math.pi, 9 * math.pi


@compilable
def derivatives(
    theta1: float, theta2: float, speed1: float, speed2: float, torque: float
) -> tuple[float, float, float, float]:
    """How the two angles and their speeds change."""
    cos2, sin2 = math.cos(theta2), math.sin(theta2)
    coupling = MASS * LENGTH * CENTRE
    lengths = LENGTH * LENGTH + CENTRE * CENTRE + 2 * LENGTH * CENTRE * cos2
    d1 = MASS * (CENTRE * CENTRE) + MASS * lengths + INERTIA + INERTIA
    d2 = MASS * (CENTRE * CENTRE + LENGTH * CENTRE * cos2) + INERTIA
    phi2 = MASS * CENTRE * GRAVITY * math.cos(theta1 + theta2 - math.pi / 2.0)
    phi1 = (
        -coupling * square(speed2) * sin2
        - 2 * coupling * speed2 * speed1 * sin2
        + (MASS * CENTRE + MASS * LENGTH) * GRAVITY * math.cos(theta1 - math.pi / 2)
        + phi2
    )
    force = torque + d2 / d1 * phi1 - coupling * square(speed1) * sin2 - phi2
    acceleration2 = force / (MASS * (CENTRE * CENTRE) + INERTIA - square(d2) / d1)
    acceleration1 = -(d2 * acceleration2 + phi1) / d1
    return speed1, speed2, acceleration1, acceleration2


@compilable
def runge_kutta(state: Any, torque: float) -> tuple[float, float, float, float]:
    """The state after SECONDS, by one step of the classical fourth-order method."""
    a, b, c, d = state[0], state[1], state[2], state[3]
    half, sixth = SECONDS / 2.0, SECONDS / 6.0
    a1, b1, c1, d1 = derivatives(a, b, c, d, torque)
    a2, b2, c2, d2 = derivatives(a + half * a1, b + half * b1, c + half * c1, d + half * d1, torque)
    a3, b3, c3, d3 = derivatives(a + half * a2, b + half * b2, c + half * c2, d + half * d2, torque)
    a4, b4, c4, d4 = derivatives(a + SECONDS * a3, b + SECONDS * b3, c + SECONDS * c3, d + SECONDS * d3, torque)
    return (
        a + sixth * (a1 + 2 * a2 + 2 * a3 + a4),
        b + sixth * (b1 + 2 * b2 + 2 * b3 + b4),
        c + sixth * (c1 + 2 * c2 + 2 * c3 + c4),
        d + sixth * (d1 + 2 * d2 + 2 * d3 + d4),
    )


@compilable
def wrap(angle: float) -> float:
    """The same direction, between -pi and pi."""
    while angle > math.pi:
        angle -= math.pi - -math.pi
    while angle < -math.pi:
        angle += math.pi - -math.pi
    return angle


@compilable
def move(state: Any, action: int) -> tuple[float, bool]:
    """Apply the torque -1, 0 or 1 between the links."""
    theta1, theta2, speed1, speed2 = runge_kutta(state, action - 1.0)
    theta1, theta2 = wrap(theta1), wrap(theta2)
    state[0], state[1] = theta1, theta2
    state[2] = min(max(speed1, -MAX_SPEED_1), MAX_SPEED_1)
    state[3] = min(max(speed2, -MAX_SPEED_2), MAX_SPEED_2)
    over = -math.cos(theta1) - math.cos(theta2 + theta1) > 1.0
    return 0.0 if over else -1.0, over


@compilable
def observe(state: Any, obs: Any) -> None:
    """Cosine and sine of both angles, and both speeds."""
    obs[0], obs[1] = math.cos(state[0]), math.sin(state[0])
    obs[2], obs[3] = math.cos(state[1]), math.sin(state[1])
    obs[4], obs[5] = state[2], state[3]


def start(rng: np.random.Generator, count: int) -> tuple[Array, Array]:
    """Hanging down, almost at rest; in single precision, and so are its cosines and sines."""
    states = rng.uniform(low=-0.1, high=0.1, size=(count, 4)).astype(np.float32)
    first, second, speed1, speed2 = states.T
    obs = [np.cos(first), np.sin(first), np.cos(second), np.sin(second), speed1, speed2]
    return states.astype(np.float64), np.stack(obs, axis=1)


TASK = Task("gymnasium.envs.classic_control.acrobot:AcrobotEnv", 4, one_of_three, move, observe, start)
