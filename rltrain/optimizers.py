"""Optimiser steps on one flat parameter vector.

`torch.optim` would do the same, but constructing any of its classes loads torch's compiler, which
doubles the start-up time.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from rltrain.core import State
from rltrain.lazy import lazy_module

if TYPE_CHECKING:
    import torch
    from torch import Tensor
else:
    torch = lazy_module("torch")


class Adam:
    """m = b1 m + (1-b1) g;  v = b2 v + (1-b2) g^2;  p -= lr * m/(1-b1^t) / (sqrt(v/(1-b2^t)) + eps).

    Source: Kingma and Ba 2015, algorithm 1. https://arxiv.org/abs/1412.6980
    """

    def __init__(self, parameters: Tensor, *, eps: float = 1e-8, betas: tuple[float, float] = (0.9, 0.999)) -> None:
        self._parameters = parameters
        self._mean = torch.zeros_like(parameters)
        self._square = torch.zeros_like(parameters)
        self._step = torch.zeros((), device=parameters.device)
        self._eps = eps
        self._betas = betas
        self.fused = getattr(torch, "_fused_adam_", None)
        """torch's fused kernel; None where this torch has none, and the equation is then written out."""

    def step(self, gradient: Tensor, learning_rate: float) -> None:
        """Move the parameters against `gradient` (P,)."""
        self._step += 1
        beta1, beta2 = self._betas
        if self.fused is not None:
            self.fused(
                [self._parameters],
                [gradient],
                [self._mean],
                [self._square],
                [],
                [self._step],
                amsgrad=False,
                lr=learning_rate,
                beta1=beta1,
                beta2=beta2,
                weight_decay=0.0,
                eps=self._eps,
                maximize=False,
            )
            return
        t = float(self._step)
        self._mean.lerp_(gradient, 1 - beta1)
        self._square.mul_(beta2).addcmul_(gradient, gradient, value=1 - beta2)
        scale = self._square.sqrt().div_(math.sqrt(1 - beta2**t)).add_(self._eps)
        self._parameters.addcdiv_(self._mean, scale, value=-learning_rate / (1 - beta1**t))

    def state_dict(self) -> State:
        """Both moments and the number of steps."""
        return {
            "mean": self._mean.cpu().numpy().copy(),
            "square": self._square.cpu().numpy().copy(),
            "step": int(self._step),
        }

    def load_state_dict(self, state: State) -> None:
        """Restore the state."""
        self._mean.copy_(torch.from_numpy(np.ascontiguousarray(state["mean"])))
        self._square.copy_(torch.from_numpy(np.ascontiguousarray(state["square"])))
        self._step.fill_(state["step"])


def clip_gradient(gradient: Tensor, max_norm: float | None) -> float:
    """Scale `gradient` (P,) in place so that its Euclidean norm is at most `max_norm`; returns the norm before."""
    norm = float(torch.linalg.vector_norm(gradient))
    if max_norm is not None and norm > max_norm:
        gradient.mul_(max_norm / (norm + 1e-6))
    return norm
