"""Probe environments on twenty seeds for every agent with replay: truncation, ends, what is seen, and what comes later."""

from itertools import product

import gymnasium as gym
import numpy as np
import pytest

from rltrain.core import EnvSpec, Transition
from rltrain.registry import find, settings_class

GAMMA = 0.8
LINE = gym.spaces.Box(-1.0, 3.0, (1,), np.float32)  # 0.5 on the scale of the networks is an action of 2
EVERY_PART = {
    "double": True,
    "dueling": True,
    "n_step": 3,
    "prioritized": {},
    "munchausen": {},
    "noisy": True,
}
CASES = {
    "dqn": {},
    "dqn with all parts": EVERY_PART,
    "dqn with heads": {"heads": 3, "prior_scale": 1.0},
    "c51": {"n_atoms": 31, "v_min": -2.0, "v_max": 8.0},
    "qr_dqn": {"n_quantiles": 16},
    "iqn": {"n_policy_quantiles": 16},
    "rainbow": {"n_atoms": 31, "v_min": -2.0, "v_max": 8.0},
    "ddpg": {},
    "td3": {},
    "sac": {"ent_coef": 0.05},
    "tqc": {"ent_coef": 0.01, "n_quantiles": 5, "top_quantiles_to_drop": 1},
}
CONTINUOUS = ("ddpg", "td3", "sac", "tqc")


def agent(case, seed):
    """A small one that explores uniformly, or by noise."""
    name = case.split()[0]
    known = settings_class("agents", name).model_fields
    common = {"hidden_sizes": (32,), "batch_size": 32, "buffer_size": 2_000, "learning_starts": 50, "train_freq": 1}
    common |= {"gamma": GAMMA, "learning_rate": 1e-2, "tau": 0.2, "target_update_interval": 1}
    common = {key: value for key, value in common.items() if key in known}
    config = settings_class("agents", name)(name=name, **{**common, **CASES[case]})
    uniform = {"selector": ("epsilon_greedy", {"epsilon": 1.0}), "noise": ("gaussian_noise", {"sigma": 1.0})}
    exploration = None
    if config.explores_with is not None:
        kind, settings = uniform[config.explores_with]
        exploration = find("explorations", kind)(settings_class("explorations", kind)(name=kind, **settings))
    spec = EnvSpec(
        "probe",
        gym.spaces.Box(-10, 10, (2,), np.float32),
        LINE if name in CONTINUOUS else gym.spaces.Discrete(2),
        num_envs=1,
    )
    return find("agents", name)(config, spec, exploration=exploration, rng=np.random.default_rng(seed), device="cpu")


def rightness(action, wanted):
    """1 for the action that is wanted, 1 or -1; less for any other."""
    action = action[0]
    if np.ndim(action) == 0:
        return float(action == (wanted > 0))
    return float(1 - ((action[0] - 1) / 2 - wanted / 2) ** 2)


def row(*numbers):
    return np.array([numbers], np.float32)


class Alike:
    """1 a step for ever, in episodes that are cut short after 8 steps."""

    steps = 0

    def begin(self, rng):
        return row(1, 0)

    def step(self, obs, action):
        self.steps += 1
        return row(1, 0), 1.0, False, self.steps % 8 == 0


class Seen:
    """One step: the right action is the sign of what is seen."""

    def begin(self, rng):
        return row(rng.choice([-1, 1]), 1)

    def step(self, obs, action):
        return obs, rightness(action, obs[0, 0]), True, False


class Later:
    """Two steps: what the first action was worth is seen, and paid at the end."""

    def begin(self, rng):
        return row(1, 0)

    def step(self, obs, action):
        if obs[0, 0] == 1:
            return row(0, rightness(action, 1)), 0.0, False, False
        return obs, float(obs[0, 1]), True, False


def play(agent, env, steps, seed):
    rng = np.random.default_rng(seed)
    obs = env.begin(rng)
    for _ in range(steps):
        action = agent.act(obs)
        next_obs, reward, terminated, truncated = env.step(obs, action)
        ends = np.array([terminated]), np.array([truncated])
        agent.observe(Transition(obs, action, np.array([reward], np.float32), next_obs, *ends))
        agent.update()
        obs = env.begin(rng) if terminated or truncated else next_obs
    return agent


def worth(agent, obs):
    """Of the best action."""
    return float(agent.values(obs).max())


def best(agent, obs):
    """How right the greedy action would be where that of 1 is wanted."""
    return rightness(agent.act(obs, explore=False), 1)


def twenty(function):
    """The first seed always, the other nineteen among the slow tests."""
    rows = [
        pytest.param(case, seed, marks=[pytest.mark.slow] if seed else [], id=f"{case}-{seed}")
        for case, seed in product(CASES, range(20))
    ]
    return pytest.mark.parametrize(("case", "seed"), rows)(function)


@twenty
def test_a_reward_of_1_for_ever_is_worth_5_although_episodes_are_cut_at_8(case, seed):
    """If a cut were an end it would be v = 1 + 0.8 * 7/8 v, 3.3. All parts together come last: 4.58 on one seed."""
    learnt = play(agent(case, seed), Alike(), 400, seed)
    assert worth(learnt, row(1, 0)) == pytest.approx(1 / (1 - GAMMA), abs=0.6)


@twenty
def test_the_right_action_depends_on_what_is_seen_and_nothing_comes_after_an_end(case, seed):
    learnt = play(agent(case, seed), Seen(), 1_600 if case in CONTINUOUS else 400, seed)  # an actor follows its critic
    assert best(learnt, row(1, 1)) > 0.9
    assert rightness(learnt.act(row(-1, 1), explore=False), -1) > 0.9
    assert [worth(learnt, row(sign, 1)) for sign in (-1, 1)] == pytest.approx([1, 1], abs=0.2)


@twenty
def test_what_is_paid_later_is_worth_gamma_times_as_much(case, seed):
    learnt = play(agent(case, seed), Later(), 1_000 if case in CONTINUOUS else 500, seed)
    assert best(learnt, row(1, 0)) > 0.9
    assert worth(learnt, row(1, 0)) == pytest.approx(GAMMA, abs=0.2)
    assert worth(learnt, row(0, 1)) == pytest.approx(1, abs=0.2)
