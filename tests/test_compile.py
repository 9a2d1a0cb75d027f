"""`train.compile` for networks that run through torch: when it is done, and that it changes nothing."""

import gymnasium as gym
import numpy as np
import pytest

from rltrain.config.load import parse
from rltrain.core import EnvSpec, Transition
from rltrain.experiment import build
from rltrain.fitting import problems
from rltrain.registry import find

SPEC = EnvSpec("test", gym.spaces.Box(-1, 1, (4,), np.float32), gym.spaces.Discrete(2), 4)
SETTINGS = {
    "ppo": {"n_steps": 32, "batch_size": 50, "n_epochs": 2, "clip_range_vf": 0.3, "ent_coef": 0.01},  # 50, 50, 28
    "a2c": {"n_steps": 8},
    "reinforce": {"episodes_per_update": 4},  # a batch of another length every time
}


def config(activation, compiled, steps=20_000):
    text = f"""
env: {{id: CartPole-v1, num_envs: 4}}
agent: {{name: ppo, n_steps: 8, batch_size: 8, activation: {activation}}}
train: {{total_steps: {steps}, compile: {compiled}}}
device: cpu
"""
    return parse(text, source="test").config


def test_a_fused_network_has_nothing_to_compile_and_asking_for_it_is_a_mistake():
    (problem,) = problems(config("tanh", "on"))
    assert problem.path == "train.compile"
    assert "NumPy" in problem.message
    assert problems(config("tanh", "auto")) == []


@pytest.mark.parametrize(
    ("compiled", "steps", "expected"),
    # 20,000 steps are 625 rollouts of 10 epochs with 4 minibatches: 25,000 gradient steps
    [("on", 20_000, True), ("auto", 20_000, False), ("auto", 80_000, True), ("off", 80_000, False)],
)
def test_auto_compiles_only_what_is_long_enough_to_pay_for_it_and_says_so(compiled, steps, expected):
    chosen = config("elu", compiled, steps)
    assert problems(chosen) == []
    experiment = build(chosen)
    experiment.envs.close()
    assert [network.mode == "compiled" for network in experiment.agent.networks] == [expected]
    assert (experiment.note is not None) == (compiled == "auto" and expected)
    if experiment.note:
        assert "100,000 gradient steps" in experiment.note


def played(name, mode, device="cpu"):
    """An agent that has learnt on a stream of observations with ends in them."""
    cls = find("agents", name)
    settings = cls.Config(activation="elu", learning_rate=3e-3, **SETTINGS[name])
    agent = cls(settings, SPEC, exploration=None, rng=np.random.default_rng(0), device=device)
    agent.network.mode = mode
    rng, obs = np.random.default_rng(1), np.zeros((4, 4), np.float32)
    for step in range(96):
        action = agent.act(obs)
        next_obs = rng.normal(size=(4, 4)).astype(np.float32)
        reward = (action == (obs[:, 0] > 0)).astype(np.float32)
        cut = (np.arange(4) + step) % (9 + step // 24) == 0
        agent.observe(Transition(obs, action, reward, next_obs, np.zeros(4, bool), cut))
        agent.update()
        obs = next_obs
    return agent


@pytest.mark.slow  # a compiler at work
@pytest.mark.parametrize("name", SETTINGS)
def test_the_compiled_update_is_the_eager_one(name):
    eager, compiled = played(name, "eager"), played(name, "compiled")
    assert eager.optimizer.state_dict()["step"] > 2
    np.testing.assert_allclose(eager.network.parameters, compiled.network.parameters, rtol=0, atol=1e-5)
