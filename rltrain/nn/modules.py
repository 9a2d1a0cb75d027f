"""Networks through torch: any module, on any device, eager, compiled, or from CUDA graphs. This file loads torch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.func import functional_call, vjp

from rltrain.core import Array, UpdateMode
from rltrain.nn.graphs import Graphed

if TYPE_CHECKING:
    from rltrain.nn.initialisation import Init
    from rltrain.nn.networks import Blueprint, OutputGradient
    from rltrain.nn.torso import Torso

ACTIVATIONS: dict[str, type[torch.nn.Module]] = {
    "relu": torch.nn.ReLU,
    "tanh": torch.nn.Tanh,
    "elu": torch.nn.ELU,
    "gelu": torch.nn.GELU,
    "silu": torch.nn.SiLU,
}


IMAGES_AT_ONCE = 2_048
"""Images that are evaluated in one go: convolutions take hundreds of kilobytes for each."""


class Branches(torch.nn.Module):
    """Perceptrons over the same input, with their outputs side by side; for images, over the same features."""

    def __init__(self, plans: Sequence[Blueprint], torso: torch.nn.Module | None = None) -> None:
        super().__init__()
        self.torso = torso
        self.features = [plan.features for plan in plans]
        self.branches = torch.nn.ModuleList(_perceptron(plan) for plan in plans)
        self.free = torch.nn.ParameterList(
            torch.nn.Parameter(torch.from_numpy(np.zeros(0, np.float32) if plan.free is None else plan.free.copy()))
            for plan in plans
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Outputs (B, O) of inputs (B, I)."""
        parts = []
        if self.torso is not None:
            x = self.torso(x)
        for branch, features, free in zip(self.branches, self.features, self.free, strict=True):
            assert isinstance(branch, torch.nn.Sequential)
            hidden = branch[:-1](x)
            parts += [branch[-1](hidden), *([hidden] if features else []), free.expand(len(x), -1)]
        return torch.cat(parts, 1)


def _perceptron(plan: Blueprint) -> torch.nn.Sequential:
    layers: list[torch.nn.Module] = []
    for weight, bias in zip(plan.weights, plan.biases, strict=True):
        linear = torch.nn.Linear(*weight.shape)
        linear.weight.data = torch.from_numpy(weight.T.copy())
        linear.bias.data = torch.from_numpy(bias.copy())
        layers += [linear, ACTIVATIONS[plan.activation]()]
    return torch.nn.Sequential(*layers[:-1])


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

        return Graphed(learn) if self.mode != "eager" and self.device.startswith("cuda") else learn

    def learn(self, gradient_at: OutputGradient, x: torch.Tensor, *arguments: Any) -> Any:
        """Forward, the loss's gradient at the outputs, backward through autograd."""
        function = self._functions.get(gradient_at)
        if function is None:
            function = self._functions[gradient_at] = self._learn(gradient_at)
        return function(x, *arguments)

    def input_gradient(self, gradient_at: OutputGradient, x: torch.Tensor, *arguments: Any) -> torch.Tensor:
        """The gradient at the inputs (B, I)."""
        outputs, pull, *_ = vjp(lambda x: functional_call(self._module, self._parts, (x,)), x)
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
        return ModuleNetwork(Branches(plans), device)
    from rltrain.nn.convolutions import Convolutions

    torch.backends.cudnn.benchmark = True  # shapes come again and again
    assert rng is not None, "a torso needs a generator for its weights"
    return ModuleNetwork(Branches(plans, Convolutions(torso, rng, init)), device, threads=None)
