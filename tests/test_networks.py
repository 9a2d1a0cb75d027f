"""The fused network and the flat optimiser against torch's own."""

import numpy as np
import pytest
import torch

from rltrain.jit import CompiledLater
from rltrain.nn import hidden
from rltrain.nn.blueprint import blueprint
from rltrain.nn.fused import FusedMLP
from rltrain.nn.hidden import normalise, normalise_backward
from rltrain.nn.modules import implicit_network, module_network
from rltrain.nn.networks import build, load_network_state, network_state
from rltrain.nn.noisy import NoisyNetwork
from rltrain.nn.optimizers import SGD, Adam, RMSprop, adam, clip_gradient


def plan(activation, seed=0, sizes=(4, 16, 8, 3), **settings):
    return blueprint(sizes, activation, np.random.default_rng(seed), **settings)


def pair(activation, **settings):
    """The same network twice: by hand and through autograd."""
    return FusedMLP(plan(activation, **settings)), module_network([plan(activation, **settings)], "cpu")


def same_gradient(fused, module):
    its = module.gradient.numpy()
    assert np.abs(its).max() > 0.01
    np.testing.assert_allclose(fused.gradient, its, rtol=1e-4, atol=1e-5)


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def passed_on(outputs, grad):
    """A loss whose gradient at the outputs is given."""
    return grad, outputs * 1


@pytest.mark.parametrize("activation", ["relu", "tanh"])
@pytest.mark.parametrize("free", [None, [0.5, -1.0]])
def test_forward_and_backward_are_autograds(activation, free):
    fused, module = pair(activation, free=free)
    x, grad = normal(32, 4), normal(32, 3 if free is None else 5, seed=1)
    mine = fused.learn(passed_on, x, grad)
    its = module.learn(passed_on, torch.from_numpy(x), torch.from_numpy(grad))
    np.testing.assert_allclose(mine, its.numpy(), rtol=1e-5, atol=1e-6)
    if free is not None:
        assert mine[:, 3:].tolist() == [free] * 32
    same_gradient(fused, module)


def test_units_of_a_layer_are_normalised_before_their_activation_and_the_gradient_goes_through_by_hand():
    """Units 1, 3 have mean 2, variance 1 and are -1, 1: relu 0, 1, output 5. Units are 1 and 3 times the input.

    The gradient at relu's outputs is (2, 5), at the normalised units (0, 5), at the units
    ((0, 5) - 2.5 - (-1, 1) mean(0, 5)) = 0: the one number that such units can show does not change with the input.
    """
    made = blueprint((1, 2, 1), "relu", np.random.default_rng(0), layer_norm=True)
    network = FusedMLP(made)
    network.parameters[:] = [1, 3, 0, 0, 2, 5, 0]
    x = np.array([[1.0], [7.0]], np.float32)
    np.testing.assert_allclose(network.learn(passed_on, x, np.ones((2, 1), np.float32)), [[5], [5]], atol=1e-4)
    np.testing.assert_allclose(network.gradient, [0, 0, 0, 0, 0, 2, 2], atol=1e-4)


def test_the_gradient_through_normalised_units_by_hand():
    """x = (0, 3, 6): mean 3, variance 6, n = (-1, 0, 1) / s with s = sqrt(2/3). With g = (1, 0, 0) mean g = 1/3,
    mean(g n) = -1 / (3 s), and scale * (g - 1/3 + n / (3 s)) = (2/3 - 1/2, -1/3, -1/3 + 1/2) / sqrt(6)."""
    x, normal, scale = np.array([[0, 3, 6]], np.float32), np.empty((1, 3), np.float32), np.empty((1, 1), np.float32)
    np.testing.assert_allclose(normalise(x, normal, scale), np.array([[-1, 0, 1]]) * 1.5**0.5, atol=1e-5)
    grad = np.array([[1, 0, 0]], np.float32)
    normalise_backward(grad, normal, scale)
    np.testing.assert_allclose(grad, np.array([[1 / 6, -1 / 3, 1 / 6]]) / 6**0.5, atol=1e-5)


