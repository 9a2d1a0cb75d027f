"""Truncated quantile critics: SAC whose critics learn the distribution of the return, and leave out its highest part.

    z_1 <= ... <= z_KM  all quantiles of all K target critics at (s', a'), a' ~ pi(s')
    y_j = r + gamma (z_j - alpha log pi(a'|s'))    for all but the greatest K * top_quantiles_to_drop    0 beyond an end
    each quantile theta_i of each critic: minimise  mean_j |tau_i - [y_j < theta_i]| h(y_j - theta_i),  h Huber's
    actor: minimise  alpha log pi(a|s) - mean of all quantiles at (s, a);   everything else as in SAC

Source: Kuznetsov et al. 2020, https://arxiv.org/abs/2005.04269 (5 critics of 25 quantiles, 2 of each left out)

Differences from the paper: 2 critics, which the field's libraries have and which costs less than half. Losses of the
quantiles of a critic are summed, not averaged: gradients are M times as large, as `max_grad_norm` and Adam's eps see.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from pydantic import Field, model_validator

from rltrain.agents.sac import SAC, SACSettings
from rltrain.continuous import EncodedBatch
from rltrain.core import EnvSpec, Metrics
from rltrain.nn import distributional, losses
from rltrain.nn.arrays import Tensor, side_by_side, to_device


class TQCSettings(SACSettings):
    """Settings of truncated quantile critics."""

    n_critics: int = Field(default=2, ge=1)
    """Critics, K."""
    n_quantiles: int = Field(default=25, ge=1)
    """Quantiles of each critic, M."""
    top_quantiles_to_drop: int = Field(default=2, ge=0)
    """Quantiles left out of a target, for each critic: more of them, and values are lower."""

    @model_validator(mode="after")
    def _some_are_left(self) -> TQCSettings:
        if self.top_quantiles_to_drop >= self.n_quantiles:
            raise ValueError(f"top_quantiles_to_drop leaves none of n_quantiles {self.n_quantiles}")
        return self

    @property
    def critics(self) -> int:
        """How many there are, K."""
        return self.n_critics


class TQC(SAC):
    """Soft actor-critic by the lower part of the distribution of returns."""

    Config = TQCSettings
    _config: Any

    def __init__(self, config: TQCSettings, spec: EnvSpec, *, exploration: None, rng: np.random.Generator, device: str):
        super().__init__(config, spec, exploration=exploration, rng=rng, device=device)
        fractions = np.tile(distributional.midpoints(config.n_quantiles), config.n_critics)[None]  # (1, K M)
        self._fractions = to_device(fractions, self.critic.network.device)

    @property
    def critic_outputs(self) -> int:
        """Quantiles of each, M."""
        return int(self._config.n_quantiles)

    def _target(self, batch: EncodedBatch, noise: Tensor, alpha: Tensor) -> Tensor:
        """Quantiles (B, J) of the soft return, without the highest."""
        q, log_prob = self._next(batch.next_obs, noise)
        kept = q.shape[1] - self._config.n_critics * self._config.top_quantiles_to_drop
        soft = ascending(q)[:, :kept] - (alpha * log_prob)[:, None]
        return losses.td_target(batch.reward[:, None], batch.discount[:, None], soft)

    def _value(self, q: Tensor) -> Tensor:
        """The mean of all quantiles (B,)."""
        return q.mean(1)

    def _value_gradient(self, q: Tensor) -> tuple[Tensor, None]:
        return losses.mean_value_gradient(q)

    def _critic_gradient(self, q: Tensor, target: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
        """Gradient at all quantiles (B, K M); an action is one, and the one that was taken."""
        first = 0 * losses.rows(q)
        grad, error = distributional.quantile_gradient(q[:, None], first, target, weight, self._fractions)
        return grad[:, 0], error

    def _metrics(self, batch: EncodedBatch, *parts: Any) -> Metrics:
        target, error, log_prob, alpha = parts
        told = super()._metrics(batch, target.mean(1), error[:, None], log_prob, alpha)
        seen = side_by_side(batch.obs, batch.action)

        def loss() -> Tensor:
            q = self.critic.network.evaluate(seen)[:, None]
            return distributional.quantile_loss(q, 0 * losses.rows(q), target, batch.weight, self._fractions)

        return told | {"train/critic_loss": loss}


def ascending(x: Tensor) -> Tensor:
    """Each row of `x` (B, J) in order."""
    return np.sort(x, 1) if isinstance(x, np.ndarray) else x.sort(1).values
