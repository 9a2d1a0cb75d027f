"""Shared by all tests: one thread each, and small configurations that run in a fraction of a second."""

import os

for _threads in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_threads] = "1"

import sys
from pathlib import Path

import gymnasium as gym
import pytest

ROOT = Path(__file__).parent.parent

SMALL = """
env: {id: CartPole-v1}
agent: {name: dqn, hidden_sizes: [16, 16], batch_size: 16, buffer_size: 600, learning_starts: 50,
        n_step: 3, train_freq: 2, target_update_interval: 40, double: true, learning_rate: 1e-3}
exploration: {name: epsilon_greedy, epsilon: {schedule: linear, start: 1.0, end: 0.1, steps: 500}}
train: {total_steps: 1_500, log_every: 100}
eval: {every: 400, episodes: 3}
checkpoint: {every: 250, keep_last: 3, keep_best: 1}
seed: 3
device: cpu
"""


class Unrepeatable(gym.Env):
    """Never the same twice, so that no open episode can be repeated."""

    observation_space, action_space, count = gym.spaces.Discrete(1_000), gym.spaces.Discrete(2), 0

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        type(self).count += 1
        return self.count % 1_000, {}

    def step(self, action):
        return self.count % 1_000, 1.0, False, False, {}


@pytest.fixture(autouse=True)
def tiny_numbers():
    """Networks of torch let numbers that are too small be 0 in all of the process; the next test has them again."""
    yield
    if torch := sys.modules.get("torch"):
        torch.set_flush_denormal(False)


@pytest.fixture
def unrepeatable():
    """Id of an environment whose open episodes begin anew when a run is resumed; cut after ten steps."""
    gym.register("Unrepeatable-v0", Unrepeatable, max_episode_steps=10)
    yield "Unrepeatable-v0"
    del gym.registry["Unrepeatable-v0"]


@pytest.fixture
def small_config(tmp_path):
    """Path of a configuration that trains in about a second."""
    path = tmp_path / "small.yaml"
    path.write_text(SMALL)
    return path


@pytest.fixture
def bench(tmp_path):
    """Where studies of made-up runs are opened and searched in."""
    pytest.importorskip("optuna", reason="Optuna is not installed")
    from pretending import Bench

    return Bench(tmp_path)
