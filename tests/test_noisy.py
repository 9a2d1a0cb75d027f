"""Noisy weights: how the noise is distributed, and that gradients are autograd's."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from scipy import stats

from rltrain.nn.blueprint import blueprint
from rltrain.nn.fused import FusedMLP
from rltrain.nn.modules import module_network
from rltrain.nn.networks import build
from rltrain.nn.noisy import NoisyNetwork

SIZES = (4, 16, 8, 3)


def plan(activation="relu", sizes=SIZES, seed=0):
    return blueprint(sizes, activation, np.random.default_rng(seed))


def noisy(activation="relu", sizes=SIZES, seed=0, std=0.5, make=build):
    plans = [plan(activation, sizes, seed)]
    return NoisyNetwork(make(plans, "cpu"), plans, std)


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def passed_on(outputs, grad):
    return grad, outputs * 1


def f(x):
    return np.sign(x) * np.sqrt(np.abs(x))


def layers(flat):
    """Weights (inputs, outputs) and biases of a flat vector."""
    at = 0
    for inputs, outputs in pairwise(SIZES):
        end = at + inputs * outputs
        yield flat[at:end].reshape(inputs, outputs), flat[end : end + outputs]
        at = end + outputs


@pytest.mark.parametrize("activation", ["relu", "tanh"])
def test_outputs_and_gradients_are_autograds_of_mu_plus_sigma_eps(activation):
    """Fortunato et al. 2018, equations 9 and 10, layer by layer, with the noise drawn again from the same seed."""
    network = noisy(activation)
    network.sigma[:] = np.abs(normal(len(network.sigma), seed=7))
    network.disturb(np.random.default_rng(5))
    draws = np.random.default_rng(5).standard_normal(4 + 16 + 16 + 8 + 8 + 3, np.float32)
    means, sigmas = (torch.from_numpy(part.copy()).requires_grad_() for part in (network.mean, network.sigma))
    x, grad = normal(32, 4), normal(32, 3, seed=1)
    h = torch.from_numpy(x)
    for (w, b), (sw, sb) in zip(layers(means), layers(sigmas), strict=True):
        inputs, outputs = w.shape
        left, right = torch.from_numpy(f(draws[:inputs])), torch.from_numpy(f(draws[inputs : inputs + outputs]))
        draws = draws[inputs + outputs :]
        h = h @ (w + sw * torch.outer(left, right)) + b + sb * right
        h = h if len(b) == 3 else getattr(torch, activation)(h)
    h.backward(torch.from_numpy(grad))
    mine = network.learn(passed_on, x, grad)
    np.testing.assert_allclose(mine, h.detach().numpy(), rtol=1e-4, atol=1e-5)
    its = np.concatenate((means.grad.numpy(), sigmas.grad.numpy()))
    assert np.abs(its[len(its) // 2 :]).max() > 0.1
    np.testing.assert_allclose(network.gradient, its, rtol=1e-4, atol=2e-5)


def test_through_torch_the_same_noise_gives_the_same_outputs_and_gradients():
    fused, module = noisy(), noisy(make=module_network)
    for network in (fused, module):
        network.disturb(np.random.default_rng(3))
    x, grad = normal(32, 4), normal(32, 3, seed=1)
    mine = fused.learn(passed_on, x, grad)
    its = module.learn(passed_on, torch.from_numpy(x), torch.from_numpy(grad))
    np.testing.assert_allclose(mine, its.numpy(), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(fused.gradient, module.gradient.numpy(), rtol=1e-3, atol=2e-5)


def test_sigma_begins_as_the_paper_says_and_mu_as_without_noise():
    network = noisy(std=0.5)
    plain = FusedMLP(plan())
    np.testing.assert_array_equal(network.mean, plain.parameters)
    for weight, bias in layers(network.sigma):
        np.testing.assert_allclose(weight, 0.5 / np.sqrt(len(weight)), rtol=1e-6)
        np.testing.assert_allclose(bias, 0.5 / np.sqrt(len(weight)), rtol=1e-6)


def noise(draws):
    """The noise of a layer of 2 inputs and 2 outputs: weights (draws, 2, 2) and biases (draws, 2)."""
    network, rng, found = noisy(sizes=(2, 2)), np.random.default_rng(0), []
    network.mean[:], network.sigma[:] = 0, 1
    for _ in range(draws):
        network.disturb(rng)
        found.append(network._network.parameters.copy())
    rows = np.array(found)
    return rows[:, :4].reshape(-1, 2, 2), rows[:, 4:]


def test_the_noise_is_a_product_of_signed_roots_of_normal_numbers():
    """f(e)^2 = |e|, so biases have variance E|e| = sqrt(2/pi) and weights its square, 2/pi; all have mean 0, and what
    shares one factor of two is not correlated."""
    weights, biases = noise(20_000)
    squared = np.sign(biases) * biases**2
    for column in squared.T:
        assert stats.kstest(column, "norm").pvalue > 1e-3
    np.testing.assert_allclose(weights.mean(0), 0, atol=0.025)  # 4 standard deviations
    np.testing.assert_allclose((weights**2).mean(0), 2 / np.pi, rtol=0.05)
    np.testing.assert_allclose(weights[:, 0, 0] * weights[:, 1, 1], weights[:, 0, 1] * weights[:, 1, 0], rtol=1e-3)
    flat = np.concatenate((weights.reshape(-1, 4), biases), 1)
    np.testing.assert_allclose(np.corrcoef(flat.T), np.eye(6), atol=0.035)


def test_every_draw_is_new_and_without_a_generator_the_means_act():
    network, rng, x = noisy(), np.random.default_rng(0), normal(5, 4)
    network.disturb(rng)
    first = network.infer(x)
    assert np.array_equal(network.infer(x), first)  # until the next draw
    network.disturb(rng)
    assert not np.array_equal(network.infer(x), first)
    state = rng.bit_generator.state
    network.disturb(None)
    np.testing.assert_array_equal(network.infer(x), FusedMLP(plan()).infer(x))
    assert rng.bit_generator.state == state
