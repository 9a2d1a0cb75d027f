"""Which environments have a compiled version, and the proof that it is true."""

from __future__ import annotations

from functools import cache
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.utils.seeding import np_random

from rltrain.config.schema import EnvSettings
from rltrain.envs.classic import acrobot, cartpole, mountain_car, mountain_car_continuous, pendulum
from rltrain.envs.classic.task import Task
from rltrain.jit import available
from rltrain.registry import find

TASKS = {
    part.TASK.entry_point: part.TASK for part in (acrobot, cartpole, mountain_car, mountain_car_continuous, pendulum)
}
PROBE_EPISODES, PROBE_STEPS = 3, 25
"""How long Gymnasium's environment and ours are compared for before ours is trusted."""


def obstacle(settings: EnvSettings) -> str | None:
    """Why these environments cannot be stepped by compiled code; None if they can."""
    spec = gym.spec(settings.id)
    if spec.entry_point not in TASKS or spec.kwargs or spec.additional_wrappers:
        return f"{settings.id} has no compiled version"
    if settings.kwargs:
        return "a compiled environment takes no env.kwargs"
    for wrapper in settings.wrappers:
        component = find("wrappers", wrapper.name)(wrapper)  # type: ignore[attr-defined]
        if component.level == "env":
            return f"the wrapper {wrapper.name} needs single environments"  # type: ignore[attr-defined]
    if not available():
        return "numba is not installed"
    true = is_true(TASKS[str(spec.entry_point)], settings.id)
    return None if true else f"Gymnasium's {settings.id} does not take the steps of the compiled version"


@cache
def is_true(task: Task, env_id: str) -> bool:
    """Whether Gymnasium's environment takes the very same steps, here and in the version that is installed.

    They would differ in the last bit where NumPy's sines are not those of the C library.
    """
    env: Any = gym.make(env_id, disable_env_checker=True).unwrapped
    rng = np_random(0)[0]
    env.action_space.seed(0)
    try:
        for episode in range(PROBE_EPISODES):
            states, (expected,) = task.start(rng, 1)
            seen, _ = env.reset(seed=None if episode else 0)
            for _ in range(PROBE_STEPS):
                same = np.array_equal(env.state, states[0, : np.size(env.state)])
                if not same or not np.array_equal(seen, expected):
                    return False
                action = env.action_space.sample()
                seen, paid, terminated, _, _ = env.step(action)
                if task.move(states[0], action) != (paid, terminated):
                    return False
                task.observe(states[0], expected)
                if terminated:
                    break
        return True  # a draw more or less would have shown in the next episode
    finally:
        env.close()
