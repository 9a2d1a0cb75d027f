"""What is between the matrix products of a perceptron: biases and activations, and the way back through them.

In a long run the loops of relu are compiled: NumPy goes through the numbers once for each operation. The results are
the same to the last bit.
"""

from __future__ import annotations

import numpy as np

from rltrain.compilable import compilable
from rltrain.core import Array
from rltrain.jit import CompiledLater


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

    def forward(self, h: Array, bias: Array) -> None:
        """h = act(h + bias), in place."""
        if self._relu and (loop := RELU.after(h.size)):
            loop(h, bias)
            return
        h += bias
        if self._relu:
            np.maximum(h, self._zeros[: len(bias)], out=h)
        else:
            np.tanh(h, out=h)

    def backward(self, grad: Array, h: Array, room: Array, sums: Array | None) -> None:
        """From the gradient at outputs h to that before the activation, in place, and its `sums` (units,) if asked for.

        tanh' = 1 - h^2; for relu h is 0 exactly where the unit was off.
        """
        if self._relu and grad.shape[1] > 1 and (loop := THROUGH_RELU.after(grad.size)):
            loop(grad, h, self._sums[: grad.shape[1]] if sums is None else sums)
            return
        if self._relu:
            grad *= h > 0
        else:
            np.multiply(h, h, out=room)
            np.subtract(1, room, out=room)
            grad *= room
        if sums is not None:
            np.add.reduce(grad, 0, out=sums)
