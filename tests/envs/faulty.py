"""An environment that does what environments do: hang, raise, end their process. Registered when it is imported."""

import os
import signal
import time
from pathlib import Path

import gymnasium as gym
import numpy as np


def fail(how, once):
    """Do it."""
    if how == "orphan":
        child = os.fork()  # it holds the pipe open
        if child == 0:
            time.sleep(1_000)
        Path(once).write_text(str(child))
        os._exit(3)
    if how == "hang":
        time.sleep(1_000)
    elif how == "stop":
        os.kill(os.getpid(), signal.SIGSTOP)
    elif how == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    elif how == "exit":
        os._exit(3)
    elif how == "leave":
        raise SystemExit(0)
    raise ValueError("the simulator is gone\nwith details")


class Faulty(gym.Env):
    """Fails `how` in step `at` (0: in `reset`) of episodes that began with the seed `victim`, None being any episode.

    With `once`, the name of a file, it fails only while there is no such file.
    """

    observation_space, action_space = gym.spaces.Box(0, 100, (2,), np.float64), gym.spaces.Discrete(2)

    def __init__(self, how="raise", at=1, victim=-1, once=None):
        self.how, self.at, self.victim, self.once = how, at, victim, once

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.steps, self.seed, self.end = 0, seed, int(self.np_random.integers(5, 30))
        self._maybe_fail()
        return np.array([self.np_random.random(), 0]), {}

    def step(self, action):
        self.steps += 1
        self._maybe_fail()
        draw = self.np_random.random()
        return np.array([draw, self.steps]), draw + float(action), self.steps >= self.end, False, {}

    def _maybe_fail(self):
        if self.steps != self.at or (self.victim is not None and self.seed != self.victim):
            return
        if self.once is not None:
            try:
                os.close(os.open(self.once, os.O_CREAT | os.O_EXCL))
            except FileExistsError:
                return
        fail(self.how, self.once)


if "Faulty-v0" not in gym.registry:
    gym.register("Faulty-v0", Faulty, max_episode_steps=50)
