"""The fused network and the flat optimiser against torch's own."""

import numpy as np
import pytest
import torch

from rltrain.networks import FusedMLP, load_network_state, module_mlp, network_state
from rltrain.optimizers import Adam, clip_gradient


def pair(activation, seed=0):
    """The same network twice: by hand and through autograd."""
    sizes = (4, 16, 8, 3)
    return (
        FusedMLP(sizes, activation, np.random.default_rng(seed)),
        module_mlp(sizes, activation, np.random.default_rng(seed), "cpu"),
    )


def gradients(network, module):
    """Both gradients in torch's order: weights as (outputs, inputs), then biases, layer by layer."""
    mine = []
    for weight, bias in zip(network._weight_grads, network._bias_grads, strict=True):
        mine += [weight.t().reshape(-1), bias]
    assert sum(part.numel() for part in mine) == network.gradient.numel()
    return torch.cat(mine), module.gradient


@pytest.mark.parametrize("activation", ["relu", "tanh"])
def test_forward_and_backward_are_autograds(activation):
    fused, module = pair(activation)
    x, grad = torch.randn(32, 4), torch.randn(32, 3)
    torch.testing.assert_close(fused.forward(x), module.forward(x), rtol=1e-5, atol=1e-6)
    fused.backward(grad)
    module.backward(grad)
    torch.testing.assert_close(*gradients(fused, module), rtol=1e-4, atol=1e-5)


def test_evaluating_between_forward_and_backward_changes_no_gradient():
    fused, module = pair("relu")
    x, grad = torch.randn(32, 4), torch.randn(32, 3)
    fused.forward(x)
    fused.evaluate(torch.randn(32, 4))
    fused.backward(grad)
    module.forward(x)
    module.backward(grad)
    torch.testing.assert_close(*gradients(fused, module), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("rows", [1, 8, 9, 100])
def test_acting_gives_the_same_values_for_few_and_many_rows(rows):
    fused, _ = pair("tanh")
    x = np.random.default_rng(0).normal(size=(rows, 4)).astype(np.float32)
    np.testing.assert_allclose(fused.infer(x), fused.evaluate(torch.from_numpy(x)).numpy(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("fused_kernel", [True, False])
def test_adam_is_torchs(fused_kernel):
    generator = torch.Generator().manual_seed(0)
    start = torch.randn(50, generator=generator)
    mine, its = start.clone(), torch.nn.Parameter(start.clone())
    adam, reference = Adam(mine, eps=1e-5), torch.optim.Adam([its], lr=1e-2, eps=1e-5)
    if not fused_kernel:
        adam.fused = None
    for _ in range(50):
        gradient = torch.randn(50, generator=generator)
        its.grad = gradient.clone()
        reference.step()
        adam.step(gradient, 1e-2)
    torch.testing.assert_close(mine, its.detach(), rtol=0, atol=5e-7)


def test_clipping_scales_the_whole_gradient_to_the_norm():
    gradient = torch.tensor([3.0, 4.0])
    assert clip_gradient(gradient, 1.0) == pytest.approx(5.0)
    assert gradient.tolist() == pytest.approx([0.6, 0.8], rel=1e-5)
    assert clip_gradient(gradient, 10.0) == pytest.approx(1.0, rel=1e-5)
    assert gradient.tolist() == pytest.approx([0.6, 0.8], rel=1e-5)


def test_state_of_another_size_is_refused():
    fused, _ = pair("relu")
    other = FusedMLP((4, 2), "relu", np.random.default_rng(0))
    with pytest.raises(ValueError, match="parameters"):
        load_network_state(fused, network_state(other))
