"""Losses of policy-gradient agents against hand-worked numbers, and their closed-form gradients against autograd."""

import gymnasium as gym
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.autograd import gradcheck

from rltrain.agents.a2c import A2C, A2CSettings
from rltrain.agents.actor_critic import ActorCritic, ActorCriticSettings
from rltrain.agents.ppo import PPO, PPOSettings
from rltrain.agents.reinforce import Reinforce, ReinforceSettings
from rltrain.core import EnvSpec
from rltrain.nn import policy_losses as losses


def numbers(*values):
    return torch.tensor(values, dtype=torch.float64)


def normal(seed, count, batch):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(batch, generator=generator, dtype=torch.float64) for _ in range(count)]


def test_policy_gradient_by_hand():
    """-(log p A) are -(-1 * 2) = 2 and -(-0.5 * -4) = -2, mean 0; with A = 2 and 4: 2 and 2, mean 2; slopes -A / 2."""
    log_prob = numbers(-1.0, -0.5)
    assert losses.policy_gradient_loss(log_prob, numbers(2, -4)).item() == 0
    assert losses.policy_gradient_loss(log_prob, numbers(2, 4)).item() == 2
    assert losses.policy_gradient(log_prob, numbers(2, -4)).tolist() == [-1, 2]


# rho, A, the smaller of rho A and cut(rho, 0.8, 1.2) A, d/d log p of -that: -rho A where it moves, for a batch of one
SURROGATE = [
    (1.5, 2.0, 2.4, 0.0),  # too probable already and A asks for more: 1.2 * 2 is smaller than 1.5 * 2
    (1.5, -2.0, -3.0, 3.0),  # too probable and A asks for less: 1.5 * -2 is smaller than 1.2 * -2
    (0.5, 2.0, 1.0, -1.0),  # too rare and A asks for more: 0.5 * 2 is smaller than 0.8 * 2
    (0.5, -2.0, -1.6, 0.0),  # too rare already and A asks for less: 0.8 * -2 is smaller than 0.5 * -2
    (1.1, 2.0, 2.2, -2.2),  # inside the range nothing is cut
    (0.9, -2.0, -1.8, 1.8),
]


@pytest.mark.parametrize(("rho", "advantage", "smaller", "slope"), SURROGATE)
def test_clipped_surrogate_by_hand(rho, advantage, smaller, slope):
    old = numbers(-0.7)
    log_prob, advantage = old + np.log(rho), numbers(advantage)
    assert losses.clipped_surrogate_loss(log_prob, old, advantage, 0.2).item() == pytest.approx(-smaller)
    gradient = losses.clipped_surrogate_gradient(log_prob, old, advantage, 0.2)
    assert gradient.item() == pytest.approx(slope)


def test_clipped_surrogate_is_the_mean_over_the_batch():
    rho, advantage, smaller, slope = map(np.array, zip(*SURROGATE, strict=True))
    old = np.zeros(6)
    assert losses.clipped_surrogate_loss(np.log(rho), old, advantage, 0.2) == pytest.approx(-smaller.mean())
    np.testing.assert_allclose(losses.clipped_surrogate_gradient(np.log(rho), old, advantage, 0.2), slope / 6)


@pytest.mark.parametrize("library", ["numpy", "torch"])
def test_a_ratio_too_great_for_a_number_that_is_cut_has_gradient_0(library):
    """exp(200) is infinite in single precision; A asks for still more, so that nothing moves."""
    arrays = [np.array([value], np.float32) for value in (200.0, 0.0, 1.0)]
    if library == "torch":
        arrays = [torch.from_numpy(array) for array in arrays]
    with np.errstate(over="ignore"):
        gradient = losses.clipped_surrogate_gradient(*arrays, 0.2)
    assert gradient.tolist() == [0.0]


def test_value_loss_by_hand():
    """V = 3, y = 1: 4, slope 2 * 2. V = 0, y = 1: 1, slope 2 * -1. Means 2.5, and slopes over 2."""
    value, target = numbers(3, 0), numbers(1, 1)
    assert losses.value_loss(value, target, value, None).item() == 2.5
    assert losses.value_gradient(value, target, value, None).tolist() == [2, -1]


