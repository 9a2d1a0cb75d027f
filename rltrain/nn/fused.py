"""Perceptrons in NumPy, written out by hand: on a CPU as fast as torch, which takes a second to load.

Legend: B batch, I inputs, O outputs.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from rltrain.core import Array, UpdateMode
from rltrain.nn.hidden import Hidden
from rltrain.nn.workspace import Workspace

if TYPE_CHECKING:
    from rltrain.nn.blueprint import Blueprint
    from rltrain.nn.networks import OutputGradient

FUSED = ("relu", "tanh")
"""Activations that these have; torch runs the others."""
ALL = slice(None)


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

    def learn_above(self, gradient_at: OutputGradient, x: Array, *arguments: Array) -> tuple[Any, Array]:
        """As `learn`, and the gradient at the inputs (B, I), for what they were made by."""
        grad, parts = gradient_at(self.forward(x), *arguments)
        return parts, np.asarray(self.backward(x, grad, to_inputs=True))

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

    def __init__(self, plans: Sequence[Blueprint], memory: tuple[Array, Array] | None = None) -> None:
        """`memory` is where parameters and gradient (P,) lie, if another network owns them."""
        counts = [plan.parameters for plan in plans]
        total = sum(counts)
        self.parameters: Array
        self.gradient: Array
        self.parameters, self.gradient = memory or (np.zeros(total, np.float32), np.zeros(total, np.float32))
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

    def learn_above(self, gradient_at: OutputGradient, x: Array, *arguments: Array) -> tuple[Any, Array]:
        """As `learn`, and the gradient at the inputs (B, I), the sum of the branches'."""
        parts, back = self._through(gradient_at, x, arguments, to_inputs=True)
        return parts, np.asarray(sum(back))

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


def fused(plans: Sequence[Blueprint], memory: tuple[Array, Array] | None = None) -> FusedMLP | FusedBranches:
    """Perceptrons over the same input; `memory` is where parameters and gradient (P,) lie, if another owns them."""
    return FusedMLP(plans[0], memory) if len(plans) == 1 else FusedBranches(plans, memory)
