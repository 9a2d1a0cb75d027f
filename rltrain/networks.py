"""Networks as functions of one flat parameter vector, with a forward pass and a backward pass.

Every network keeps its parameters in one flat float32 tensor and its gradient in another, so that an
optimiser step, gradient clipping and a target update are one operation each. `backward` takes the
gradient of the loss with respect to the network's outputs. Two kinds share this interface:
`FusedMLP`, written out by hand for speed on a CPU, and `ModuleNetwork`, any torch module through
autograd. A test holds the first to the second.

Legend: B batch, I inputs, O outputs.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Literal, Protocol

import numpy as np

from rltrain.core import Array, State
from rltrain.lazy import lazy_module

if TYPE_CHECKING:
    import torch
    from torch import Tensor
else:
    torch = lazy_module("torch")

Activation = Literal["relu", "tanh"]
FEW_ROWS = 8
"""Up to so many observations are cheaper through NumPy than through torch."""


def resolve_device(name: str) -> str:
    """Turn `auto` into `cuda` where there is a usable GPU, else `cpu`."""
    if name != "auto":
        return name
    return "cuda" if torch.cuda.is_available() else "cpu"


class Network(Protocol):
    """What an agent needs of a network."""

    parameters: Tensor  # (P,) float32
    gradient: Tensor  # (P,) float32

    def forward(self, x: Tensor) -> Tensor:
        """Outputs (B, O) for inputs (B, I), remembered for `backward`."""

    def backward(self, grad: Tensor) -> None:
        """Fill `gradient` from the loss's gradient (B, O) at the outputs of the last `forward`."""

    def evaluate(self, x: Tensor) -> Tensor:
        """Outputs (B, O) without touching what `forward` remembers."""

    def infer(self, x: Array) -> Array:
        """Outputs (N, O) for NumPy inputs (N, I), for acting."""


class _Buffers:
    """Memory for one batch size: activations of every layer and their gradients."""

    def __init__(self, batch: int, sizes: Sequence[int]) -> None:
        self.outputs = [torch.empty(batch, size) for size in sizes[1:]]
        self.grads = [torch.empty(batch, size) for size in sizes[1:-1]]


class FusedMLP:
    """A multi-layer perceptron whose forward and backward passes write into memory made once.

    h_l = act(h_(l-1) W_l + b_l) for the hidden layers, h_L = h_(L-1) W_L + b_L.
    Each weight matrix is laid out with its longer side last, in which order thin layers multiply several
    times faster. NumPy sees the same memory, so acting costs no copy.
    """

    def __init__(self, sizes: Sequence[int], activation: Activation, rng: np.random.Generator) -> None:
        self._sizes = list(sizes)
        self._relu = activation == "relu"
        shapes = list(pairwise(sizes))
        total = sum(i * o + o for i, o in shapes)
        self.parameters = torch.zeros(total)
        self.gradient = torch.zeros(total)
        self._weights, self._biases = self._views(self.parameters, shapes)
        self._weight_grads, self._bias_grads = self._views(self.gradient, shapes)
        self._numpy = [(w.numpy(), b.numpy()) for w, b in zip(self._weights, self._biases, strict=True)]
        for (inputs, _), (weight, bias) in zip(shapes, self._numpy, strict=True):
            bound = 1 / math.sqrt(inputs)
            weight[:] = rng.uniform(-bound, bound, weight.shape)
            bias[:] = rng.uniform(-bound, bound, bias.shape)
        self._buffers: dict[int, _Buffers] = {}
        self._scratch: dict[int, _Buffers] = {}
        self._input: Tensor | None = None

    @staticmethod
    def _views(flat: Tensor, shapes: list[tuple[int, int]]) -> tuple[list[Tensor], list[Tensor]]:
        weights, biases, at = [], [], 0
        for inputs, outputs in shapes:
            stored = flat[at : at + inputs * outputs]
            weights.append(stored.view(inputs, outputs) if inputs < outputs else stored.view(outputs, inputs).t())
            at += inputs * outputs
            biases.append(flat[at : at + outputs])
            at += outputs
        return weights, biases

    def _run(self, x: Tensor, store: dict[int, _Buffers]) -> Tensor:
        batch = x.shape[0]
        buffers = store.get(batch)
        if buffers is None:
            buffers = store[batch] = _Buffers(batch, self._sizes)
        last = len(self._weights) - 1
        for layer, (weight, bias, out) in enumerate(zip(self._weights, self._biases, buffers.outputs, strict=True)):
            torch.addmm(bias, x, weight, out=out)
            if layer < last:
                out.relu_() if self._relu else out.tanh_()
            x = out
        return x

    def forward(self, x: Tensor) -> Tensor:
        """Outputs (B, O); they are overwritten by the next call with the same B."""
        self._input = x
        return self._run(x, self._buffers)

    def evaluate(self, x: Tensor) -> Tensor:
        """Outputs (B, O) in memory of their own, overwritten by the next `evaluate` with the same B."""
        return self._run(x, self._scratch)

    def backward(self, grad: Tensor) -> None:
        """The chain rule, layer by layer from the last."""
        assert self._input is not None, "forward comes first"
        buffers = self._buffers[grad.shape[0]]
        for layer in range(len(self._weights) - 1, -1, -1):
            below = buffers.outputs[layer - 1] if layer else self._input
            weight_grad = self._weight_grads[layer]  # (inputs, outputs), in memory as the weight is
            if weight_grad.is_contiguous():
                torch.mm(below.t(), grad, out=weight_grad)
            else:
                torch.mm(grad.t(), below, out=weight_grad.t())
            torch.sum(grad, 0, out=self._bias_grads[layer])
            if layer:
                down = buffers.grads[layer - 1]
                torch.mm(grad, self._weights[layer].t(), out=down)
                if self._relu:  # h is 0 exactly where the unit was off
                    torch.ops.aten.threshold_backward.grad_input(down, below, 0, grad_input=down)
                else:
                    torch.ops.aten.tanh_backward.grad_input(down, below, grad_input=down)
                grad = down

    def infer(self, x: Array) -> Array:
        """Outputs (N, O): NumPy on the same memory for few rows, torch for many."""
        if len(x) > FEW_ROWS:
            return self.evaluate(torch.from_numpy(x)).numpy().copy()
        last = len(self._numpy) - 1
        for layer, (weight, bias) in enumerate(self._numpy):
            x = x @ weight
            x += bias
            if layer < last:
                x = np.maximum(x, 0, out=x) if self._relu else np.tanh(x, out=x)
        return x


