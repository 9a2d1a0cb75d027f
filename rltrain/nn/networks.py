"""Networks as functions of one flat parameter vector, with a gradient of the same shape.

An optimiser step, gradient clipping and a target update are then one operation each. An agent hands `learn` a
function that gives the gradient of its loss at the network's *outputs*; the network does the rest. Two kinds share
this interface: `FusedMLP`, NumPy written out by hand for speed on a CPU, and `ModuleNetwork` (`modules.py`), any
torch module through autograd. A test holds the first to the second.

Legend: B batch, I inputs, O outputs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal, Protocol

import numpy as np

from rltrain.core import Array, State, UpdateMode
from rltrain.nn.arrays import Tensor, copy_into, to_numpy
from rltrain.nn.hidden import Hidden
from rltrain.nn.initialisation import Init, orthogonal
from rltrain.nn.torso import Torso
from rltrain.nn.workspace import Workspace

Activation = Literal["relu", "tanh", "elu", "gelu", "silu"]
FUSED = ("relu", "tanh")
"""Activations that `FusedMLP` has; torch runs the others."""
OutputGradient = Callable[..., tuple[Tensor, Any]]
"""(outputs (B, O), *arguments) -> gradient of the loss at the outputs (B, O), and whatever else is wanted."""
ALL = slice(None)


@dataclass(frozen=True)
class Blueprint:
    """A multi-layer perceptron before it is built: h_l = act(n(h_(l-1) W_l + b_l)), the last layer without either."""

    activation: Activation
    weights: list[Array]  # (inputs, outputs) each
    biases: list[Array]
    free: Array | None = None  # (F,) outputs that are parameters themselves, the same for every input
    features: bool = False  # whether the units of the last hidden layer are outputs too, before the free ones
    layer_norm: bool = False  # n: the units of a hidden layer with mean 0 and variance 1 (`hidden.normalise`), or as is

    @property
    def sizes(self) -> list[int]:
        """Inputs, units of each hidden layer, outputs without the free ones."""
        return [len(self.weights[0]), *(len(bias) for bias in self.biases)]

    @property
    def outputs(self) -> int:
        """How many outputs a network of this kind has."""
        return len(self.biases[-1]) + self.features * self.sizes[-2] + (0 if self.free is None else len(self.free))

    @property
    def parameters(self) -> int:
        """How many numbers a network of this kind learns."""
        parts = [*self.weights, *self.biases, *([] if self.free is None else [self.free])]
        return sum(part.size for part in parts)


def blueprint(
    sizes: Sequence[int],
    activation: Activation,
    rng: np.random.Generator,
    *,
    init: Init = "uniform",
    gain: float | Sequence[float] = 1.0,
    free: Array | None = None,
    features: bool = False,
    layer_norm: bool = False,
) -> Blueprint:
    """Draw the initial weights.

    `uniform` is U(-1/sqrt(inputs), 1/sqrt(inputs)) for weights and biases, as torch's linear layers begin.
    `orthogonal` is an orthogonal matrix times sqrt(2), in the last layer times `gain` (one for all outputs, or one
    each), and biases of 0.
    Source: Saxe et al. 2014, https://arxiv.org/abs/1312.6120
    """
    weights, biases = [], []
    shapes = list(pairwise(sizes))
    for layer, (inputs, outputs) in enumerate(shapes):
        if init == "uniform":
            bound = 1 / math.sqrt(inputs)
            weights.append(rng.uniform(-bound, bound, (inputs, outputs)).astype(np.float32))
            biases.append(rng.uniform(-bound, bound, outputs).astype(np.float32))
        else:
            scale = np.asarray(gain if layer == len(shapes) - 1 else math.sqrt(2))
            weights.append((scale * orthogonal(inputs, outputs, rng)).astype(np.float32))
            biases.append(np.zeros(outputs, np.float32))
    outputs_alone = None if free is None else np.asarray(free, np.float32)
    return Blueprint(activation, weights, biases, outputs_alone, features, layer_norm)


class Network(Protocol):
    """What an agent needs of a network."""

    parameters: Tensor  # (P,) float32
    gradient: Tensor  # (P,) float32
    mode: UpdateMode
    """How `learn` runs."""

    @property
    def device(self) -> str | None:
        """Where torch keeps it; None for NumPy."""

    def learn(self, gradient_at: OutputGradient, x: Tensor, *arguments: Tensor) -> Any:
        """Fill `gradient` at inputs (B, I) and return what `gradient_at(outputs, *arguments)` gave beside it."""

    def input_gradient(
        self, gradient_at: OutputGradient, x: Tensor, *arguments: Tensor, columns: slice = ALL
    ) -> Tensor:
        """The gradient at the inputs (B, I) of a loss of these outputs; that of the parameters stays as it is."""

    def evaluate(self, x: Tensor) -> Tensor:
        """Outputs (B, O), to be read before the next `evaluate`."""

    def infer(self, x: Array, columns: slice = ALL) -> Array:
        """These columns of the outputs (N, O) as NumPy, for acting."""


class FusedMLP:
    """A multi-layer perceptron in NumPy whose passes write into memory made once."""

    device = None
    mode: UpdateMode = "eager"

    def __init__(self, plan: Blueprint, memory: tuple[Array, Array] | None = None) -> None:
        """`memory` is where parameters and gradient (P,) lie, if another network owns them."""
        self._sizes = plan.sizes
        self._hidden = Hidden(plan.activation == "relu", max(plan.sizes))
        self._features, self._extra = plan.features, plan.outputs - self._sizes[-1]
        total = plan.parameters
        self.parameters: Array
        self.gradient: Array
        self.parameters, self.gradient = memory or (np.zeros(total, np.float32), np.zeros(total, np.float32))
        self._weights, self._biases, self._free = self._views(self.parameters)
        self._weight_grads, self._bias_grads, self._free_grad = self._views(self.gradient)
        for layer, (weight, bias) in enumerate(zip(plan.weights, plan.biases, strict=True)):
            self._weights[layer][:], self._biases[layer][:] = weight, bias
        if plan.free is not None:
            self._free[:] = plan.free
        memories = [Workspace(self._sizes, self._extra, normalised=plan.layer_norm) for _ in range(2)]
        self._training, self._scratch = memories

    def _views(self, flat: Array) -> tuple[list[Array], list[Array], Array]:
        weights, biases, at = [], [], 0
        for inputs, outputs in pairwise(self._sizes):
            weights.append(flat[at : at + inputs * outputs].reshape(inputs, outputs))
            at += inputs * outputs
            biases.append(flat[at : at + outputs])
            at += outputs
        return weights, biases, flat[at:]

    def forward(self, x: Array, buffers: Workspace | None = None) -> Array:
        """Outputs (B, O) of inputs (B, I) in memory that the next call uses again."""
        buffers = buffers or self._training
        outputs, normal, last = buffers.outputs(len(x)), buffers.normal(len(x)), len(self._weights) - 1
        for layer, (weight, bias, out) in enumerate(zip(self._weights, self._biases, outputs, strict=True)):
            np.dot(x, weight, out=out)  # with few rows half the time of matmul
            if layer < last:
                self._hidden.forward(out, bias, normal[layer])
            else:
                out += bias
            x = out
        if not self._extra:
            return x
        return buffers.widened(x, *([outputs[-2]] if self._features else []), self._free)

    def backward(self, x: Array, grad: Array, *, to_inputs: bool = False, to_parameters: bool = True) -> Array | None:
        """The chain rule from the last layer down, at the last `forward`; `to_inputs` returns what comes out (B, I)."""
        memory, rows = self._training, len(x)
        outputs, hidden, normal = memory.outputs(rows), memory.hidden(rows), memory.normal(rows)
        wide, heads, free = grad, self._sizes[-1], grad.shape[1] - len(self._free)
        if self._extra:
            grad = wide[:, :heads]
            if to_parameters:
                np.add.reduce(wide[:, free:], 0, out=self._free_grad)
        if to_parameters:
            np.add.reduce(grad, 0, out=self._bias_grads[-1])
        for layer in range(len(self._weights) - 1, -1, -1):
            below = outputs[layer - 1] if layer else x
            if to_parameters:
                np.dot(below.T, grad, out=self._weight_grads[layer])
            if layer:
                room, down = hidden[layer - 1]
                np.dot(grad, self._weights[layer].T, out=down)
                if self._features and layer == len(self._weights) - 1:
                    down += wide[:, heads:free]
                sums = self._bias_grads[layer - 1] if to_parameters else None
                self._hidden.backward(down, below, room, sums, normal[layer - 1])
                grad = down
        return np.asarray(grad @ self._weights[0].T) if to_inputs else None

    def learn(self, gradient_at: OutputGradient, x: Array, *arguments: Array) -> Any:
        """Forward, the loss's gradient at the outputs, backward."""
        grad, parts = gradient_at(self.forward(x), *arguments)
        self.backward(x, grad)
        return parts

    def input_gradient(self, gradient_at: OutputGradient, x: Array, *arguments: Array, columns: slice = ALL) -> Array:
        """The gradient at the inputs (B, I) of a loss of these outputs."""
        outputs = self.forward(x)
        grad, _ = gradient_at(outputs[:, columns], *arguments)
        if columns != ALL:
            part, grad = grad, np.zeros_like(outputs)
            grad[:, columns] = part
        return np.asarray(self.backward(x, grad, to_inputs=True, to_parameters=False))

    def evaluate(self, x: Array) -> Array:
        """Outputs (B, O), to be read before the next `evaluate`."""
        return self.forward(x, self._scratch)

    def infer(self, x: Array, columns: slice = ALL) -> Array:
        """Columns of the outputs (N, O) in memory of their own."""
        return self.evaluate(x)[:, columns].copy()


