"""A tabular agent, and one step after the other to learn from. The discount is 1/2, and so is the learning rate."""

import gymnasium as gym
import numpy as np

from rltrain.core import EnvSpec
from rltrain.registry import find, settings_class
from rltrain.tabular import Step

Q = np.array([[1.0, 2.0], [4.0, 8.0], [16.0, 32.0], [64.0, 128.0]])
ENDS = ["", "truncated", "terminated", "terminated and truncated"]


def agent(name, q=0.0, *, num_envs=1, first=0, epsilon=1.0, selector=None, **settings):
    """An agent over 4 states and 2 actions, numbered from `first` on, whose table begins as `q`, or as it is set."""
    spaces = gym.spaces.Discrete(4, start=first), gym.spaces.Discrete(2, start=first)
    config = settings_class("agents", name)(name=name, **{"gamma": 0.5, "learning_rate": 0.5, **settings})
    greedy = find("explorations", "epsilon_greedy")
    made = find("agents", name)(
        config,
        EnvSpec("test", *spaces, num_envs, max_episode_steps=20),
        exploration=selector or greedy(greedy.Config(epsilon=epsilon)),
        rng=np.random.default_rng(0),
        device="cpu",
    )
    for table in {"q", "pair"} & {*made.memory._fields} if q is not None else ():
        getattr(made.memory, table)[:] = q
    return made


def learn(made, obs, action, reward, next_obs, next_action=-1, ends="", *, env=0, rate=0.5):
    """One step as the agent takes it in, with the next action given. Returns what Q (S, A) is then."""
    made.memory.visits[obs, action] += 1
    over = "terminated" in ends, "truncated" in ends
    next_action = -1 if over[0] else next_action
    type(made).learn(
        made.memory,
        made.constants,
        Step(env, obs, action, reward, next_obs, next_action, *over, rate),
        made.policy,
        made.rng,
    )
    return made.memory.q.copy()


class Coins:
    """A generator whose draws are known."""

    def __init__(self, *draws):
        self.random = iter(draws).__next__


def changed(q, **entries):
    """`q` with entries such as s0a1=3 set."""
    q = np.zeros((4, 2)) + q
    for name, value in entries.items():
        q[int(name[1]), int(name[3])] = value
    return q


def stream(seed, steps, envs=1):
    """A random stream of (obs, action, reward, next_obs, next_action, ends, env, rate), whole in its episodes."""
    rng = np.random.default_rng(seed)
    now = [(int(rng.integers(4)), int(rng.integers(2))) for _ in range(envs)]
    for _ in range(steps):
        env = int(rng.integers(envs))
        following = int(rng.integers(4)), int(rng.integers(2))
        ends = ENDS[int(rng.integers(1, 4))] if rng.random() < 0.15 else ""
        yield *now[env], float(rng.normal()), *following, ends, env, float(rng.random())
        now[env] = (int(rng.integers(4)), int(rng.integers(2))) if ends else following


def feed(made, steps):
    for *step, env, rate in steps:
        learn(made, *step, env=env, rate=rate)
    return made.memory.q.copy()
