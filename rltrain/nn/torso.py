"""Convolutions by name, which turn an image into the vector that the hidden layers take. Nothing here loads torch.

Legend: B batch, C channels, H height, W width, F features.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

from rltrain.core import EnvSpec
from rltrain.encoding import is_image

EncoderName = Literal["auto", "nature", "impala", "minatar"]
"""nature: three convolutions, for screens. impala: three stages of residual blocks, slower and stronger. minatar: one.

Sources: Mnih et al. 2015, https://doi.org/10.1038/nature14236 (512 hidden units after them); Espeholt et al. 2018,
https://arxiv.org/abs/1802.01561, figure 3 without its LSTM (256 units); Young and Tian 2019,
https://arxiv.org/abs/1903.03176, for boards of 10 by 10 (128 units).
"""
PUBLISHED_UNITS = {"nature": 512, "impala": 256, "minatar": 128}
"""Units of the one hidden layer after the convolutions, in the same sources."""
SMALLEST_NATURE = 36
"""Pixels in height and width from which the three convolutions of nature have anything left."""
IMPALA_STAGES = (16, 32, 32)


class Convolution(NamedTuple):
    """A convolution without padding, with a ReLU after it."""

    channels: int
    kernel: int
    stride: int


STACKS: dict[str, tuple[Convolution, ...]] = {
    "nature": (Convolution(32, 8, 4), Convolution(64, 4, 2), Convolution(64, 3, 1)),
    "minatar": (Convolution(16, 3, 1),),
}


class Torso(NamedTuple):
    """The convolutions of a network before they are built."""

    name: str
    shape: tuple[int, ...]  # of an observation
    channels_last: bool  # (H, W, C), (K, H, W, C) for K frames, or (H, W); else (C, H, W)
    layer_norm: bool = False  # units of an image with mean 0 and variance 1 before every activation

    @property
    def image(self) -> tuple[int, int, int]:
        """C, H, W: frames and colours are channels."""
        if len(self.shape) == 2:
            return (1, *self.shape)
        if not self.channels_last:
            return (self.shape[0], self.shape[1], self.shape[2])
        *frames, height, width, colours = self.shape
        return colours * (frames[0] if frames else 1), height, width

    @property
    def features(self) -> int:
        """F: how many numbers come out."""
        channels, height, width = self.image
        if self.name == "impala":
            for _ in IMPALA_STAGES:  # each halves the image, rounded up
                height, width = -(-height // 2), -(-width // 2)
            return IMPALA_STAGES[-1] * height * width
        for layer in STACKS[self.name]:
            channels = layer.channels
            height, width = ((side - layer.kernel) // layer.stride + 1 for side in (height, width))
        return channels * height * width


def torso(encoder: EncoderName, shape: Sequence[int], *, stacked: bool = False, layer_norm: bool = False) -> Torso:
    """The convolutions for images of this shape; `auto` takes nature for screens and minatar for small boards.

    Of three dimensions the first is that of channels where frames are `stacked`, else the shorter of first and last.
    """
    last = len(shape) != 3 or (not stacked and shape[-1] <= shape[0])
    small = min(Torso("nature", tuple(shape), last).image[1:]) < SMALLEST_NATURE
    name = {"auto": "minatar" if small else "nature"}.get(encoder, encoder)
    return Torso(name, tuple(shape), last, layer_norm)


def torso_of(encoder: EncoderName, spec: EnvSpec, *, layer_norm: bool = False) -> Torso:
    """The convolutions for the images of an environment."""
    shape = spec.observation_space.shape or ()
    stacked = spec.frame_stack > 1 and shape[0] == spec.frame_stack  # else something has moved them
    return torso(encoder, shape, stacked=stacked, layer_norm=layer_norm)


def encoder_problem(encoder: EncoderName, spec: EnvSpec) -> str | None:
    """Why these convolutions do not fit the observations, or None."""
    space = spec.observation_space
    if not is_image(space):
        return None if encoder == "auto" else f"is for images, {spec.id} has none: leave it out"
    plan = torso_of(encoder, spec)
    if plan.features > 0 and min(plan.image[1:]) >= (SMALLEST_NATURE if plan.name == "nature" else 3):
        return None
    _, height, width = plan.image
    return f"{plan.name} needs larger images than {height} by {width}: use auto, minatar or impala"


def units_note(encoder: EncoderName, hidden_sizes: Sequence[int], spec: EnvSpec) -> str | None:
    """What to tell a user who left the hidden layers after the convolutions as they are; None where there are none."""
    if not is_image(spec.observation_space):
        return None
    plan = torso_of(encoder, spec)
    usual = PUBLISHED_UNITS[plan.name]
    return (
        f"agent.hidden_sizes is not set: {list(hidden_sizes)} follow the convolutions of {plan.name}, "
        f"which were published with [{usual}]"
    )
