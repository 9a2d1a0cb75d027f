"""Squashed draws: their density by numerical integration, their gradients against autograd."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rltrain.nn import losses
from rltrain.nn.squashed import LOG_STD_RANGE, draw, squashed_policy

FAMILIES = {"clipped": None, "sde": 5}


def policy(name, size=2):
    return squashed_policy(size, features=FAMILIES[name], log_std=-0.5)


def outputs_of(policy, rows, seed=0, scale=1.0):
    return scale * np.random.default_rng(seed).normal(size=(rows, policy.outputs))


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("seed", range(3))
def test_the_density_of_the_action_integrates_to_1(name, seed):
    """The noise from -9 to 9 standard deviations covers the actions from -1 to 1, in order."""
    made = policy(name, 1)
    noise = np.linspace(-9, 9, 200_001)[:, None]
    drawn = draw(made, np.repeat(outputs_of(made, 1, seed, 0.5), len(noise), 0), noise)
    density = np.exp(drawn.log_prob)
    assert np.trapezoid(density, drawn.action[:, 0]) == pytest.approx(1, abs=1e-5)
    entropy = -np.trapezoid(density * drawn.log_prob, drawn.action[:, 0])
    drawn = draw(
        made, np.repeat(outputs_of(made, 1, seed, 0.5), 200_000, 0), np.random.default_rng(1).normal(size=(200_000, 1))
    )
    assert -drawn.log_prob.mean() == pytest.approx(entropy, abs=0.02)


def test_log_probability_by_hand():
    """Mean 0.5, deviation e^-1, noise 2: u = 0.5 + 2/e; -2 + 1 - log(2 pi)/2 - log(1 - tanh^2 u)."""
    drawn = draw(policy("clipped", 1), np.array([[0.5, -1.0]]), np.array([[2.0]]))
    u = 0.5 + 2 / math.e
    assert drawn.action[0, 0] == pytest.approx(math.tanh(u))
    assert drawn.log_prob[0] == pytest.approx(-1 - math.log(2 * math.pi) / 2 - math.log(1 - math.tanh(u) ** 2))


@pytest.mark.parametrize("name", FAMILIES)
@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    rows=st.integers(1, 9),
    scale=st.sampled_from([0.3, 1.0, 3.0]),
    d_log_prob=st.sampled_from([-2.0, 0.0, 0.3]),
)
def test_what_is_pulled_back_through_the_draw_is_autograds(name, seed, rows, scale, d_log_prob):
    """Also where the logarithm of a deviation is out of its range, above 2."""
    made = policy(name)
    rng = np.random.default_rng(seed)
    outputs, noise = torch.from_numpy(outputs_of(made, rows, seed, scale)), torch.from_numpy(rng.normal(size=(rows, 2)))
    d_action = torch.from_numpy(rng.normal(size=(rows, 2)))
    pulled = draw(made, outputs, noise).pull(d_action, d_log_prob)
    if made.features:  # no gradient reaches the features through the noise
        outputs[:, 2 : 2 + made.features] = outputs[:, 2 : 2 + made.features].detach()
    outputs.requires_grad_()
    drawn = draw(made, outputs, noise)
    ((drawn.action * d_action).sum() + d_log_prob * drawn.log_prob.sum()).backward()
    if made.features:
        outputs.grad[:, 2 : 2 + made.features] = 0
    torch.testing.assert_close(pulled, outputs.grad, rtol=1e-7, atol=1e-10)
    numpys = draw(made, outputs.detach().numpy(), noise.numpy())
    np.testing.assert_allclose(numpys.log_prob, drawn.log_prob.detach(), rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(numpys.pull(d_action.numpy(), d_log_prob), pulled, rtol=1e-7, atol=1e-10)


def test_deviations_are_kept_in_their_range_and_single_precision_stays_single_and_finite():
    made = policy("clipped", 1)
    outputs, noise = np.array([[50.0, 9.0], [-50.0, -90.0]], np.float32), np.array([[3.0], [-3.0]], np.float32)
    assert made.parts(outputs)[1].ravel().tolist() == [LOG_STD_RANGE[1], LOG_STD_RANGE[0]]
    drawn = draw(made, outputs, noise)
    parts = [drawn.action, drawn.log_prob, drawn.pull(np.ones((2, 1), np.float32), np.float32(0.5))]
    assert [part.dtype for part in parts] == [np.float32] * 3
    assert all(np.isfinite(part).all() for part in parts)
    assert parts[2][:, 1].tolist() == [0, 0]


def test_the_gradient_of_the_least_value_goes_to_the_least_critic_of_each_row():
    q = np.array([[1.0, 2.0], [5.0, 3.0]], np.float32)
    assert losses.least_value_gradient(q)[0].tolist() == [[-0.5, 0], [0, -0.5]]


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6), rows=st.integers(1, 9))
def test_the_gradient_of_the_least_value_is_autograds(seed, rows):
    q = torch.randn(rows, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64, requires_grad=True)
    (-q.min(1).values.mean()).backward()
    torch.testing.assert_close(losses.least_value_gradient(q.detach())[0], q.grad)


def test_the_temperature_rises_where_the_entropy_is_too_small():
    """Entropies 1 and 2 and a target of 0: the temperature falls; a target of 3: it rises. d = -(mean log pi + H)."""
    log_prob = np.array([-1.0, -2.0], np.float32)
    assert losses.temperature_gradient(log_prob, 0.0).tolist() == [1.5]
    assert losses.temperature_gradient(log_prob, 3.0).tolist() == [-1.5]


def test_means_of_held_noise_stay_where_tanh_has_a_slope():
    made = policy("sde", 1)
    outputs = np.zeros((3, made.outputs), np.float32)
    outputs[:, 0] = -50, 0.5, 50
    assert made.mode(outputs)[:, 0].tolist() == made.parts(outputs)[0][:, 0].tolist() == [-2, 0.5, 2]
    pulled = draw(made, outputs, np.zeros((3, 1), np.float32)).pull(np.ones((3, 1), np.float32), 0.0)
    assert (pulled[:, 0] != 0).tolist() == [False, True, False]
