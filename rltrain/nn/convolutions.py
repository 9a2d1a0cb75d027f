"""The convolutions of `torso.py` in torch. This file loads torch."""

from __future__ import annotations

import math

import numpy as np
import torch

from rltrain.core import Array
from rltrain.nn.hidden import EPS
from rltrain.nn.initialisation import Init, orthogonal
from rltrain.nn.torso import IMPALA_STAGES, STACKS, Torso

IMAGES_AT_ONCE = 2_048
"""Images that are evaluated in one go: convolutions take hundreds of kilobytes for each."""


class Residual(torch.nn.Module):
    """x + conv(relu(conv(relu(x)))), both 3 by 3."""

    def __init__(self, channels: int, layer_norm: bool) -> None:
        super().__init__()
        self.convolutions = torch.nn.ModuleList(torch.nn.Conv2d(channels, channels, 3, padding=1) for _ in range(2))
        self.activation = torch.nn.Sequential(*_activation(channels, layer_norm))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, C, H, W) -> (B, C, H, W)."""
        h = x
        for convolution in self.convolutions:
            h = convolution(self.activation(h))
        return x + h


def _activation(channels: int, layer_norm: bool, *, inplace: bool = False) -> list[torch.nn.Module]:
    """ReLU, of all units of an image (C, H, W) with mean 0 and variance 1 where they are normalised."""
    norm = [torch.nn.GroupNorm(1, channels, eps=EPS, affine=False)] if layer_norm else []
    return [*norm, torch.nn.ReLU(inplace=inplace)]


def _layers(plan: Torso) -> list[torch.nn.Module]:
    channels, layers = plan.image[0], list[torch.nn.Module]()
    if plan.name == "impala":
        for wide in IMPALA_STAGES:
            layers += [torch.nn.Conv2d(channels, wide, 3, padding=1), torch.nn.MaxPool2d(3, 2, 1)]
            layers += [Residual(wide, plan.layer_norm), Residual(wide, plan.layer_norm)]
            channels = wide
        return [*layers, *_activation(channels, plan.layer_norm)]
    for wide, kernel, stride in STACKS[plan.name]:
        layers += [torch.nn.Conv2d(channels, wide, kernel, stride), *_activation(wide, plan.layer_norm, inplace=True)]
        channels = wide
    return layers


class Convolutions(torch.nn.Module):
    """Bytes of images (B, *shape) -> features (B, F) of pixels between 0 and 1.

    Channels lie side by side in memory, which on a CPU makes an update of nature 1.2 times and of impala 1.6 times as
    fast as one plane after the other.
    """

    def __init__(self, plan: Torso, rng: np.random.Generator | None, init: Init) -> None:
        """Weights begin as those of a perceptron do (`blueprint`)."""
        super().__init__()
        assert rng is not None, "convolutions need a generator for their weights"
        torch.backends.cudnn.benchmark = True  # shapes come again and again
        self._plan, self.shape = plan, plan.shape
        self.layers = torch.nn.Sequential(*_layers(plan))
        for part in self.layers.modules():
            if isinstance(part, torch.nn.Conv2d):
                weight, bias = _drawn(tuple(part.weight.shape), rng, init)
                part.weight.data, part.bias.data = torch.from_numpy(weight), torch.from_numpy(bias)  # type: ignore[union-attr]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Features of bytes."""
        x = self.planes(x).contiguous(memory_format=torch.channels_last)  # bytes are quicker to move
        return self.features(x.to(torch.float32))

    def planes(self, x: torch.Tensor) -> torch.Tensor:
        """Images (B, *shape) as (B, C, H, W)."""
        plan = self._plan
        if len(plan.shape) == 2:
            return x.unsqueeze(1)
        if len(plan.shape) == 4:  # frames and colours become channels
            return x.permute(0, 1, 4, 2, 3).flatten(1, 2)
        return x.permute(0, 3, 1, 2) if plan.channels_last else x

    def features(self, pixels: torch.Tensor) -> torch.Tensor:
        """Convolve pixels (B, C, H, W), the first time with weights that scale them, and flatten."""
        first = self.layers[0]
        assert isinstance(first, torch.nn.Conv2d)
        h = torch.nn.functional.conv2d(pixels, first.weight * (1 / 255), first.bias, first.stride, first.padding)  # type: ignore[arg-type]
        features: torch.Tensor = self.layers[1:](h).flatten(1)
        return features


def _drawn(shape: tuple[int, ...], rng: np.random.Generator, init: Init) -> tuple[Array, Array]:
    """Weights (channels out, channels in, height, width) and biases (channels out,)."""
    outputs, inputs = shape[0], math.prod(shape[1:])
    if init == "uniform":
        bound = 1 / math.sqrt(inputs)
        weight, bias = rng.uniform(-bound, bound, (outputs, inputs)), rng.uniform(-bound, bound, outputs)
    else:
        weight, bias = math.sqrt(2) * orthogonal(outputs, inputs, rng), np.zeros(outputs)
    return weight.reshape(shape).astype(np.float32), bias.astype(np.float32)
