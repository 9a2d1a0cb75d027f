"""Policies that a critic's slope moves: draws as a function of outputs and noise, squashed to -1 ... 1 by tanh.

Legend: B batch, O outputs of the network, D dimensions of an action.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import gymnasium as gym
import numpy as np

from rltrain.core import Array
from rltrain.nn.arrays import Tensor, namespace
from rltrain.nn.distributions import Gaussian, StateDependentGaussian

LOG_STD_RANGE = (-20.0, 2.0)
"""Where the logarithm of a standard deviation is kept."""
MEAN_BOUND = 2.0
"""Where means are kept of which the noise may be held, before tanh."""


class Draw(NamedTuple):
    """Actions as functions of the outputs."""

    action: Tensor  # (B, D) in -1 ... 1
    log_prob: Tensor  # (B,)
    pull: Callable[[Tensor, Tensor | float], Tensor]
    """(dL/d action (B, D), dL/d log_prob, the same for every row) -> dL/d outputs (B, O)"""


class ClippedGaussian(Gaussian):
    """Normal distributions whose deviation is an output and kept in a range, squashed to -1 ... 1."""

    def __init__(self, size: int) -> None:
        super().__init__(unit_box(size), log_std=0.0, by_state=True, squash=True)

    def parts(self, outputs: Tensor) -> tuple[Tensor, Tensor]:
        """Means and logarithms of standard deviations, (B, D) each."""
        mean, log_std = super().parts(outputs)
        return mean, log_std.clip(*LOG_STD_RANGE)

    def to_outputs(self, outputs: Tensor, d_mean: Tensor, d_log_std: Tensor) -> Tensor:
        """Gradient at the outputs (B, O): none at a logarithm that is out of the range."""
        log_std = super().parts(outputs)[1]
        inside = (log_std >= LOG_STD_RANGE[0]) & (log_std <= LOG_STD_RANGE[1])
        return super().to_outputs(outputs, d_mean, d_log_std * inside)


class BoundedMeans(StateDependentGaussian):
    """Noise that may be held, squashed to -1 ... 1 around means that are kept where tanh still has a slope.

    Beyond, neither noise nor gradient would move an action any more.
    Source: the authors' own, https://stable-baselines3.readthedocs.io/en/master/modules/sac.html (`clip_mean`)
    """

    def mode(self, outputs: Array) -> Array:
        """The means, within their bounds."""
        return super().mode(outputs).clip(-MEAN_BOUND, MEAN_BOUND)

    def parts(self, outputs: Tensor) -> tuple[Tensor, Tensor]:
        """Means, within their bounds, and logarithms of standard deviations, (B, D) each."""
        mean, log_std = super().parts(outputs)
        return mean.clip(-MEAN_BOUND, MEAN_BOUND), log_std

    def to_outputs(self, outputs: Tensor, d_mean: Tensor, d_log_std: Tensor) -> Tensor:
        """Gradient at the outputs (B, O): none at a mean that is out of its bounds."""
        inside = abs(super().parts(outputs)[0]) <= MEAN_BOUND
        return super().to_outputs(outputs, d_mean * inside, d_log_std)


def squashed_policy(size: int, *, features: int | None, log_std: float) -> Gaussian:
    """Over actions (D,) in -1 ... 1; with `features` its noise is linear in so many of them, and may be held."""
    if features is None:
        return ClippedGaussian(size)
    return BoundedMeans(unit_box(size), log_std=log_std, features=features, squash=True)


def unit_box(size: int) -> gym.spaces.Box:
    """The scale on which networks see actions."""
    return gym.spaces.Box(-1.0, 1.0, (size,), np.float32)


def draw(policy: Gaussian, outputs: Tensor, noise: Tensor) -> Draw:
    """a = tanh(u), u = mean + std * noise, for standard normal noise (B, D).

    log p(a) = sum_i [-noise_i^2 / 2 - log std_i - log(2 pi) / 2 - log(1 - a_i^2)]. The noise stays as it is, so that
    d a / d mean = 1 - a^2, d log p / d mean = 2 a, and at log std the same times std * noise, less 1 for log p.
    Source: Haarnoja et al. 2018, appendix C. https://arxiv.org/abs/1801.01290
    """
    mean, log_std = policy.parts(outputs)
    shift = namespace(outputs).exp(log_std) * noise
    u = mean + shift
    action = namespace(outputs).tanh(u)
    log_prob = policy.log_prob(noise, log_std, u)

    def pull(d_action: Tensor, d_log_prob: Tensor | float) -> Tensor:
        d_u = d_action * (1 - action * action) + action * (2 * d_log_prob)
        return policy.to_outputs(outputs, d_u, d_u * shift - d_log_prob)

    return Draw(action, log_prob, pull)
