"""Multi-layer perceptrons before they are built: sizes, activation, initial weights."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np

from rltrain.core import Array
from rltrain.nn.initialisation import Init, orthogonal

Activation = Literal["relu", "tanh", "elu", "gelu", "silu"]


@dataclass(frozen=True)
class Blueprint:
    """A multi-layer perceptron before it is built: h_l = act(n(h_(l-1) W_l + b_l)), the last layer without either.

    One of no layers, whose outputs are its inputs, has no sizes.
    """

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
