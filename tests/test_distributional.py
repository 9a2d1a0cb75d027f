"""Losses of distributions against hand-worked numbers, and their closed-form gradients against autograd."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rltrain.nn import distributional as d

SUPPORT = np.array([-1.0, 0.0, 1.0])


def project(reward, discount, probability, support=SUPPORT):
    arrays = [np.asarray(part, np.float64) for part in ([reward], [discount], [probability], support)]
    return d.project(*arrays, float(arrays[3][0]), float(arrays[3][-1]))[0].tolist()


@pytest.mark.parametrize(
    ("reward", "discount", "probability", "expected"),
    [
        (0.0, 1.0, [0.2, 0.3, 0.5], [0.2, 0.3, 0.5]),  # nothing changes
        (0.25, 0.0, [0.2, 0.3, 0.5], [0.0, 0.75, 0.25]),  # an end: all at 0.25
        (0.0, 0.5, [0.2, 0.3, 0.5], [0.1, 0.65, 0.25]),  # -0.5 and 0.5 are shared half and half
        (0.5, 1.0, [0.2, 0.3, 0.5], [0.1, 0.25, 0.65]),  # -0.5, 0.5, and 1.5, which counts as 1
        (7.0, 1.0, [0.2, 0.3, 0.5], [0.0, 0.0, 1.0]),  # all beyond
        (-7.0, 0.0, [0.2, 0.3, 0.5], [1.0, 0.0, 0.0]),
    ],
)
def test_the_projection_by_hand(reward, discount, probability, expected):
    assert project(reward, discount, probability) == pytest.approx(expected, abs=1e-12)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.integers(2, 60), st.floats(-20, 20), st.floats(0.1, 50))
def test_the_projection_keeps_mass_and_within_the_support_the_mean(seed, atoms, v_min, width):
    rng = np.random.default_rng(seed)
    support = np.linspace(v_min, v_min + width, atoms)
    probability = rng.dirichlet(np.full(atoms, 0.3), 7)
    discount = rng.random(7)
    ends = discount * v_min, discount * (v_min + width)
    reward = rng.uniform(v_min - ends[0], v_min + width - ends[1])  # so that nothing falls beyond
    for kind in (np.asarray, torch.from_numpy):
        parts = [kind(part) for part in (reward, discount, probability, support)]
        got = np.asarray(d.project(*parts, v_min, v_min + width))
        assert (got >= -1e-12).all()
        np.testing.assert_allclose(got.sum(1), 1, rtol=1e-12)
        np.testing.assert_allclose(got @ support, reward + discount * (probability @ support), atol=1e-9)
        wild = [kind(part) for part in (10 * reward + width, discount, probability, support)]
        np.testing.assert_allclose(np.asarray(d.project(*wild, v_min, v_min + width)).sum(1), 1, rtol=1e-12)


def test_the_divergence_by_hand():
    """p = (1/4, 3/4) at action 1; m = (1/2, 1/2): KL = 1/2 log 2 + 1/2 log 2/3; m = (1, 0): log 4. Weights 1 and 2."""
    logits = np.log(np.array([[[0.5, 0.5], [1.0, 3.0]]] * 2))
    action, target, weight = np.array([1, 1]), np.array([[0.5, 0.5], [1.0, 0.0]]), np.array([1.0, 2.0])
    divergence = np.array([0.5 * np.log(2) + 0.5 * np.log(2 / 3), np.log(4)])
    assert d.categorical_loss(logits, action, target, weight) == pytest.approx((divergence * weight).mean())
    grad, error = d.categorical_gradient(logits, action, target, weight)
    np.testing.assert_allclose(error, divergence)
    np.testing.assert_allclose(grad[:, 0], 0)
    np.testing.assert_allclose(grad[:, 1], [[-0.125, 0.125], [-0.75, 0.75]])  # weight / 2 * (p - m)


def test_the_quantile_loss_by_hand():
    """theta = (0, 2) at tau = 1/4, 3/4; y = (1, 4).

    u of theta_1: 1 and 4, h = 1/2 and 3.5, times 1/4: mean (0.125 + 0.875) / 2 = 0.5.
    u of theta_2: -1 and 2, h = 1/2 and 1.5, times |3/4 - 1| and 3/4: mean (0.125 + 1.125) / 2 = 0.625.
    Slopes: -mean(1/4 * (1, 1)) = -0.25 and -mean(1/4 * -1, 3/4 * 1) = -0.25.
    """
    quantiles, action = np.array([[[9.0, 9.0], [0.0, 2.0]]]), np.array([1])
    target, weight, tau = np.array([[1.0, 4.0]]), np.array([2.0]), np.array([[0.25, 0.75]])
    assert d.quantile_loss(quantiles, action, target, weight, tau) == pytest.approx(2 * 1.125)
    grad, error = d.quantile_gradient(quantiles, action, target, weight, tau)
    assert grad.tolist() == [[[0.0, 0.0], [-0.5, -0.5]]]
    assert error.tolist() == [1.5]  # 2.5 - 1


def drawn(seed, batch, actions, atoms):
    generator = torch.Generator().manual_seed(seed)
    rows = 3 * torch.randn(batch, actions, atoms, generator=generator, dtype=torch.float64)
    action = torch.randint(actions, (batch,), generator=generator)
    return generator, rows, action, torch.rand(batch, generator=generator, dtype=torch.float64)


SIZES = [st.integers(0, 10**6), st.integers(1, 9), st.integers(1, 4), st.integers(2, 12)]


@settings(max_examples=50, deadline=None)
@given(*SIZES)
def test_the_categorical_gradient_is_autograds_in_arrays_of_either_kind(seed, batch, actions, atoms):
    generator, logits, action, weight = drawn(seed, batch, actions, atoms)
    target = torch.softmax(4 * torch.randn(batch, atoms, generator=generator, dtype=torch.float64), 1)
    target[:, 0] = 0  # no longer of mass 1 where that matters to the gradient of a softmax
    target /= target.sum(1, keepdim=True)
    logits.requires_grad_()
    d.categorical_loss(logits, action, target, weight).backward()
    grad, error = d.categorical_gradient(logits.detach(), action, target, weight)
    torch.testing.assert_close(grad, logits.grad, rtol=1e-9, atol=1e-12)
    assert (error >= -1e-12).all()
    same = d.categorical_gradient(*(part.detach().numpy() for part in (logits, action, target, weight)))
    np.testing.assert_allclose(same[0], grad.numpy(), rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(same[1], error.numpy(), rtol=1e-9, atol=1e-12)


@settings(max_examples=50, deadline=None)
@given(*SIZES, st.integers(1, 12), st.booleans())
def test_the_quantile_gradient_is_autograds_in_arrays_of_either_kind(seed, batch, actions, atoms, others, own):
    generator, quantiles, action, weight = drawn(seed, batch, actions, atoms)
    target = 3 * torch.randn(batch, others, generator=generator, dtype=torch.float64)
    fractions = torch.rand(batch if own else 1, atoms, generator=generator, dtype=torch.float64)
    quantiles.requires_grad_()
    d.quantile_loss(quantiles, action, target, weight, fractions).backward()
    grad, error = d.quantile_gradient(quantiles.detach(), action, target, weight, fractions)
    torch.testing.assert_close(grad, quantiles.grad, rtol=1e-9, atol=1e-12)
    same = d.quantile_gradient(*(part.detach().numpy() for part in (quantiles, action, target, weight, fractions)))
    np.testing.assert_allclose(same[0], grad.numpy(), rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(same[1], error.numpy(), rtol=1e-9, atol=1e-12)


def test_the_quantile_loss_is_least_at_the_quantiles():
    """With a Huber function as wide as 1, of data a hundred times as wide, they are nearly the quantiles themselves."""
    data = 100 * np.random.default_rng(0).exponential(size=(1, 2_000))
    tau, theta = np.array([[0.1, 0.5, 0.9]]), np.zeros((1, 1, 3))
    for _ in range(4_000):
        theta -= 2.0 * d.quantile_gradient(theta, np.array([0]), data, np.ones(1), tau)[0]
    np.testing.assert_allclose(theta[0, 0], np.quantile(data, tau[0]), rtol=0.05)
