"""State-dependent exploration: its density and gradient, its noise, how long that is held, and who may have it."""

import gymnasium as gym
import numpy as np
import pytest
import torch
from pydantic import ValidationError

from rltrain import checkpoint
from rltrain.config.load import from_dict, to_dict
from rltrain.core import EnvSpec, Transition
from rltrain.experiment import build
from rltrain.fitting import problems
from rltrain.nn.distributions import StateDependentGaussian
from rltrain.nn.modules import module_network
from rltrain.registry import find, settings_class

BOX = gym.spaces.Box(np.array([-2.0, 0.5], np.float32), np.array([1.0, 7.0], np.float32))
PLANE = gym.spaces.Box(-10, 10, (2,), np.float32)
AGENTS = ["ppo", "a2c"]
FEATURES = 5


def family(squash=False, log_std=-0.3):
    return StateDependentGaussian(BOX, log_std=log_std, features=FEATURES, squash=squash)


def drawn(policy, rows, seed=0):
    """Outputs, choices and weights of log-probabilities, in double precision."""
    rng = np.random.default_rng(seed)
    outputs = rng.normal(size=(rows, policy.outputs))
    return outputs, outputs[:, :2] + rng.normal(size=(rows, 2)), rng.normal(size=rows)


def theirs(outputs, choice, squash):
    """Log-probability and entropy by torch.distributions; features as numbers through which no gradient flows."""
    mean, features, log_sigma = outputs.split((2, FEATURES, 2 * FEATURES), 1)
    sigma = torch.exp(log_sigma.reshape(-1, FEATURES, 2))
    variance = ((features.detach()[:, :, None] * sigma) ** 2).sum(1) + 1e-6
    normal = torch.distributions.Normal(mean, torch.sqrt(variance))
    log_prob = normal.log_prob(choice)
    if squash:
        half = torch.from_numpy((BOX.high - BOX.low) / 2).double()
        log_prob = log_prob - torch.log((1 - torch.tanh(choice) ** 2) * half)
    return log_prob.sum(1), normal.entropy().sum(1)


