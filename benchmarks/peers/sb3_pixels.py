"""Stable-Baselines3's DQN on random screens: how many gradient steps a second. Prints one number."""

import sys
import time

import gymnasium as gym
import numpy as np
import torch
from stable_baselines3 import DQN


class Screens(gym.Env):
    """Four frames of 84 by 84 random pixels, of which each step brings a new one."""

    observation_space = gym.spaces.Box(0, 255, (4, 84, 84), np.uint8)
    action_space = gym.spaces.Discrete(6)

    def reset(self, *, seed=None, options=None):
        """Begin with four random frames."""
        super().reset(seed=seed)
        self.steps = 0
        self.stack = self.np_random.integers(0, 256, (4, 84, 84), np.uint8)
        return self.stack, {}

    def step(self, action):
        """Bring a frame; an episode has 100."""
        self.steps += 1
        self.stack = np.concatenate((self.stack[1:], self.np_random.integers(0, 256, (1, 84, 84), np.uint8)))
        return self.stack, float(self.steps % 7 == 0), self.steps == 100, False, {}


torch.set_num_threads(1)
model = DQN("CnnPolicy", Screens(), learning_rate=1e-4, buffer_size=2_000, learning_starts=1_000, batch_size=32, seed=0)
model.learn(1_000)
model.train(5, 32)
steps = int(sys.argv[1])
began = time.perf_counter()
model.train(steps, 32)
print(steps / (time.perf_counter() - began))