# V_old = 0, range 1. V, y, greater of (V - y)^2 and (cut V - y)^2, slope 2 (V - y) where it moves
VALUES = [
    (0.5, 2.0, 2.25, -3.0),  # inside the range
    (3.0, 4.0, 9.0, 0.0),  # out of it, on the way to y: cut to 1, whose error 3 is greater than 1
    (3.0, -1.0, 16.0, 8.0),  # out of it, away from y: 4 is greater than that of the cut, 2
    (-3.0, -4.0, 9.0, 0.0),  # the same two on the other side
    (-3.0, 1.0, 16.0, -8.0),
]


@pytest.mark.parametrize(("value", "target", "greater", "slope"), VALUES)
def test_clipped_value_loss_by_hand(value, target, greater, slope):
    value, target = numbers(value), numbers(target)
    assert losses.value_loss(value, target, numbers(0), 1.0).item() == greater
    assert losses.value_gradient(value, target, numbers(0), 1.0).item() == slope


def test_losses_pass_torchs_gradient_check():
    """Central differences in double precision, relative error below 1e-6."""
    x, old, other = normal(1, 3, 40)
    x.requires_grad_()
    for loss in (
        lambda log_prob: losses.policy_gradient_loss(log_prob, other),
        lambda log_prob: losses.clipped_surrogate_loss(log_prob, old, other, 0.2),
        lambda value: losses.value_loss(value, other, old, None),
        lambda value: losses.value_loss(value, other, old, 0.3),
        lambda advantage: losses.normalized(advantage),
    ):
        assert gradcheck(loss, (x,), rtol=1e-6, atol=1e-8)


def same_as_autograd(loss, gradient, x):
    x = x.clone().requires_grad_()
    loss(x).backward()
    torch.testing.assert_close(gradient(x.detach()), x.grad, rtol=1e-9, atol=1e-12)


def hundredths(first, last):
    """Numbers without the smallest ones of all, which a network through torch has switched off for the process."""
    return st.integers(first, last).map(lambda number: number / 100)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 12), hundredths(0, 150))
def test_policy_gradients_are_autograds(seed, batch, clip):
    log_prob, old, advantage = normal(seed, 3, batch)
    same_as_autograd(
        lambda x: losses.policy_gradient_loss(x, advantage), lambda x: losses.policy_gradient(x, advantage), log_prob
    )
    same_as_autograd(
        lambda x: losses.clipped_surrogate_loss(x, old, advantage, clip),
        lambda x: losses.clipped_surrogate_gradient(x, old, advantage, clip),
        log_prob,
    )


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 12), st.none() | hundredths(1, 300))
def test_value_gradients_are_autograds(seed, batch, clip):
    value, target, old = normal(seed, 3, batch)
    same_as_autograd(
        lambda x: losses.value_loss(x, target, old, clip), lambda x: losses.value_gradient(x, target, old, clip), value
    )


def test_the_hypothesis_batches_meet_every_case_of_both_clippings():
    """All of sign of A x (below, inside, above), and all of (in range, cut, not cut) occur in 40 batches."""
    signs, cuts = set(), set()
    for seed in range(40):
        x, old, other = normal(seed, 3, 12)
        ratio = torch.exp(x - old)
        where = (ratio > 1.2).int() - (ratio < 0.8).int()
        signs |= set(zip((other > 0).tolist(), where.tolist(), strict=True))
        cut = old + (x - old).clip(-0.3, 0.3)
        inside, cut_is_worse = (x - old).abs() <= 0.3, (cut - other) ** 2 > (x - other) ** 2
        cuts |= set(zip(inside.tolist(), cut_is_worse.tolist(), strict=True))
    assert len(signs) == 6
    assert {(False, True), (False, False)} < cuts


@pytest.mark.parametrize("library", ["numpy", "torch"])
def test_normalised_advantages_have_mean_0_and_standard_deviation_1(library):
    x = np.random.default_rng(0).normal(5, 3, 64).astype(np.float32)
    y = np.asarray(losses.normalized(x if library == "numpy" else torch.from_numpy(x)))
    assert y.dtype == np.float32
    assert y.mean() == pytest.approx(0, abs=1e-6)
    assert y.std(ddof=1) == pytest.approx(1, abs=1e-3)
    assert np.corrcoef(x, y)[0, 1] == pytest.approx(1, abs=1e-6)
    assert np.asarray(losses.normalized(numbers(1, 3))).tolist() == pytest.approx([-(0.5**0.5), 0.5**0.5])


