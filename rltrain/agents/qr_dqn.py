"""QR-DQN: a deep Q-network that learns the distribution of the return, as quantiles of equal probability.

    theta_i(s, a) is the quantile of the return at tau_i = (2 i - 1) / 2 n,   Q(s, a) = mean_i theta_i
    y_j = r + gamma theta_target,j(s', argmax_a' Q(s', a'))
    minimise  sum_i mean_j |tau_i - [y_j < theta_i]| h(y_j - theta_i)  over a batch from replay, h the Huber function

Whatever can be set for dqn goes with it. Priorities are made of the TD error of the means.
Source: Dabney, Rowland, Bellemare and Munos 2018, https://arxiv.org/abs/1710.10044
"""

from __future__ import annotations

from functools import cached_property
from typing import Any

from pydantic import Field

from rltrain.agents.dqn import DQN
from rltrain.nn import distributional, losses
from rltrain.nn.arrays import Fixed, Tensor
from rltrain.q_settings import DistributionalSettings


class QRDQNSettings(DistributionalSettings):
    """Settings of QR-DQN."""

    n_quantiles: int = Field(default=200, ge=1, le=1_000)
    """Quantiles of the return of every action."""


class QRDQN(DQN):
    """Off-policy learning of quantiles of the return for discrete actions."""

    Config = QRDQNSettings
    _config: Any

    @cached_property
    def _fractions(self) -> Fixed:
        return Fixed(distributional.midpoints(self._config.n_quantiles)[None], self.q.network.device)

    @property
    def atoms(self) -> int:
        """Quantiles of the return of every action."""
        return int(self._config.n_quantiles)

    def _seen(self, obs: Tensor) -> tuple[Tensor, ...]:
        return obs, self._fractions.like(obs)

    def _mean(self, distribution: Tensor) -> Tensor:
        return distribution.mean(-1)

    def _target(self, reward: Tensor, discount: Tensor, following: Tensor) -> Tensor:
        return losses.td_target(reward[:, None], discount[:, None], following)

    def _loss(self, rows: Tensor, action: Tensor, target: Tensor, weight: Tensor, *drawn: Tensor) -> Tensor:
        return distributional.quantile_loss(rows, action, target, weight, *drawn)

    def _gradient(
        self, rows: Tensor, action: Tensor, target: Tensor, weight: Tensor, *drawn: Tensor
    ) -> tuple[Tensor, Tensor]:
        return distributional.quantile_gradient(rows, action, target, weight, *drawn)
