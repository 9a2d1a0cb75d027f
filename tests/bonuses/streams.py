"""Streams of steps for bonuses, and bonuses by name."""

import gymnasium as gym
import numpy as np

from rltrain.core import EnvSpec, Transition
from rltrain.registry import find, settings_class

REAL = gym.spaces.Box(-np.inf, np.inf, (4,), np.float32)
UNIT = gym.spaces.Box(-1.0, 1.0, (2,), np.float32)
TWO = gym.spaces.Discrete(2)


def spec(obs=REAL, action=TWO, num_envs=1):
    return EnvSpec("x", obs, action, num_envs)


def bonus(name, env, seed=0, **settings):
    """The bonus, with a scale of 1 if nothing else is said."""
    made = settings_class("bonuses", name)(name=name, **{"scale": 1.0, **settings})
    return find("bonuses", name)(made, env, rng=np.random.default_rng(seed))


def step(obs, next_obs, action=None, ends=None):
    """One step of as many environments as there are rows; `ends` tells which of them end."""
    obs, next_obs = np.asarray(obs), np.asarray(next_obs)
    count = len(obs)
    action = np.zeros(count, np.int64) if action is None else np.asarray(action)
    over = np.zeros(count, bool) if ends is None else np.asarray(ends)
    return Transition(obs, action, np.zeros(count, np.float32), next_obs, over, np.zeros(count, bool))


def walk(env, steps, seed=0, end_every=7):
    """Steps whose spaces are those of `env`; every environment ends at a time of its own."""
    rng = np.random.default_rng(seed)

    def draw(space):
        if isinstance(space, gym.spaces.Discrete):
            return rng.integers(space.start, space.start + space.n, env.num_envs)
        if isinstance(space, gym.spaces.Box) and space.dtype == np.float32:
            return rng.normal(size=(env.num_envs, *space.shape)).astype(np.float32)
        space.seed(int(rng.integers(1_000_000)))
        return np.stack([space.sample() for _ in range(env.num_envs)])

    obs = draw(env.observation_space)
    for t in range(steps):
        ends = (t + np.arange(env.num_envs)) % end_every == end_every - 1
        next_obs = draw(env.observation_space)
        yield step(obs, next_obs, draw(env.action_space), ends)
        obs = next_obs