class FusedBranches:
    """Perceptrons over the same input, with their outputs side by side and their parameters one after the other."""

    device = None
    mode: UpdateMode = "eager"

    def __init__(self, plans: Sequence[Blueprint]) -> None:
        counts = [plan.parameters for plan in plans]
        self.parameters, self.gradient = np.zeros(sum(counts), np.float32), np.zeros(sum(counts), np.float32)
        ends = np.cumsum(counts)
        places = [slice(end - count, end) for end, count in zip(ends, counts, strict=True)]
        self._branches = [
            FusedMLP(plan, (self.parameters[place], self.gradient[place]))
            for plan, place in zip(plans, places, strict=True)
        ]
        widths = [plan.outputs for plan in plans]
        self._columns = [slice(end - width, end) for end, width in zip(np.cumsum(widths), widths, strict=True)]

    def learn(self, gradient_at: OutputGradient, x: Array, *arguments: Array) -> Any:
        """Forward, the loss's gradient at the outputs, backward."""
        return self._through(gradient_at, x, arguments)[0]

    def input_gradient(self, gradient_at: OutputGradient, x: Array, *arguments: Array, columns: slice = ALL) -> Array:
        """The gradient at the inputs (B, I): the sum of the branches'."""
        for branch, own in zip(self._branches, self._columns, strict=True):
            if columns == own:
                return branch.input_gradient(gradient_at, x, *arguments)
        if columns != ALL:
            raise ValueError("the outputs of one branch, or of all")
        parts = self._through(gradient_at, x, arguments, to_inputs=True, to_parameters=False)[1]
        return np.asarray(sum(parts))

    def _through(self, gradient_at: OutputGradient, x: Array, arguments: Any, **how: bool) -> tuple[Any, list[Any]]:
        outputs = np.concatenate([branch.forward(x) for branch in self._branches], 1)
        grad, parts = gradient_at(outputs, *arguments)
        own = [np.ascontiguousarray(grad[:, columns]) for columns in self._columns]
        return parts, [branch.backward(x, g, **how) for branch, g in zip(self._branches, own, strict=True)]

    def evaluate(self, x: Array) -> Array:
        """Outputs (B, O)."""
        return np.concatenate([branch.evaluate(x) for branch in self._branches], 1)

    def infer(self, x: Array, columns: slice = ALL) -> Array:
        """Columns of the outputs (N, O); a branch that has none of them is left out."""
        for branch, own in zip(self._branches, self._columns, strict=True):
            if columns == own:
                return branch.infer(x)
        return self.evaluate(x)[:, columns].copy()


def build(
    plans: Sequence[Blueprint],
    device: str,
    *,
    torso: Torso | None = None,
    rng: np.random.Generator | None = None,
    init: Init = "uniform",
) -> Network:
    """Perceptrons over the same input, outputs side by side, in their fastest form for the device.

    For images they share the convolutions of a `torso`, whose weights `rng` draws; its parameters come first.
    """
    if torso is None and device == "cpu" and all(plan.activation in FUSED for plan in plans):
        return FusedMLP(plans[0]) if len(plans) == 1 else FusedBranches(plans)
    from rltrain.nn.modules import module_network  # loads torch

    return module_network(plans, device, torso=torso, rng=rng, init=init)


def network_state(network: Network) -> State:
    """The parameters, as a checkpoint holds them."""
    return {"parameters": to_numpy(network.parameters)}


def load_network_state(network: Network, state: State) -> None:
    """Restore `network_state`. Raises ValueError when the sizes differ."""
    saved = np.ascontiguousarray(state["parameters"])
    if saved.shape != tuple(network.parameters.shape):
        raise ValueError(f"the network has {len(network.parameters):,} parameters, the state {saved.size:,}")
    copy_into(network.parameters, saved)
