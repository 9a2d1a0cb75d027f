"""Small policy-gradient agents, and probe environments in which little happens."""

import gymnasium as gym
import numpy as np

from rltrain.core import EnvSpec, Transition
from rltrain.registry import find, settings_class
from rltrain.schedules import Constant

TWO = gym.spaces.Discrete(2)
LINE = gym.spaces.Box(-1.0, 2.0, (1,), np.float32)
PLANE = gym.spaces.Box(-10, 10, (2,), np.float32)
AGENTS = ["reinforce", "reinforce_alone", "actor_critic", "a2c", "ppo"]
CRITICS = [name for name in AGENTS if name != "reinforce_alone"]
SMALL = {
    "reinforce": {"episodes_per_update": 16},
    "reinforce_alone": {"episodes_per_update": 16, "baseline": False},
    "actor_critic": {},
    "a2c": {"n_steps": 4, "optimizer": "adam"},
    "ppo": {"n_steps": 4, "batch_size": 16, "n_epochs": 4},
}


def spec(actions=TWO, envs=1, observations=PLANE):
    return EnvSpec("test", observations, actions, envs)


def agent(name, seed=0, *, actions=TWO, envs=1, observations=PLANE, **settings):
    """An agent with a small network."""
    kind = name.removesuffix("_alone")
    rate = settings.pop("learning_rate", 2e-2)
    rate = Constant(value=rate) if isinstance(rate, float | int) else rate
    config = settings_class("agents", kind)(
        name=kind, **{"hidden_sizes": (16,), "learning_rate": rate, **SMALL[name], **settings}
    )
    made = spec(actions, envs, observations)
    return find("agents", kind)(config, made, exploration=None, rng=np.random.default_rng(seed), device="cpu")


def constant(rng, envs):
    """The same observation at every step."""
    return np.tile(np.array([1.0, 0.0], np.float32), (envs, 1))


def either(rng, envs):
    """1 or -1 at every step."""
    return np.stack([rng.choice([-1.0, 1.0], envs), np.ones(envs)], 1).astype(np.float32)


def play(
    agent,
    steps,
    *,
    envs=1,
    length=8,
    sees=constant,
    reward=lambda obs, action: 1.0,
    bonus=None,
    ends="truncated",
    seed=0,
):
    """Vector steps in an environment that does not listen; episodes of `length` steps end as told, one
    environment after the other."""
    rng, no = np.random.default_rng(seed), np.zeros(envs, bool)
    obs = sees(rng, envs)
    for step in range(1, steps + 1):
        action = agent.act(obs)
        paid = np.array([reward(o, a) for o, a in zip(obs, action, strict=True)], np.float32)
        added = None if bonus is None else np.array([bonus(o, a) for o, a in zip(obs, action, strict=True)], np.float32)
        over = (step + np.arange(envs)) % length == 0
        after = sees(rng, envs)
        over = (over, no) if ends == "terminated" else (no, over)
        agent.observe(Transition(obs, action, paid if added is None else paid + added, after, *over, added))
        agent.update()
        obs = after
    return agent


def outputs(agent, obs):
    """What the policy takes from the network at an observation, (O,)."""
    return agent.network.infer(np.array([obs], np.float32), agent._policy)[0]


def entropy(agent, obs=(1.0, 0.0)):
    """Of the policy at an observation."""
    row = outputs(agent, obs)[None]
    return float(agent.policy.evaluate(row, agent.policy.mode(row)).entropy[0])
