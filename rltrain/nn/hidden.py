"""What is between the matrix products of a perceptron: biases, normalisation, activations, and the way back.

In a long run the loops of relu are compiled: NumPy goes through the numbers once for each operation. The results are
the same to the last bit.

Legend: B batch, H units.
"""

from __future__ import annotations

import numpy as np

from rltrain.compilable import compilable
from rltrain.core import Array
from rltrain.jit import CompiledLater

Normal = tuple[Array, Array]
"""Normalised units (B, H), and what a row was multiplied by (B, 1)."""
EPS = 1e-5
"""Added to the variance of the units, as torch does."""


def normalise(x: Array, normal: Array, scale: Array) -> Array:
    """n(x) = (x - mean x) / sqrt(var x + eps) over the units of a row (B, H), without gain and bias.

    `normal` (B, H) is filled with n(x) and returned, `scale` (B, 1) with the number that a row was multiplied by.
    Source: Ba, Kiros and Hinton 2016, section 3, "Layer Normalization", https://arxiv.org/abs/1607.06450
    """
    np.subtract(x, x.mean(1, keepdims=True), out=normal)
    np.einsum("bh,bh->b", normal, normal, out=scale[:, 0])
    scale /= x.shape[1]
    scale += EPS
    scale **= -0.5
    normal *= scale
    return normal


def normalise_backward(grad: Array, normal: Array, scale: Array) -> None:
    """From the gradient at n(x) (B, H) to that at x, in place: scale (g - mean g - n mean(g n)), means over a row."""
    share = np.einsum("bh,bh->b", grad, normal)[:, None] / np.float32(grad.shape[1])
    grad -= grad.mean(1, keepdims=True)
    grad -= normal * share
    grad *= scale


@compilable
def relu(h: Array, bias: Array) -> None:
    """h = max(h + bias, 0), in place; what is no number stays so."""
    for i in range(h.shape[0]):
        for j in range(h.shape[1]):
            x = h[i, j] + bias[j]
            h[i, j] = np.float32(0) if x <= 0 else x


@compilable
def through_relu(grad: Array, h: Array, sums: Array) -> None:
    """The gradient before the activation, in place, and its sums over the rows."""
    sums[:] = 0
    for i in range(h.shape[0]):
        for j in range(h.shape[1]):
            x = grad[i, j] * (np.float32(1) if h[i, j] > 0 else np.float32(0))
            grad[i, j] = x
            sums[j] += x


RELU, THROUGH_RELU = CompiledLater(relu), CompiledLater(through_relu)


class Hidden:
    """The activation of hidden layers, for batches (B, units)."""

    def __init__(self, relu: bool, widest: int) -> None:
        """`widest` is how many units a layer has at most."""
        self._relu = relu
        self._zeros = np.zeros(widest, np.float32)  # a row of them is compared in half the time of a number
        self._sums = np.zeros(widest, np.float32)

    def forward(self, h: Array, bias: Array, normal: Normal | None = None) -> None:
        """h = act(h + bias), or act(n(h + bias)), in place."""
        if self._relu and normal is None and (loop := RELU.after(h.size)):
            loop(h, bias)
            return
        h += bias
        x = h if normal is None else normalise(h, *normal)
        if self._relu:
            np.maximum(x, self._zeros[: len(bias)], out=h)
        else:
            np.tanh(x, out=h)

    def backward(self, grad: Array, h: Array, room: Array, sums: Array | None, normal: Normal | None = None) -> None:
        """From the gradient at outputs h to that before the bias, in place, and its `sums` (units,) if asked for.

        tanh' = 1 - h^2; for relu h is 0 exactly where the unit was off. `normal` is what `forward` has filled.
        """
        if self._relu and normal is None and grad.shape[1] > 1 and (loop := THROUGH_RELU.after(grad.size)):
            loop(grad, h, self._sums[: grad.shape[1]] if sums is None else sums)
            return
        if self._relu:
            grad *= h > 0
        else:
            np.multiply(h, h, out=room)
            np.subtract(1, room, out=room)
            grad *= room
        if normal is not None:
            normalise_backward(grad, *normal)
        if sums is not None:
            np.add.reduce(grad, 0, out=sums)