@pytest.mark.parametrize("make", [FusedMLP, lambda made: module_network([made] * 2, "cpu"), None])
@pytest.mark.parametrize("layer_norm", [True, False])
def test_the_size_of_weights_before_a_normalisation_does_not_matter(make, layer_norm):
    rng = np.random.default_rng(0)
    sizes = [(4, 16, 8, 3)] if make else [(4, 16, 8), (64, 8), (8, 8, 3)]
    plans = [blueprint(each, "relu", rng, layer_norm=layer_norm) for each in sizes]
    network = make(plans[0]) if make else implicit_network(plans, "cpu")
    x = normal(5, 4 if make else 6)
    before = network.infer(x)
    network.parameters[: 4 * 16 + 16] *= 7
    change = np.abs(network.infer(x) - before)[:, :3].max()
    assert change < 1e-3 if layer_norm else change > 0.1


@pytest.mark.parametrize("activation", ["relu", "tanh"])
@pytest.mark.parametrize("case", ["one", "features", "alike", "two"])
def test_forward_and_backward_of_normalised_layers_are_autograds(activation, case):
    own = {"layer_norm": True} | ({"features": True, "free": [0.5, -1.0]} if case == "features" else {})
    second = {"alike": {}, "two": {"sizes": (4, 5, 3)}}.get(case)
    plans = [plan(activation, **own), *([] if second is None else [plan(activation, 1, **second, **own)])]
    fused, module = build(plans, "cpu"), module_network(plans, "cpu")
    fused.evaluate(normal(50, 4, seed=3))
    for rows in (32, 7, 40):
        x, grad = 3 * normal(rows, 4) + 1, normal(rows, sum(each.outputs for each in plans), seed=1)
        mine = fused.learn(passed_on, x, grad)
        its = module.learn(passed_on, torch.from_numpy(x), torch.from_numpy(grad))
        np.testing.assert_allclose(mine, its.numpy(), rtol=1e-4, atol=1e-5)
        same_gradient(fused, module)
        np.testing.assert_allclose(fused.infer(x), module.infer(x), rtol=1e-4, atol=1e-5)
        at_inputs = module.input_gradient(passed_on, torch.from_numpy(x), torch.from_numpy(grad)).numpy()
        np.testing.assert_allclose(fused.input_gradient(passed_on, x, grad), at_inputs, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("activation", ["relu", "tanh"])
@pytest.mark.parametrize("free", [None, [0.5, -1.0]])
def test_the_gradient_at_the_inputs_is_autograds_and_changes_no_other(activation, free):
    fused, module = pair(activation, free=free)
    x, grad = normal(32, 4), normal(32, 3 if free is None else 5, seed=1)
    h = its = torch.from_numpy(x).requires_grad_()
    for layer, (weight, bias) in enumerate(zip(fused._weights, fused._biases, strict=True)):
        h = h @ torch.from_numpy(weight) + torch.from_numpy(bias)
        h = h if layer == 2 else getattr(torch, activation)(h)
    h.backward(torch.from_numpy(grad[:, :3]))
    fused.forward(x)
    np.testing.assert_allclose(fused.backward(x, grad, to_inputs=True), its.grad.numpy(), rtol=1e-4, atol=1e-6)
    assert fused.backward(x, grad) is None
    module.learn(passed_on, torch.from_numpy(x), torch.from_numpy(grad))
    same_gradient(fused, module)


@pytest.mark.parametrize("activation", ["relu", "tanh"])
@pytest.mark.parametrize("branches", [1, 2])
def test_the_gradient_at_the_inputs_alone_is_autograds_and_leaves_the_parameters_alone(activation, branches):
    plans = [plan(activation, seed) for seed in range(branches)]
    fused, module = build(plans, "cpu"), module_network(plans, "cpu")
    x, grad = normal(32, 4), normal(32, 3 * branches, seed=1)
    for network in (fused, module):
        network.gradient[:] = 7
    mine = fused.input_gradient(passed_on, x, grad)
    its = module.input_gradient(passed_on, torch.from_numpy(x), torch.from_numpy(grad))
    assert abs(mine).max() > 0.01
    np.testing.assert_allclose(mine, its.numpy(), rtol=1e-4, atol=1e-6)
    for network in (fused, module):
        assert set(network.gradient.tolist()) == {7.0}


@pytest.mark.parametrize("make", [build, module_network])
@pytest.mark.parametrize("sizes", [(4, 16, 8, 1), (4, 16, 5)])
def test_twins_in_one_network_are_two_networks(make, sizes):
    """Outputs, gradients at parameters and at inputs, and those of the second alone."""
    plans = [plan("relu", seed, sizes) for seed in range(2)]
    twins, alone = make(plans, "cpu"), [make([each], "cpu") for each in plans]
    x, grad = normal(32, 4), normal(32, 2 * sizes[-1], seed=1)
    kind = np.asarray if make is build else torch.from_numpy
    columns = [slice(0, sizes[-1]), slice(sizes[-1], None)]
    each = [one.learn(passed_on, kind(x), kind(grad[:, own].copy())) for one, own in zip(alone, columns, strict=True)]
    close = {"rtol": 1e-5, "atol": 1e-6}
    np.testing.assert_allclose(twins.learn(passed_on, kind(x), kind(grad)), np.concatenate(each, 1), **close)
    np.testing.assert_allclose(twins.evaluate(kind(x)), np.concatenate(each, 1), **close)
    np.testing.assert_allclose(twins.infer(x), np.concatenate(each, 1), **close)
    for part in ("parameters", "gradient"):
        both = np.concatenate([np.asarray(getattr(one, part)) for one in alone])
        np.testing.assert_allclose(np.asarray(getattr(twins, part)), both, **close)
    at_inputs = [
        np.asarray(one.input_gradient(passed_on, kind(x), kind(grad[:, own].copy())))
        for one, own in zip(alone, columns, strict=True)
    ]
    np.testing.assert_allclose(twins.input_gradient(passed_on, kind(x), kind(grad)), sum(at_inputs), **close)
    second = slice(sizes[-1], 2 * sizes[-1])
    its = twins.input_gradient(passed_on, kind(x), kind(grad[:, second].copy()), columns=second)
    np.testing.assert_allclose(its, at_inputs[1], **close)


def test_evaluating_between_forward_and_backward_changes_no_gradient():
    fused, module = pair("relu")
    x, grad = normal(32, 4), normal(32, 3, seed=1)

    def gradient_at(outputs, grad):
        fused.evaluate(normal(40, 4, seed=2))
        return grad, None

    fused.learn(gradient_at, x, grad)
    module.learn(passed_on, torch.from_numpy(x), torch.from_numpy(grad))
    same_gradient(fused, module)


@pytest.mark.parametrize("rows", [1, 8, 100])
def test_acting_gives_the_values_of_evaluation_in_memory_of_its_own(rows):
    fused, module = pair("tanh")
    x = normal(rows, 4)
    first = fused.infer(x)
    np.testing.assert_allclose(first, module.infer(x), rtol=1e-5, atol=1e-6)
    before = first.copy()
    fused.infer(normal(rows, 4, seed=1))
    assert (first == before).all()


@pytest.mark.parametrize("activation", ["elu", "gelu", "silu"])
def test_other_activations_run_through_torch(activation):
    network = build([plan(activation)], "cpu")
    assert network.device == "cpu"
    assert network.infer(normal(5, 4)).shape == (5, 3)


@pytest.mark.parametrize(("rows", "columns"), [(64, 8), (8, 64), (16, 16)])
def test_orthogonal_matrices_have_orthonormal_sides_times_their_gain(rows, columns):
    (first, last) = plan("tanh", sizes=(rows, columns, 3), init="orthogonal", gain=0.01).weights
    square = first.T @ first if rows >= columns else first @ first.T
    np.testing.assert_allclose(square, 2 * np.eye(min(rows, columns)), atol=1e-5)  # hidden layers: sqrt(2)
    np.testing.assert_allclose(last.T @ last, 1e-4 * np.eye(3), atol=1e-8)


ITS = {
    Adam: lambda parameters: torch.optim.Adam(parameters, lr=1e-2, eps=1e-5),
    RMSprop: lambda parameters: torch.optim.RMSprop(parameters, lr=1e-2, alpha=0.99, eps=1e-5),
    SGD: lambda parameters: torch.optim.SGD(parameters, lr=1e-2),
}


@pytest.mark.parametrize("kind", ITS)
@pytest.mark.parametrize("library", ["numpy", "torch", "a GPU's torch"])
def test_optimizers_are_torchs(kind, library, monkeypatch):
    if library == "a GPU's torch":
        monkeypatch.setattr("rltrain.nn.optimizers.in_numpy", lambda x: x)
    monkeypatch.setattr("rltrain.nn.optimizers.BLOCK", 16)  # several blocks, the last one shorter
    start = normal(50)
    mine = start.copy() if library == "numpy" else torch.from_numpy(start.copy())
    its = torch.nn.Parameter(torch.from_numpy(start.copy()))
    optimizer = kind(mine) if kind is SGD else kind(mine, eps=1e-5)
    reference = ITS[kind]([its])
    for step in range(150):
        gradient = normal(50, seed=step)
        gradient[:5] = 0 if step else 1e-12  # moments of these decay, and are removed at last
        its.grad = torch.from_numpy(gradient.copy())
        reference.step()
        optimizer.step(gradient if library == "numpy" else torch.from_numpy(gradient), 1e-2)
    np.testing.assert_allclose(np.asarray(mine), its.detach().numpy(), rtol=0, atol=2e-6)


def compiled_from(monkeypatch, first):
    """Loops that have not begun, and are compiled after so many numbers."""
    monkeypatch.setattr("rltrain.jit.COMPILED_FROM", first)
    monkeypatch.setattr(CompiledLater, "seen", 0)
    monkeypatch.setattr(Adam, "loop", CompiledLater(adam))
    monkeypatch.setattr("rltrain.nn.hidden.RELU", CompiledLater(hidden.relu))
    monkeypatch.setattr("rltrain.nn.hidden.THROUGH_RELU", CompiledLater(hidden.through_relu))


@pytest.mark.parametrize("library", ["numpy", "torch"])
def test_a_compiled_step_is_the_same_to_the_last_bit(library, monkeypatch):
    size, steps, start = 5_000, 120, normal(5_000)
    optimizers, parameters = [], []
    for first in (10**9, 40 * size):  # never compiled, and from step 40 on
        compiled_from(monkeypatch, first)
        own = start.copy()
        optimizers.append(Adam(torch.from_numpy(own) if library == "torch" else own, eps=1e-5))
        parameters.append(own)
        for step in range(steps):
            gradient = normal(size, seed=step) * 10.0 ** (step % 7 - 5)
            gradient[:9] = 0 if step else 1e-12
            optimizers[-1].step(torch.from_numpy(gradient) if library == "torch" else gradient, 1e-2 / (1 + step))
        assert (Adam.loop.after(0) is None) == (first == 10**9)
    np.testing.assert_array_equal(*parameters)
    for name in ("mean", "square"):
        np.testing.assert_array_equal(*(optimizer.state_dict()[name] for optimizer in optimizers))


@pytest.mark.parametrize(("rows", "units"), [(1, 16), (7, 2), (300, 33), (64, 256)])
def test_compiled_passes_are_the_same_to_the_last_bit(rows, units, monkeypatch):
    x, grad, seen = normal(rows, 5), normal(rows, 3, seed=1), []
    x[0, 0] = np.nan  # what has diverged is not hidden
    for first in (10**9, 0):
        compiled_from(monkeypatch, first)
        network = FusedMLP(plan("relu", sizes=(5, units, units, 3)))
        outputs = network.forward(x).copy()
        at_inputs = network.backward(x, grad, to_inputs=True)
        whole = network.gradient.copy()
        network.gradient[:] = 7
        again = network.backward(x, grad, to_inputs=True, to_parameters=False)
        assert (network.gradient == 7).all()
        seen.append((outputs, at_inputs, whole, again))
        assert (hidden.THROUGH_RELU.after(0) is None) == (first > 0)
    assert np.isnan(seen[1][0][0]).all()
    for readable, compiled in zip(*seen, strict=True):
        np.testing.assert_array_equal(readable, compiled)


def test_moments_that_are_too_small_to_matter_become_zero():
    optimizer = Adam(np.zeros(3, np.float32))
    optimizer.step(np.array([1e-12, 1.0, 1.0], np.float32), 1e-3)
    for _ in range(400):
        optimizer.step(np.zeros(3, np.float32), 1e-3)
    state = optimizer.state_dict()
    assert state["mean"][0] == 0  # 1e-13 * 0.9^400 = 5e-32
    assert state["mean"][1] > 0


def test_clipping_scales_the_whole_gradient_to_the_norm():
    gradient = np.array([3.0, 4.0], np.float32)
    assert clip_gradient(gradient, 1.0) == pytest.approx(5.0)
    assert gradient.tolist() == pytest.approx([0.6, 0.8], rel=1e-5)
    assert clip_gradient(gradient, 10.0) == pytest.approx(1.0, rel=1e-5)
    assert gradient.tolist() == pytest.approx([0.6, 0.8], rel=1e-5)


def test_state_of_another_size_is_refused():
    fused, _ = pair("relu")
    other = FusedMLP(plan("relu", sizes=(4, 2)))
    with pytest.raises(ValueError, match="parameters"):
        load_network_state(fused, network_state(other))


@pytest.mark.parametrize("activation", ["relu", "elu"])
def test_state_round_trips(activation):
    network, other = build([plan(activation)], "cpu"), build([plan(activation, seed=1)], "cpu")
    load_network_state(other, network_state(network))
    np.testing.assert_array_equal(network.infer(normal(5, 4)), other.infer(normal(5, 4)))


@pytest.mark.parametrize("noisy", [False, True])
@pytest.mark.parametrize("case", ["one", "alike", "values and a policy", "free first", "features"])
def test_what_a_network_of_either_kind_saved_is_what_the_other_loads(case, noisy):
    rng, x = np.random.default_rng(0), np.random.default_rng(1).normal(size=(5, 4)).astype(np.float32)
    free = np.array([0.5, -0.5], np.float32)
    made = {
        "one": [blueprint((4, 7, 3), "tanh", rng)],
        "alike": [blueprint((4, 7, 3), "relu", rng) for _ in range(3)],
        "values and a policy": [blueprint((4, 7, 1), "tanh", rng), blueprint((4, 6, 5, 2), "tanh", rng, free=free)],
        "free first": [blueprint((4, 7, 2), "tanh", rng, free=free), blueprint((4, 6, 1), "tanh", rng)],
        "features": [blueprint((4, 7, 2), "tanh", rng, free=free, features=True), blueprint((4, 6, 1), "relu", rng)],
    }[case]
    fused, module = build(made, "cpu"), module_network(made, "cpu")
    if noisy and all(plan.free is None for plan in made):
        fused, module = NoisyNetwork(fused, made, 0.5), NoisyNetwork(module, made, 0.5)
    fused.parameters[:] = rng.normal(size=fused.parameters.shape)
    load_network_state(module, network_state(fused))
    for network in (fused, module):
        if isinstance(network, NoisyNetwork):
            network.disturb(np.random.default_rng(2))
    np.testing.assert_allclose(module.infer(x), fused.infer(x), rtol=0, atol=1e-5)