class ModuleNetwork:
    """Any torch module, through autograd, with its parameters laid into one flat tensor."""

    def __init__(self, module: torch.nn.Module) -> None:
        self._module = module
        parts = list(module.parameters())
        device = parts[0].device
        total = sum(part.numel() for part in parts)
        self.parameters = torch.zeros(total, device=device)
        self.gradient = torch.zeros(total, device=device)
        at = 0
        for part in parts:
            place = slice(at, at + part.numel())
            self.parameters[place] = part.detach().reshape(-1)
            part.data = self.parameters[place].view(part.shape)
            part.grad = self.gradient[place].view(part.shape)
            at += part.numel()
        self._device = device
        self._output: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        """Outputs (B, O)."""
        self._output = self._module(x)
        return self._output.detach()

    def backward(self, grad: Tensor) -> None:
        """Through autograd."""
        assert self._output is not None, "forward comes first"
        self.gradient.zero_()
        torch.autograd.backward(self._output, grad)

    def evaluate(self, x: Tensor) -> Tensor:
        """Outputs (B, O) without a graph."""
        with torch.no_grad():
            output: Tensor = self._module(x)
        return output

    def infer(self, x: Array) -> Array:
        """Outputs (N, O) as NumPy."""
        return self.evaluate(torch.from_numpy(x).to(self._device)).cpu().numpy()


def module_mlp(sizes: Sequence[int], activation: Activation, rng: np.random.Generator, device: str) -> ModuleNetwork:
    """The same perceptron as `FusedMLP`, with the same initial parameters, as a torch module."""
    layers: list[torch.nn.Module] = []
    source = FusedMLP(sizes, activation, rng)
    for layer, (weight, bias) in enumerate(zip(source._weights, source._biases, strict=True)):
        linear = torch.nn.Linear(weight.shape[0], weight.shape[1])
        linear.weight.data = weight.t().contiguous()
        linear.bias.data = bias.clone()
        layers.append(linear)
        if layer < len(sizes) - 2:
            layers.append(torch.nn.ReLU() if activation == "relu" else torch.nn.Tanh())
    return ModuleNetwork(torch.nn.Sequential(*layers).to(device))


def mlp(sizes: Sequence[int], activation: Activation, rng: np.random.Generator, device: str = "cpu") -> Network:
    """A multi-layer perceptron in its fastest form for the device."""
    return FusedMLP(sizes, activation, rng) if device == "cpu" else module_mlp(sizes, activation, rng, device)


def network_state(network: Network) -> State:
    """The parameters, as a checkpoint holds them."""
    return {"parameters": network.parameters.cpu().numpy().copy()}


def load_network_state(network: Network, state: State) -> None:
    """Restore `network_state`. Raises ValueError when the sizes differ."""
    saved = torch.from_numpy(np.ascontiguousarray(state["parameters"]))
    if saved.shape != network.parameters.shape:
        raise ValueError(f"the network has {network.parameters.numel():,} parameters, the state {saved.numel():,}")
    network.parameters.copy_(saved)