@pytest.mark.parametrize("array", [np.array, numbers])
def test_a_single_advantage_stays_as_it_is_and_equal_ones_become_0(array):
    single = array([2.5]) if array is np.array else array(2.5)
    assert losses.normalized(single).tolist() == [2.5]
    equal = array([3.0, 3.0]) if array is np.array else array(3, 3)
    assert losses.normalized(equal).tolist() == [0, 0]


SPACES = {
    "discrete": (gym.spaces.Discrete(3), {}),
    "continuous": (gym.spaces.Box(-1, 1, (2,), np.float32), {}),
    "by state": (gym.spaces.Box(-1, 1, (2,), np.float32), {"state_dependent_std": True}),
}
AGENTS = {
    "reinforce": (Reinforce, ReinforceSettings, ("choice", "advantage", "target", "weight", 2)),
    "actor_critic": (ActorCritic, ActorCriticSettings, ("choice", "advantage", "target")),
    "a2c": (A2C, A2CSettings, ("choice", "advantage", "target", "advantage")),
    "ppo": (PPO, PPOSettings, ("choice", "advantage", "target", "old_log_prob", "old_value", "advantage", 0.2, 0.5)),
}
SMALL = {"hidden_sizes": (8,), "n_steps": 6, "batch_size": 6, "ent_coef": 0.1}


def learnt(name, space, zero=()):
    """Gradients of critic and actor after one pass over a batch in which some columns are 0."""
    kind, config, wanted = AGENTS[name]
    action_space, own = SPACES[space]
    known = {key: value for key, value in SMALL.items() if key in config.model_fields}
    spec = EnvSpec("test", gym.spaces.Box(-9, 9, (3,), np.float32), action_space, 1)
    agent = kind(config(**known, **own), spec, exploration=None, rng=np.random.default_rng(0), device="cpu")
    rng = np.random.default_rng(1)
    obs = rng.normal(size=(6, 3)).astype(np.float32)
    outputs = agent.network.evaluate(obs)
    choice = agent.policy.sample(outputs[:, 1:], rng)
    columns = {
        "choice": choice,
        "advantage": rng.normal(size=6).astype(np.float32),
        "target": outputs[:, :1] + (0 if "error" in zero else rng.normal(size=(6, 1))),
        "weight": np.ones(6, np.float32),
        "old_log_prob": agent.policy.evaluate(outputs[:, 1:], choice).log_prob,
        "old_value": outputs[:, :1].copy(),
    }
    if "advantage" in zero:
        columns["advantage"][:] = 0
    if "entropy" in zero:
        agent._config = agent._config.model_copy(update={"ent_coef": 0.0})
    columns["target"] = columns["target"].astype(np.float32)
    agent.network.learn(agent._output_gradient, obs, *(columns.get(part, part) for part in wanted))
    critic = 3 * 8 + 8 + 8 + 1  # its parameters come first
    return agent.network.gradient[:critic].copy(), agent.network.gradient[critic:].copy()


@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize("name", AGENTS)
def test_no_gradient_flows_between_policy_and_value(name, space):
    """With networks of their own: the critic's gradient comes from its error alone, the actor's from all but that."""
    critic, actor = learnt(name, space)
    assert np.abs(critic).max() > 1e-3
    assert np.abs(actor).max() > 1e-3
    no_error = learnt(name, space, zero=("error",))
    assert not no_error[0].any()
    assert np.array_equal(no_error[1], actor)
    no_policy = learnt(name, space, zero=("advantage", "entropy"))
    assert np.array_equal(no_policy[0], critic)
    assert not no_policy[1].any()


def test_advantages_and_targets_are_numbers_that_carry_no_gradient():
    """The slope of value_loss in V is that of a constant target: 2 (V - y) / B, with no share of y's own V in it."""
    value = numbers(1.0, 2.0)
    target = 1 + 0.9 * value  # would have the slope 2 (V - y) (1 - 0.9) / B if it carried a gradient
    gradient = losses.value_gradient(value, target, value, None)
    torch.testing.assert_close(gradient, value - target)
