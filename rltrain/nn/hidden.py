"""What a fused network has between two linear layers: the activation, and before it the normalisation, if there is any.

Legend: B batch, H units.
"""

from __future__ import annotations

import numpy as np

from rltrain.core import Array

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


def activate(x: Array, out: Array, zeros: Array, *, relu: bool) -> None:
    """relu or tanh of units (B, H), into `out`; `zeros` (H,) are compared in half the time of a number."""
    np.maximum(x, zeros, out=out) if relu else np.tanh(x, out=out)


def activate_backward(grad: Array, out: Array, slope: Array, *, relu: bool) -> None:
    """From the gradient at the activation's outputs `out` (B, H) to that at its inputs, in place.

    tanh' = 1 - out^2, worked out in `slope` (B, H); for relu the output is 0 exactly where the unit was off.
    """
    if relu:
        grad *= out > 0
        return
    np.multiply(out, out, out=slope)
    np.subtract(1, slope, out=slope)
    grad *= slope
