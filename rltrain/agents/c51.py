"""C51: a deep Q-network that learns the distribution of the return, as probabilities of fixed values.

    Z(s, a) = z_i with probability p_i = softmax_i(f_i(s, a)),   z_1 ... z_n in equal steps from v_min to v_max
    Q(s, a) = sum_i z_i p_i
    m = the distribution of  r + gamma Z_target(s', argmax_a' Q(s', a')),  brought back to z_1 ... z_n
    minimise  KL(m, p(s, a))  over a batch from replay

Whatever can be set for dqn goes with it. Priorities are made of the KL divergence, as Hessel et al. 2018 have it.
Source: Bellemare, Dabney and Munos 2017, https://arxiv.org/abs/1707.06887

Difference from the paper: with Munchausen learning, Z(s') is the mixture of the actions' distributions, moved by the
entropy of the policy.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np
from pydantic import Field, model_validator

from rltrain.agents.dqn import DQN
from rltrain.core import Metrics
from rltrain.nn import distributional
from rltrain.nn.arrays import Fixed, Tensor, log_softmax, namespace
from rltrain.q_settings import DistributionalSettings


class C51Settings(DistributionalSettings):
    """Settings of C51."""

    n_atoms: int = Field(default=51, ge=2, le=1_000)
    """Values that a return may have."""
    v_min: float = -10.0
    """The least of them: discounted returns below it are taken for it. `train/mass_at_the_ends` is their share."""
    v_max: float = 10.0
    """The greatest of them."""

    @model_validator(mode="after")
    def _ordered(self) -> C51Settings:
        if self.v_min >= self.v_max:
            raise ValueError(f"v_min {self.v_min:g} must be below v_max {self.v_max:g}")
        if max(-self.v_min, self.v_max, self.v_max - self.v_min) > float(np.finfo(np.float32).max):
            raise ValueError(f"v_min {self.v_min:g} and v_max {self.v_max:g} are too far apart for float32 numbers")
        return self


class C51(DQN):
    """Off-policy learning of categorical distributions of the return for discrete actions."""

    Config = C51Settings
    _config: Any

    @cached_property
    def _support(self) -> Fixed:
        config = self._config
        values = np.linspace(config.v_min, config.v_max, config.n_atoms, dtype=np.float32)
        return Fixed(values, self.q.network.device)

    @property
    def atoms(self) -> int:
        """Values that a return may have."""
        return int(self._config.n_atoms)

    def _distribution(self, rows: Tensor) -> Tensor:
        return namespace(rows).exp(log_softmax(rows))

    def _mean(self, distribution: Tensor) -> Tensor:
        return distribution @ self._support.like(distribution)

    def _target(self, reward: Tensor, discount: Tensor, following: Tensor) -> Tensor:
        support, config = self._support.like(following), self._config
        return distributional.project(reward, discount, following, support, config.v_min, config.v_max)

    def _target_metrics(self, target: Tensor) -> Metrics:
        """How much probability lies on the outermost values, where returns beyond them are put."""
        return {"train/mass_at_the_ends": lambda: target[:, 0] + target[:, -1]}

    def _loss(self, rows: Tensor, action: Tensor, target: Tensor, weight: Tensor, *drawn: Tensor) -> Tensor:
        return distributional.categorical_loss(rows, action, target, weight)

    def _gradient(
        self, rows: Tensor, action: Tensor, target: Tensor, weight: Tensor, *drawn: Tensor
    ) -> tuple[Tensor, Tensor]:
        return distributional.categorical_gradient(rows, action, target, weight)
