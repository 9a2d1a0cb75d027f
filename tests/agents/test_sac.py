"""Soft actor-critic: targets by hand, gradients against autograd, the temperature, and held noise."""

import gymnasium as gym
import numpy as np
import pytest
import torch
from pydantic import ValidationError
from test_off_policy import agent, normal, play
from torch.utils._python_dispatch import TorchDispatchMode

from rltrain.agents.sac import SACSettings
from rltrain.config.load import from_dict
from rltrain.continuous import EncodedBatch
from rltrain.core import EnvSpec
from rltrain.nn.arrays import to_numpy
from rltrain.nn.squashed import draw

OBS = np.zeros((1, 2), np.float32)


def test_a_target_has_the_entropy_of_the_next_action_in_it(monkeypatch):
    """Q 3 and 5, r 2, alpha 0.5, discounts 0.5 and 0: y = 2 + 0.5 (3 - 0.5 log pi) and 2."""
    made, seen = agent("sac", ent_coef=0.5), []
    monkeypatch.setattr(made.critic.target, "evaluate", lambda x: np.array([[3, 5], [5, 3]], np.float32))
    monkeypatch.setattr(
        made.critic.network, "learn", lambda f, x, target, weight: seen.append(target) or target[:, None]
    )
    two, next_obs, noise = np.full(2, 2, np.float32), normal(2, 2, seed=3), made._noise(2)
    log_prob = draw(made.policy, made.actor.network.infer(next_obs), noise[:, 2:]).log_prob
    batch = EncodedBatch(normal(2, 2), normal(2, 2), two, np.array([0.5, 0], np.float32), two, next_obs, noise)
    made._gradient_step(batch, 0.1, 0.1, due=True)
    np.testing.assert_allclose(seen[0], [2 + 0.5 * (3 - 0.5 * log_prob[0]), 2], rtol=1e-6)


@pytest.mark.parametrize("sde", [False, True])
def test_the_actors_gradient_is_autograds(sde):
    """Of mean(alpha log pi - min Q), through draw and critics, at the actor's outputs."""
    made = agent("sac", activation="elu", sde=sde)
    obs, noise = torch.from_numpy(normal(20, 2)), torch.from_numpy(normal(20, 2, seed=1))
    kept, alpha = to_numpy(made.critic.network.gradient), torch.tensor([0.3])
    outputs = made.actor.network.evaluate(obs).requires_grad_()
    drawn = draw(made.policy, outputs, noise)
    q = made.critic.network._module(torch.cat((obs, drawn.action), 1))
    (0.3 * drawn.log_prob - q.min(1).values).mean().backward()
    grad, log_prob = made._policy_gradient(outputs.detach(), obs, noise, alpha)
    features = slice(2, 2 + made.policy.features)  # learnt for the mean alone
    outputs.grad[:, features] = 0 if sde else outputs.grad[:, features]
    assert abs(outputs.grad).max() > 1e-3
    np.testing.assert_allclose(grad, outputs.grad, rtol=1e-4, atol=1e-7)
    np.testing.assert_allclose(log_prob, drawn.log_prob.detach(), rtol=1e-6)
    assert np.array_equal(to_numpy(made.critic.network.gradient), kept)


@pytest.mark.parametrize("target", [0.0, -3.0])
def test_the_temperature_leads_the_entropy_to_its_target(target):
    made = agent("sac", gamma=0.0, target_entropy=target, learning_rate=2e-2, batch_size=64, learning_starts=100)
    play(made, 900, reward=lambda a: -(a[0] ** 2) / 4 - (a[1] - 3.5) ** 2)
    outputs = np.repeat(made.actor.network.infer(OBS), 2_000, 0)
    entropy = -draw(made.policy, outputs, normal(2_000, 2)).log_prob.mean()
    assert entropy == pytest.approx(target, abs=0.25)


def test_the_temperature_moves_by_adam_on_its_logarithm():
    """The first step of Adam is the learning rate, against the sign of the gradient; the entropy is far above -50."""
    assert agent("sac").target_entropy == -2.0  # two dimensions
    made = agent("sac", target_entropy=-50.0, learning_rate=0.1, ent_coef_init=2.0)
    play(made, 1)
    np.testing.assert_allclose(made.log_alpha, [np.log(2) - 0.1], rtol=1e-5)
    fixed = play(agent("sac", ent_coef=0.2), 3)
    np.testing.assert_allclose(np.exp(fixed.log_alpha), [0.2], rtol=1e-6)


