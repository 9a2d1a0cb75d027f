"""Networks through torch: any module, on any device, eager, compiled, or from CUDA graphs. This file loads torch."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.func import functional_call, vjp

from rltrain.core import Array, UpdateMode
from rltrain.nn.arrays import apart
from rltrain.nn.convolutions import IMAGES_AT_ONCE, Convolutions
from rltrain.nn.graphs import graphed
from rltrain.nn.hidden import EPS

if TYPE_CHECKING:
    from rltrain.nn.blueprint import Blueprint
    from rltrain.nn.initialisation import Init
    from rltrain.nn.networks import OutputGradient
    from rltrain.nn.torso import Torso

ACTIVATIONS: dict[str, type[torch.nn.Module]] = {
    "relu": torch.nn.ReLU,
    "tanh": torch.nn.Tanh,
    "elu": torch.nn.ELU,
    "gelu": torch.nn.GELU,
    "silu": torch.nn.SiLU,
}


class Linear(torch.nn.Module):
    """x W + b with W (inputs, outputs): parameters lie as in `FusedMLP`, so that a checkpoint is one of either."""

    def __init__(self, weight: Array, bias: Array) -> None:
        super().__init__()
        self.weight, self.bias = (torch.nn.Parameter(torch.from_numpy(part.copy())) for part in (weight, bias))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Outputs (..., O) of inputs (..., I)."""
        if x.ndim == 2:  # the gradient of its weights then lies as they do, which that of `linear` does not
            return torch.addmm(self.bias, x, self.weight)
        return torch.nn.functional.linear(x, self.weight.T, self.bias)


