"""A plugin: FrozenLake behind a gate, before which a run is in the midst of its training for as long as a test wants."""

import math
import os
import time
from pathlib import Path

import gymnasium as gym
from gymnasium.envs.toy_text.frozen_lake import FrozenLakeEnv

CRAWL_SECONDS = 0.05
"""Of a step before the gate: those that are left to a run, some thousands, take longer than any test waits."""


class Gate:
    """A folder, in which a run that has come to the gate has a file, named after its process."""

    def __init__(self, folder):
        self.folder = Path(folder)
        self.folder.mkdir()

    def at(self, step, **kwargs):
        """What a command is told so that its runs wait from this step on."""
        kwargs = ", ".join(f"{name}: {value}" for name, value in {"gate": self.folder, "at": step, **kwargs}.items())
        return "env.id=Gated-v0", f"env.kwargs={{{kwargs}}}"

    def waiting(self):
        """The processes of runs that wait."""
        return [int(path.name) for path in self.folder.glob("[0-9]*")]

    def let_go(self, *pids):
        """Have these runs go on; others wait when they come."""
        for pid in pids:
            (self.folder / str(pid)).unlink(missing_ok=True)

    def open(self):
        """Have every run go on, also those that are still to come."""
        (self.folder / "open").touch()


class Gated(FrozenLakeEnv):
    """FrozenLake that crawls from its step `at` on, until it is let go.

    It does not stand still, so that a run which is told to stop does. With `below` it does so only where no episode
    has had so many steps. Steps are counted from where the process begins, or goes on.
    """

    def __init__(self, gate, at, below=math.inf):
        super().__init__()
        self.mine, self.opened = Path(gate, str(os.getpid())), Path(gate, "open")
        self.at, self.below = at, below
        self.steps = self.length = self.longest = 0

    def reset(self, *, seed=None, options=None):
        self.length = 0
        return super().reset(seed=seed, options=options)

    def step(self, action):
        self.steps, self.length = self.steps + 1, self.length + 1
        self.longest = max(self.longest, self.length)
        if self.steps >= self.at and self.longest < self.below:
            self._wait()
        return super().step(action)

    def _wait(self):
        if self.steps == self.at and not self.opened.exists():
            self.mine.touch()
        if self.mine.exists() and not self.opened.exists():
            time.sleep(CRAWL_SECONDS)


gym.register("Gated-v0", Gated, max_episode_steps=100, reward_threshold=0.7)
