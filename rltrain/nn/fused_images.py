"""Networks for images on a CPU: convolutions in torch, and the perceptrons after them in NumPy. This file loads torch.

Legend: B batch, F features, O outputs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from rltrain.compilable import compilable
from rltrain.core import Array, UpdateMode
from rltrain.jit import CompiledLater
from rltrain.nn.convolutions import IMAGES_AT_ONCE, Convolutions
from rltrain.nn.fused import ALL, fused

if TYPE_CHECKING:
    from rltrain.nn.blueprint import Blueprint
    from rltrain.nn.initialisation import Init
    from rltrain.nn.networks import OutputGradient
    from rltrain.nn.torso import Torso


@compilable
def floats_side_by_side(planes: Array, out: Array) -> None:
    """Bytes (B, C, H, W) as floats (B, H, W, C)."""
    for b in range(planes.shape[0]):
        for y in range(planes.shape[2]):
            for c in range(planes.shape[1]):
                for x in range(planes.shape[3]):
                    out[b, y, x, c] = planes[b, c, y, x]


FLOATS = CompiledLater(floats_side_by_side)


class FusedImages:
    """Perceptrons over the features of images, with the parameters of the convolutions first, as everywhere.

    The layer after the convolutions has most of the parameters. By hand its gradient is one product, written to where
    the optimiser reads it; autograd makes one of the same size first, and takes two to three times as long for it.
    """

    device = None
    mode: UpdateMode = "eager"

    def __init__(
        self, plans: Sequence[Blueprint], torso: Torso, rng: np.random.Generator | None, init: Init = "uniform"
    ) -> None:
        """`rng` draws the weights of the convolutions."""
        torch.set_flush_denormal(True)  # an optimiser's moments decay to numbers that take many times longer
        self._torso = Convolutions(torso, rng, init)
        self._weights = list(self._torso.parameters())
        count = sum(weight.numel() for weight in self._weights)
        total = count + sum(plan.parameters for plan in plans)
        self.parameters, self.gradient = np.zeros(total, np.float32), np.zeros(total, np.float32)
        self._head = fused(plans, (self.parameters[count:], self.gradient[count:]))
        self._torso_gradient = torch.from_numpy(self.gradient[:count])
        at = 0
        for weight in self._weights:
            place = torch.from_numpy(self.parameters[at : at + weight.numel()]).view(weight.shape)
            place.copy_(weight.detach())
            weight.data = place
            at += weight.numel()

    def learn(self, gradient_at: OutputGradient, x: Array, *arguments: Array) -> Any:
        """Forward, the loss's gradient at the outputs, backward: by hand to the features, by autograd below them."""
        features = self._torso.features(self._pixels(x))
        parts, back = self._head.learn_above(gradient_at, features.detach().numpy(), *arguments)
        grads = torch.autograd.grad(features, self._weights, torch.from_numpy(back))
        torch.cat([grad.reshape(-1) for grad in grads], out=self._torso_gradient)
        return parts

    def input_gradient(self, gradient_at: OutputGradient, x: Array, *arguments: Array, columns: slice = ALL) -> Array:
        """Bytes have no gradient. Raises TypeError."""
        raise TypeError("images have no gradient")

    def evaluate(self, x: Array) -> Array:
        """Outputs (B, O), to be read before the next `evaluate`."""
        return self._head.evaluate(self._features(x))

    def infer(self, x: Array, columns: slice = ALL) -> Array:
        """Columns of the outputs (N, O) in memory of their own."""
        return self._head.infer(self._features(x), columns)

    def _features(self, x: Array) -> Array:
        with torch.no_grad():
            parts = [
                self._torso.features(self._pixels(x[at : at + IMAGES_AT_ONCE]))
                for at in range(0, max(len(x), 1), IMAGES_AT_ONCE)
            ]
            return (parts[0] if len(parts) == 1 else torch.cat(parts)).numpy()

    def _pixels(self, x: Array) -> torch.Tensor:
        """Floats (B, C, H, W) whose channels lie side by side; in a long run by one compiled loop for torch's two."""
        planes = self._torso.planes(torch.from_numpy(x))
        batch, channels, height, width = planes.shape
        if channels > 1 and planes.is_contiguous() and (loop := FLOATS.after(x.size)):
            out = np.empty((batch, height, width, channels), np.float32)
            loop(planes.numpy(), out)
            return torch.from_numpy(out).permute(0, 3, 1, 2)
        return planes.contiguous(memory_format=torch.channels_last).to(torch.float32)
