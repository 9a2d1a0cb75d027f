"""IQN: a deep Q-network that learns the quantile function of the return, at any fraction that it is asked for.

    theta(s, a; tau) = f_a(psi(s) * phi(tau)),   phi(tau) = relu(W cos(pi i tau) + b), i = 0 ... 63
    Q(s, a) = mean_k theta(s, a; tau_k),   tau_k = (2 k - 1) / 2 K
    y_j = r + gamma theta_target(s', argmax_a' Q_target(s', a'); tau'_j),   tau_i, tau'_j drawn anew for every step
    minimise  sum_i mean_j |tau_i - [y_j < theta_i]| h(y_j - theta_i)  over a batch from replay, h the Huber function

Its network has a form of its own, which runs through torch. Whatever can be set for dqn goes with it. Priorities are
made of the TD error of the means.
Source: Dabney, Ostrovski, Silver and Munos 2018, https://arxiv.org/abs/1806.06923

Differences from the paper: of n fractions one is drawn from each n-th of 0 to 1, which leaves every expectation as it
is. The K fractions by whose mean an action is chosen are the middles of such parts, where the paper draws them, when an
agent acts and for a' alike. They are not those that value a', since the greatest of means over few draws is too great.
The last hidden layer belongs to f and the others to psi, which for images begins with the convolutions; a single one
belongs to psi where there are no images.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

import numpy as np
from pydantic import Field, model_validator

from rltrain.agents.qr_dqn import QRDQN, QRDQNSettings
from rltrain.core import Array
from rltrain.nn.arrays import Fixed, Tensor, namespace, side_by_side, to_device
from rltrain.nn.blueprint import Blueprint
from rltrain.nn.distributional import midpoints
from rltrain.nn.networks import Network
from rltrain.nn.q_functions import QFunction

COSINES = 64
"""Features of a fraction: the paper's n."""


class IQNSettings(QRDQNSettings):
    """Settings of IQN."""

    n_quantiles: int = Field(default=8, ge=1, le=1_000)
    """Fractions drawn for the values that learn: the paper's N."""
    n_target_quantiles: int = Field(default=8, ge=1, le=1_000)
    """Fractions drawn for the target: the paper's N'."""
    n_policy_quantiles: int = Field(default=32, ge=1, le=1_000)
    """Fractions by whose mean an action is chosen: the paper's K."""

    @model_validator(mode="after")
    def _one_layer(self) -> IQNSettings:
        if not self.hidden_sizes:
            raise ValueError("hidden_sizes: iqn needs a hidden layer, in which states and fractions meet")
        return self


class ImplicitQFunction(QFunction):
    """Values at fractions: an observation and T fractions `side_by_side` give rows (B, A, T)."""

    def _plans(self, shape: Sequence[int], plan: Callable[[Sequence[int]], Blueprint]) -> list[Blueprint]:
        """psi, the layer of phi, and f, of every head."""
        own = max(len(shape) - 3, 0 if self._torso else 1)  # layers of psi
        parts = shape[: own + 1], (COSINES, shape[own]), shape[own:]
        return [plan(part) for _ in range(self.heads) for part in parts]

    def _build(self, plans: Sequence[Blueprint], device: str, **images: Any) -> Network:
        from rltrain.nn.modules import implicit_network  # loads torch

        return implicit_network(plans, device, **images)


class IQN(QRDQN):
    """Off-policy learning of the quantile function of the return for discrete actions."""

    Config = IQNSettings
    q_function = ImplicitQFunction

    @property
    def atoms(self) -> int:
        """A network has one output for every action, at one fraction at a time."""
        return 1

    @cached_property
    def _middles(self) -> Fixed:
        return Fixed(midpoints(self._config.n_policy_quantiles), self.q.network.device)

    def _draw(self, obs: Tensor, count: int) -> Tensor:
        """So many fractions (B, T) for every observation."""
        drawn = (np.arange(count) + self._rng.random((len(obs), count))) / count
        return to_device(drawn.astype(np.float32), self.q.network.device)

    def _seen(self, obs: Tensor) -> tuple[Tensor, ...]:
        fractions = self._draw(obs, self._config.n_quantiles)
        return side_by_side(obs, fractions), fractions.repeat_interleave(self._config.heads, 0)

    def _returns(self, q: QFunction, obs: Tensor) -> Tensor:
        return q.values(side_by_side(obs, self._draw(obs, self._config.n_target_quantiles)))

    def _means(self, q: QFunction, obs: Tensor) -> Tensor:
        return self._mean(q.values(self._at_middles(obs)))

    def _judged(self, next_obs: Tensor, following: Tensor) -> Tensor:
        return super()._judged(next_obs, following) if self._config.double else self._means(self.target, next_obs)

    def _at_middles(self, obs: Tensor) -> Tensor:
        """Observations, and beside each the fractions over whose mean an action is chosen."""
        return side_by_side(obs, namespace(obs).tile(self._middles.like(obs), (len(obs), 1)))

    def _infer(self, obs: Array) -> Array:
        return np.asarray(self.q.infer(self._at_middles(self._encode(obs))).mean(-1))
