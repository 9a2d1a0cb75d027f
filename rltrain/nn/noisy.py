"""Weights with noise whose size is learnt: exploration that belongs to the network."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np

from rltrain.core import Array, UpdateMode
from rltrain.nn.arrays import Tensor, copy_into, namespace, to_device

if TYPE_CHECKING:
    from rltrain.nn.blueprint import Blueprint
    from rltrain.nn.networks import Network, OutputGradient


class NoisyNetwork:
    """w = mu + sigma * eps for every weight and bias of a network, of which mu and sigma are what is learnt.

    The noise is factorised: a layer of p inputs and q outputs has p + q draws, and with f(x) = sign(x) sqrt(|x|)

        eps of the weight from i to j = f(e_i) f(e_j),     eps of the bias of j = f(e_j)

    sigma begins as sigma_0 / sqrt(p). The gradients are those at w, and times eps. They lie one after the other in
    `parameters` and `gradient`: all mu (P,), then all sigma (P,), so that optimiser, clipping and target updates see
    one network. The noise stays until `disturb` is called, which whoever uses the network does before each use.
    Source: Fortunato et al. 2018, equations 9 to 11 and section 3.2, https://arxiv.org/abs/1706.10295
    """

    def __init__(self, network: Network, plans: Sequence[Blueprint], sigma_0: float) -> None:
        """`plans` are what `network` was built from; sigma_0 is 0.5 in the paper."""
        self._network = network
        weights = list(chain.from_iterable(plan.weights for plan in plans))
        self._draws = [weight.shape for weight in weights]
        self.plain = len(network.parameters) - sum((i + 1) * o for i, o in self._draws)
        """How many parameters come before those of the layers, and are without noise."""
        self._noise, self._parts = _layers(self._draws, self.plain)
        sigma, parts = _layers(self._draws, self.plain)
        for (inputs, _), pair in zip(self._draws, parts, strict=True):
            for part in pair:
                part[...] = sigma_0 / np.sqrt(inputs)
        self._count = count = len(sigma)
        self.parameters, self.gradient = (to_device(np.zeros(2 * count, np.float32), network.device) for _ in range(2))
        self.mean, self.sigma = self.parameters[:count], self.parameters[count:]
        self.mean[:] = network.parameters
        copy_into(self.sigma, sigma)
        self._eps = to_device(self._noise, network.device)

    @property
    def device(self) -> str | None:
        """Where torch keeps it; None for NumPy."""
        return self._network.device

    @property
    def mode(self) -> UpdateMode:
        """How `learn` runs."""
        return self._network.mode

    @mode.setter
    def mode(self, wanted: UpdateMode) -> None:
        self._network.mode = wanted

    def disturb(self, rng: np.random.Generator | None) -> None:
        """Draw new noise, or without a generator take the means alone. Draws are NumPy's whatever the device."""
        if rng is None:
            self._network.parameters[:] = self.mean
            return
        x = rng.standard_normal(sum(map(sum, self._draws)), np.float32)
        f, at = np.copysign(np.sqrt(np.abs(x)), x), 0
        for (inputs, outputs), (weight, bias) in zip(self._draws, self._parts, strict=True):
            bias[:] = f[at + inputs : at + inputs + outputs]
            np.multiply(f[at : at + inputs, None], bias, out=weight)
            at += inputs + outputs
        self._eps = to_device(self._noise, self.device)
        weights = self._network.parameters
        namespace(weights).multiply(self.sigma, self._eps, out=weights)
        weights += self.mean

    def learn(self, gradient_at: OutputGradient, x: Tensor, *arguments: Tensor) -> Any:
        """Fill `gradient`, under the present noise, and return the second value of `gradient_at`."""
        parts = self._network.learn(gradient_at, x, *arguments)
        at_weights = self._network.gradient
        self.gradient[: self._count] = at_weights
        self.gradient[self._count :] = at_weights
        self.gradient[self._count :] *= self._eps
        return parts

    def input_gradient(
        self, gradient_at: OutputGradient, x: Tensor, *arguments: Tensor, columns: slice = slice(None)
    ) -> Tensor:
        """The gradient at the inputs (B, I), under the present noise."""
        return self._network.input_gradient(gradient_at, x, *arguments, columns=columns)

    def evaluate(self, x: Tensor) -> Tensor:
        """Outputs (B, O) under the present noise, to be read before the next `evaluate`."""
        return self._network.evaluate(x)

    def infer(self, x: Array, columns: slice = slice(None)) -> Array:
        """Columns of the outputs (N, O) under the present noise, as NumPy."""
        return self._network.infer(x, columns)


def _layers(shapes: Sequence[tuple[int, ...]], plain: int) -> tuple[Array, list[tuple[Array, Array]]]:
    """Zeros for all parameters (P,), and a view of each layer's weights (inputs, outputs) and biases (outputs,).

    The first `plain` belong to no layer: convolutions are never noisy, as in the paper.
    """
    flat, parts, at = np.zeros(plain + sum((i + 1) * o for i, o in shapes), np.float32), [], plain
    for inputs, outputs in shapes:
        size = inputs * outputs
        weight = flat[at : at + size].reshape(inputs, outputs)
        parts.append((weight, flat[at + size : at + size + outputs]))
        at += size + outputs
    return flat, parts