class Stacked(torch.nn.Module):
    """Perceptrons of one shape over the same input: each layer of all of them is one batched product.

    The parameters lie as those of `Branches` do, (K, P) for K perceptrons.
    """

    def __init__(self, plans: Sequence[Blueprint]) -> None:
        super().__init__()
        self.activation, self.shapes = ACTIVATIONS[plans[0].activation](), list(pairwise(plans[0].sizes))
        self.layer_norm = plans[0].layer_norm
        flat = [
            part.reshape(-1)
            for plan in plans
            for weight, bias in zip(plan.weights, plan.biases, strict=True)
            for part in (weight, bias)
        ]
        self.flat = torch.nn.Parameter(torch.from_numpy(np.concatenate(flat)).view(len(plans), -1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Outputs (B, K * O) of inputs (B, I)."""
        sizes = [size for inputs, outputs in self.shapes for size in (inputs * outputs, outputs)]
        parts = iter(torch.split_with_sizes(self.flat, sizes, 1))
        x = x.expand(len(self.flat), *x.shape)
        for layer, (inputs, outputs) in enumerate(self.shapes):
            weight, bias = next(parts).view(-1, inputs, outputs), next(parts)[:, None]
            if layer and self.layer_norm:
                x = torch.nn.functional.layer_norm(x, (inputs,), eps=EPS)
            x = torch.baddbmm(bias, self.activation(x) if layer else x, weight)
        return x.transpose(0, 1).flatten(1)


class Branch(torch.nn.Module):
    """A perceptron, with its last hidden layer and what is no function of the input beside its outputs."""

    def __init__(self, plan: Blueprint) -> None:
        super().__init__()
        self.layers, self.features = _perceptron(plan), plan.features
        free = np.zeros(0, np.float32) if plan.free is None else plan.free.copy()
        self.free = torch.nn.ParameterList([torch.nn.Parameter(torch.from_numpy(free))])  # a child: after the layers

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        """Parts (B, ...) of the outputs."""
        hidden = self.layers[:-1](x)
        return [self.layers[-1](hidden), *([hidden] if self.features else []), self.free[0].expand(len(x), -1)]


class Branches(torch.nn.Module):
    """Perceptrons over the same input, with their outputs side by side; for images, over the same features."""

    def __init__(self, plans: Sequence[Blueprint], torso: torch.nn.Module | None = None) -> None:
        super().__init__()
        self.torso = torso
        self.branches = torch.nn.ModuleList(Branch(plan) for plan in plans)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Outputs (B, O) of inputs (B, I)."""
        if self.torso is not None:
            x = self.torso(x)
        return torch.cat([part for branch in self.branches for part in branch(x)], 1)


class Implicit(torch.nn.Module):
    """f(psi(x) * phi(tau)): what a return is at fractions tau, from an observation x.

    phi(tau)_h = relu(sum_i w_ih cos(pi i tau) + b_h).
    Source: Dabney et al. 2018, equation 4 and section 3, https://arxiv.org/abs/1806.06923
    """

    frequencies: torch.Tensor

    def __init__(self, psi: Blueprint, phi: Blueprint, f: Blueprint) -> None:
        """psi has activations after all its layers, of which there may be none; phi has one layer."""
        super().__init__()
        cosines, units = phi.sizes
        self.psi = torch.nn.Sequential(*_perceptron(psi), *(_between(psi, units) if psi.weights else []))
        self.phi = torch.nn.Sequential(*_perceptron(phi), torch.nn.ReLU())
        self.f = _perceptron(f)
        self.register_buffer("frequencies", torch.pi * torch.arange(cosines), persistent=False)

    def forward(self, x: torch.Tensor, fractions: torch.Tensor) -> torch.Tensor:
        """Outputs (B, O * T), each at all fractions (B, T), of inputs (B, I)."""
        embedded = self.phi(torch.cos(fractions[:, :, None] * self.frequencies))  # (B, T, H)
        outputs: torch.Tensor = self.f(self.psi(x)[:, None, :] * embedded)  # (B, T, O)
        return outputs.transpose(1, 2).flatten(1)


class ImplicitHeads(torch.nn.Module):
    """Implicit networks over the same observations and fractions, with their outputs side by side."""

    def __init__(self, plans: Sequence[Blueprint], torso: Convolutions | None) -> None:
        """`plans` are psi, phi and f of one head after the other; psi of images begins with a torso for all of them."""
        super().__init__()
        self.torso, self.shape = torso, (plans[0].sizes[0],) if torso is None else torso.shape
        self.heads = torch.nn.ModuleList(Implicit(*plans[at : at + 3]) for at in range(0, len(plans), 3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Outputs (B, K * O * T) of observations and fractions, `side_by_side`."""
        obs, fractions = apart(x, self.shape)
        if self.torso is not None:
            obs = self.torso(obs)
        return torch.cat([head(obs, fractions) for head in self.heads], 1)


def _perceptron(plan: Blueprint) -> torch.nn.Sequential:
    layers: list[torch.nn.Module] = []
    for weight, bias in zip(plan.weights, plan.biases, strict=True):
        layers += [*(_between(plan, len(weight)) if layers else []), Linear(weight, bias)]
    return torch.nn.Sequential(*layers)


def _between(plan: Blueprint, units: int) -> list[torch.nn.Module]:
    """What stands after a hidden layer of so many units."""
    norm = [torch.nn.LayerNorm(units, eps=EPS, elementwise_affine=False)] if plan.layer_norm else []
    return [*norm, ACTIVATIONS[plan.activation]()]


class ModuleNetwork:
    """Any torch module, with its parameters laid into one flat tensor."""

    def __init__(self, module: torch.nn.Module, device: str, *, threads: int | None = 1) -> None:
        """`threads` for all of torch, None for as many as it likes: more than one are slower for a small perceptron."""
        if threads is not None:
            torch.set_num_threads(threads)
        torch.set_flush_denormal(True)  # an optimiser's moments decay to numbers that take many times longer
        self.device = device
        self._module = module.to(device)
        parts = list(module.parameters())
        total = sum(part.numel() for part in parts)
        self.parameters = torch.zeros(total, device=device)
        self.gradient = torch.zeros(total, device=device)
        at = 0
        for part in parts:
            place = slice(at, at + part.numel())
            self.parameters[place] = part.detach().reshape(-1)
            part.data = self.parameters[place].view(part.shape)
            at += part.numel()
        self._parts = {name: part.detach() for name, part in module.named_parameters()}  # the same memory
        self._functions: dict[OutputGradient, Any] = {}
        self.mode: UpdateMode = "graphs"
        """How `learn` runs. To compile takes ten seconds to a minute, then a step takes about half the time."""

    def _learn(self, gradient_at: OutputGradient) -> Any:
        """The function (inputs, *arguments) -> parts that fills the gradient: tensors only, no branch on a value."""

        def gradients(parameters: dict[str, torch.Tensor], x: torch.Tensor, *arguments: Any) -> Any:
            outputs, pull, *_ = vjp(lambda p: functional_call(self._module, p, (x,)), parameters)
            grad, parts = gradient_at(outputs.detach(), *arguments)
            return pull(grad)[0], parts

        compiled = torch.compile(gradients) if self.mode == "compiled" else gradients

        def learn(x: torch.Tensor, *arguments: Any) -> Any:
            grads, parts = compiled(self._parts, x, *arguments)
            torch.cat([grads[name].reshape(-1) for name in self._parts], out=self.gradient)
            return parts

        return graphed(learn, self)

    def learn(self, gradient_at: OutputGradient, x: torch.Tensor, *arguments: Any) -> Any:
        """Forward, the loss's gradient at the outputs, backward through autograd."""
        function = self._functions.get(gradient_at)
        if function is None:
            function = self._functions[gradient_at] = self._learn(gradient_at)
        return function(x, *arguments)

    def input_gradient(
        self, gradient_at: OutputGradient, x: torch.Tensor, *arguments: Any, columns: slice = slice(None)
    ) -> torch.Tensor:
        """The gradient at the inputs (B, I) of a loss of these outputs."""
        outputs, pull, *_ = vjp(lambda x: functional_call(self._module, self._parts, (x,))[:, columns], x)
        gradient: torch.Tensor = pull(gradient_at(outputs.detach(), *arguments)[0])[0]
        return gradient

    def evaluate(self, x: torch.Tensor) -> torch.Tensor:
        """Outputs (B, O) without a graph."""
        rows = IMAGES_AT_ONCE if x.dtype == torch.uint8 else max(len(x), 1)
        with torch.no_grad():
            parts = [self._module(part) for part in torch.split(x, rows)]
        output: torch.Tensor = parts[0] if len(parts) == 1 else torch.cat(parts)
        return output

    def infer(self, x: Array, columns: slice = slice(None)) -> Array:
        """Columns of the outputs (N, O) as NumPy."""
        return self.evaluate(torch.from_numpy(x).to(self.device)).cpu().numpy()[:, columns]


def module_network(
    plans: Sequence[Blueprint],
    device: str,
    *,
    torso: Torso | None = None,
    rng: np.random.Generator | None = None,
    init: Init = "uniform",
) -> ModuleNetwork:
    """The perceptrons of these plans through torch, with the same initial parameters as the fused ones."""
    if torso is None:
        alike = len({tuple(plan.sizes) for plan in plans}) == 1
        stack = len(plans) > 1 and alike and not any(plan.features or plan.free is not None for plan in plans)
        return ModuleNetwork(Stacked(plans) if stack else Branches(plans), device)
    return ModuleNetwork(Branches(plans, Convolutions(torso, rng, init)), device, threads=None)


def implicit_network(
    plans: Sequence[Blueprint], device: str, *, torso: Torso | None = None, rng: np.random.Generator | None = None
) -> ModuleNetwork:
    """Quantiles at any fraction, from the plans of psi, phi and f of every head; for images also of a `torso`."""
    if torso is None:
        return ModuleNetwork(ImplicitHeads(plans, None), device)
    return ModuleNetwork(ImplicitHeads(plans, Convolutions(torso, rng, "uniform")), device, threads=None)