def test_actions_are_uniform_until_learning_starts():
    made = agent("sac", learning_starts=10_000)
    unit = made.box.unit(np.concatenate([made.act(OBS) for _ in range(2_000)]))
    assert abs(unit.mean(0)).max() < 0.06
    np.testing.assert_allclose(unit.std(0), 3**-0.5, atol=0.03)


@pytest.mark.parametrize("envs", [1, 2])
def test_held_noise_gives_an_observation_the_same_action_until_it_is_drawn_anew(envs):
    """After 4 vector steps, for each environment by itself."""
    own = {"sde": True, "sde_sample_freq": 4, "learning_starts": 0, "train_freq": 1_000}
    made, obs = agent("sac", envs=envs, **own), np.repeat(normal(1, 2), envs, 0)
    actions = []
    for _ in range(8):
        actions.append(made.act(obs))
        made._steps += envs
    first, second = actions[:4], actions[4:]
    assert all(np.array_equal(first[0], each) for each in first)
    assert all(np.array_equal(second[0], each) for each in second)
    assert len(np.unique(np.concatenate((first[0], second[0])), axis=0)) == 2 * envs


def test_entropy_that_costs_nothing_is_not_sought_beyond_an_end():
    """Rewards of 0 and a temperature of 1: what is left is gamma times the entropy of one next action, or nothing."""
    made = play(
        agent("sac", ent_coef=1.0, gamma=0.9, learning_rate=1e-2),
        300,
        length=1,
        reward=lambda a: 0.0,
        ends="terminated",
    )
    assert abs(made.values(OBS)[0]) < 0.1


class NoWaiting(TorchDispatchMode):
    """Refuses what would make a GPU wait, and so could not be recorded."""

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        assert function._opname not in ("_local_scalar_dense", "nonzero", "is_nonzero", "item", "masked_select"), (
            function
        )
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize("name", ["ddpg", "td3", "sac", "tqc"])
def test_a_gradient_step_through_torch_waits_for_no_value(name, monkeypatch):
    monkeypatch.setattr("rltrain.nn.optimizers.in_numpy", lambda x: x)  # as for a GPU's
    made = agent(name, activation="elu", max_grad_norm=1.0)
    columns = made._minibatch(made.replay.sample(16)) if play(made, 20) else None
    with NoWaiting():
        made._gradient_step(columns, torch.tensor(0.1), torch.tensor(0.1), due=True)
    with pytest.raises(AssertionError), NoWaiting():
        float(columns.reward[0])


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"ent_coef": -0.1}, "must not be negative"),
        ({"ent_coef": 0.1, "target_entropy": -1.0}, "target_entropy does nothing with a fixed ent_coef"),
        ({"sde_sample_freq": 8}, "sde_sample_freq does nothing without sde"),
        ({"sde": True, "hidden_sizes": ()}, "hidden_sizes needs one"),
    ],
)
def test_settings_that_do_nothing_are_refused(settings, words):
    with pytest.raises(ValidationError, match=words):
        SACSettings(**settings)


@pytest.mark.parametrize(("target", "refused"), [(1.38, False), (1.39, True), (9.0, True)])
def test_an_entropy_that_no_policy_can_have_is_refused(target, refused):
    """Of two dimensions between -1 and 1 no policy has more than 2 log 2 = 1.386."""
    data = {"env": {"id": "LunarLanderContinuous-v3"}, "agent": {"name": "sac", "target_entropy": target}}
    made = from_dict(data | {"train": {"total_steps": 1_000}}).config
    spec = EnvSpec("test", gym.spaces.Box(-1, 1, (2,), np.float32), gym.spaces.Box(-9, 9, (2,), np.float32), 1)
    assert [problem.path for problem in made.agent.problems(made, spec)] == ["agent.target_entropy"] * refused


def test_a_box_that_is_wider_than_its_numbers_is_refused():
    most = np.finfo(np.float32).max
    spec = EnvSpec("test", gym.spaces.Box(-1, 1, (2,), np.float32), gym.spaces.Box(-most, most, (1,), np.float32), 1)
    made = from_dict({"env": {"id": "x"}, "agent": {"name": "sac"}, "train": {"total_steps": 1_000}}).config
    (found,) = made.agent.problems(made, spec)
    assert "a lower and a greater upper bound" in found.message