@pytest.mark.parametrize("squash", [False, True])
@pytest.mark.parametrize("d_entropy", [0.0, -0.3])
def test_density_and_what_is_pulled_back_are_torchs_without_a_gradient_at_the_features(squash, d_entropy):
    policy = family(squash)
    outputs, choice, weight = map(torch.from_numpy, drawn(policy, 20))
    mine = policy.evaluate(outputs, choice)
    pulled = mine.pull(weight, d_entropy)
    outputs.requires_grad_()
    log_prob, entropy = theirs(outputs, choice, squash)
    torch.testing.assert_close(mine.log_prob, log_prob.detach(), rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(mine.entropy, entropy.detach())
    ((log_prob * weight).sum() + d_entropy * entropy.sum()).backward()
    torch.testing.assert_close(pulled, outputs.grad, rtol=1e-9, atol=1e-12)
    assert pulled[:, 2 : 2 + FEATURES].abs().max() == 0
    assert pulled[:, 2 + FEATURES :].abs().min() > 0
    arrays = policy.evaluate(outputs.detach().numpy(), choice.numpy())
    np.testing.assert_allclose(arrays.pull(weight.numpy(), d_entropy), pulled.numpy(), rtol=1e-9, atol=1e-12)


def test_the_variance_is_worked_out_by_hand_and_never_0():
    """One action, h = (1, 2), sigma = (0.5, 0.25): 1 * 0.25 + 4 * 0.0625 = 0.5; H = ln(0.5) / 2 + (1 + ln 2 pi) / 2."""
    policy = StateDependentGaussian(gym.spaces.Box(-1, 1, (1,), np.float32), log_std=0.0, features=2, squash=False)
    outputs = np.array([[0.3, 1, 2, *np.log([0.5, 0.25])], [0.3, 0, 0, 1, 1]])
    told = policy.evaluate(outputs, np.array([[0.3], [0.3]]))
    assert told.entropy[0] == pytest.approx(0.5 * np.log(0.5) + 0.5 * (1 + np.log(2 * np.pi)), abs=1e-5)
    assert np.isfinite(told.log_prob).all()
    assert np.isfinite(told.pull(np.ones(2), 1.0)).all()


def test_choices_have_the_stated_deviation_and_rows_have_matrices_of_their_own():
    policy, rng = family(), np.random.default_rng(0)
    row = rng.normal(size=policy.outputs).astype(np.float32)
    outputs = np.tile(row, (20_000, 1))
    choice = policy.sample(outputs, rng)
    features, sigma = row[2 : 2 + FEATURES], np.exp(row[2 + FEATURES :].reshape(FEATURES, 2))
    np.testing.assert_allclose(choice.std(0), np.sqrt((features**2) @ sigma**2), rtol=0.03)
    np.testing.assert_allclose(choice.mean(0), row[:2], atol=0.1)
    assert np.array_equal(policy.mode(outputs)[0], row[:2])
    sigma_drawn = policy.draw(outputs, rng).std(0)
    np.testing.assert_allclose(sigma_drawn, sigma, rtol=0.03)


@pytest.mark.parametrize("make", ["fused", "shared"])
def test_a_network_that_shows_its_last_hidden_layer_has_autograds_gradients(make):
    from rltrain.nn.blueprint import blueprint
    from rltrain.nn.networks import build

    rng = np.random.default_rng(0)
    plans = [blueprint((4, 6, 5, 3), "tanh", rng, free=np.array([0.5, -1.0]), features=True)]
    plans = plans if make == "fused" else [blueprint((4, 3, 1), "relu", rng), *plans]
    mine, its = build(plans, "cpu"), module_network(plans, "cpu")
    x, width = rng.normal(size=(8, 4)).astype(np.float32), sum(plan.outputs for plan in plans)
    assert width == 10 + (make == "shared")  # 3 heads, 5 features, 2 free ones
    grad = rng.normal(size=(8, width)).astype(np.float32)
    np.testing.assert_allclose(mine.evaluate(x), its.evaluate(torch.from_numpy(x)).numpy(), atol=1e-6)
    np.testing.assert_allclose(mine.evaluate(x)[:, -2:], [[0.5, -1]] * 8)
    before = [np.array(mine.parameters), its.parameters.clone()]
    mine.learn(lambda outputs, g: (g, None), x, grad)
    its.learn(lambda outputs, g: (g, None), torch.from_numpy(x), torch.from_numpy(grad))
    mine.parameters -= 0.1 * mine.gradient
    its.parameters -= 0.1 * its.gradient
    assert abs(mine.parameters - before[0]).max() > 0.01
    np.testing.assert_allclose(mine.evaluate(x), its.evaluate(torch.from_numpy(x)).numpy(), atol=1e-5)


def agent(name, seed=0, *, envs=2, **settings):
    own = {"n_steps": 8, "hidden_sizes": (FEATURES,), "sde": True} | ({"batch_size": 16} if name == "ppo" else {})
    config = settings_class("agents", name)(name=name, **(own | settings))
    spec = EnvSpec("test", PLANE, BOX, envs)
    return find("agents", name)(config, spec, exploration=None, rng=np.random.default_rng(seed), device="cpu")


def play(made, steps, *, envs=2, seed=0):
    """Steps in an environment that does not listen; returns the noise at each (T, N, D)."""
    rng, no, noise = np.random.default_rng(seed), np.zeros(envs, bool), []
    for _ in range(steps):
        obs = np.tile(np.array([1.0, -1.0], np.float32), (envs, 1))
        mean = made.policy.mode(made.network.infer(obs, made._policy))
        action = made.act(obs)
        noise.append(made._choice - mean)
        made.observe(Transition(obs, action, rng.normal(size=envs).astype(np.float32), obs, no, no))
        made.update()
    return np.array(noise)


@pytest.mark.parametrize("name", AGENTS)
@pytest.mark.parametrize(("freq", "changes"), [(-1, {8, 16}), (3, {3, 6, 8, 11, 14, 16, 19}), (1, set(range(1, 20)))])
def test_equal_states_get_equal_noise_until_it_is_drawn_anew(name, freq, changes):
    noise = play(agent(name, sde_sample_freq=freq, learning_rate=0.0), 20)
    assert {t for t in range(1, 20) if not np.allclose(noise[t], noise[t - 1], atol=1e-5)} == changes
    assert abs(noise[:, 0] - noise[:, 1]).min() > 1e-5  # every environment has its own


@pytest.mark.parametrize("name", AGENTS)
def test_fused_and_autograd_networks_learn_the_same(name, monkeypatch):
    fused = agent(name, squash=True, ent_coef=0.01)
    play(fused, 40)
    monkeypatch.setattr("rltrain.on_policy.build", module_network)
    module = agent(name, squash=True, ent_coef=0.01)
    play(module, 40)
    obs = np.random.default_rng(0).normal(size=(20, 2)).astype(np.float32)
    np.testing.assert_allclose(fused.values(obs), module.values(obs), atol=1e-4)
    np.testing.assert_allclose(fused.act(obs, explore=False), module.act(obs, explore=False), atol=1e-4)
    log_sigma = [made.network.infer(obs, made._policy)[:, -2 * FEATURES :] for made in (fused, module)]
    np.testing.assert_allclose(*log_sigma, atol=1e-4)
    assert abs(log_sigma[0]).max() > 1e-3  # the deviations learn


@pytest.mark.parametrize("shared", [False, True])
def test_an_agents_whole_gradient_is_autograds(shared):
    made = agent("a2c", shared_network=shared, n_steps=16, ent_coef=0.1, vf_coef=0.5, learning_rate=0.0)
    play(made, 16)
    rng = np.random.default_rng(1)
    obs, choice = (rng.normal(size=(16, 2)).astype(np.float32) for _ in range(2))
    advantage, target = (rng.normal(size=16).astype(np.float32) for _ in range(2))
    made.network.learn(made._output_gradient, obs, choice, advantage, target[:, None], advantage)
    monkeyed = module_network(_plans(made, shared), "cpu")
    x = torch.from_numpy(obs)
    outputs = monkeyed._module(x)
    log_prob, entropy = theirs(outputs[:, 1:], torch.from_numpy(choice), False)
    value = outputs[:, 0]
    loss = -(log_prob * torch.from_numpy(advantage)).mean() - 0.1 * entropy.mean()
    loss = loss + 0.5 * ((value - torch.from_numpy(target)) ** 2).mean()
    grads = dict(zip(dict(monkeyed._module.named_parameters()), torch.autograd.grad(loss, list(monkeyed._module.parameters())), strict=True))  # fmt: skip
    mine = sorted(made.network.gradient.tolist())
    np.testing.assert_allclose(mine, sorted(torch.cat([g.reshape(-1) for g in grads.values()]).tolist()), atol=1e-5)


def _plans(made, shared):
    """The plans of the agent's network with its parameters."""
    from rltrain.nn.blueprint import Blueprint

    branches = [made.network] if shared else made.network._branches
    return [
        Blueprint(
            "tanh", branch._weights, branch._biases, branch._free if len(branch._free) else None, branch._features
        )
        for branch in branches
    ]


def data(agent, env="Pendulum-v1", **settings):
    own = {"n_steps": 24} | ({"batch_size": 16, "n_epochs": 2} if agent == "ppo" else {})
    return {
        "env": {"id": env, "num_envs": 2},
        "agent": {"name": agent, "hidden_sizes": [8], **own, **settings},
        "train": {"total_steps": 1_000},
        "device": "cpu",
    }


@pytest.mark.parametrize("name", AGENTS)
def test_a_run_goes_on_exactly_while_noise_is_held(name, tmp_path):
    made = from_dict(data(name, sde=True, sde_sample_freq=10)).config
    first, second = build(made), build(made)
    first.loop.advance(2 * (24 + 13))  # the matrix of step 10 of the second rollout is 3 steps old
    state = {"agent": first.agent.state_dict(), "loop": first.loop.state_dict()}
    second.loop.advance(30)
    saved = checkpoint.load(checkpoint.save(tmp_path, 74, state, config=to_dict(made), score=None)).state
    second.agent.load_state_dict(saved["agent"])
    second.loop.load_state_dict(saved["loop"])
    for experiment in (first, second):
        experiment.loop.advance(100)
    states = [experiment.agent.state_dict() for experiment in (first, second)]
    assert np.array_equal(states[0]["noise"], states[1]["noise"])
    assert np.array_equal(states[0]["network"]["parameters"], states[1]["network"]["parameters"])
    assert np.array_equal(states[0]["rollout"]["choice"], states[1]["rollout"]["choice"])


@pytest.mark.parametrize("name", ["sac", "tqc"])
def test_a_run_with_replay_goes_on_exactly_while_noise_is_held(name):
    small = {"hidden_sizes": [8], "batch_size": 8, "buffer_size": 500, "learning_starts": 10}
    made = from_dict(
        {
            "env": {"id": "Pendulum-v1", "num_envs": 2},
            "agent": {"name": name, "sde": True, "sde_sample_freq": 7, **small},
            "train": {"total_steps": 1_000},
            "device": "cpu",
        }
    ).config
    first, second = build(made), build(made)
    first.loop.advance(2 * 20)  # the matrix of vector step 14 is 6 steps old
    second.loop.advance(2 * 3)
    second.agent.load_state_dict(first.agent.state_dict())
    second.loop.load_state_dict(first.loop.state_dict())
    for steps in (1, 30):
        for experiment in (first, second):
            experiment.loop.advance(2 * steps)
        one, other = (experiment.agent.state_dict() for experiment in (first, second))
        assert np.array_equal(one["held"], other["held"])
        assert np.array_equal(first.loop.state_dict()["obs"], second.loop.state_dict()["obs"])


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"sde": True, "sde_sample_freq": 0}, "would never draw"),
        ({"sde_sample_freq": 4}, "does nothing without sde"),
        ({"sde": True, "hidden_sizes": ()}, "hidden_sizes needs one"),
        ({"sde": True, "state_dependent_std": True}, "leave state_dependent_std out"),
    ],
)
@pytest.mark.parametrize("name", AGENTS)
def test_settings_that_make_no_sense_together_are_refused(name, settings, words):
    with pytest.raises(ValidationError, match=words):
        settings_class("agents", name)(name=name, **settings)


@pytest.mark.parametrize("name", AGENTS)
def test_choices_have_no_such_noise(name):
    (found,) = problems(from_dict(data(name, "CartPole-v1", sde=True)).config)
    assert found == ("agent.sde", "sde is for continuous actions, not for Discrete(2): leave it out")
    assert problems(from_dict(data(name, sde=True)).config) == []
