"""Advantage actor-critic: one gradient step on each short rollout of many environments.

    minimise  -mean(log pi(a|s) A) + vf_coef mean((V(s) - y)^2) - ent_coef mean(H)

with A = n-step return - V(s) where `gae_lambda` is 1, and generalised advantage estimates where it is less;
y = A + V(s). Beyond an episode that was cut short the value of the true successor counts, beyond one that ended
nothing.

Source: Mnih et al. 2016, https://arxiv.org/abs/1602.01783, made synchronous. Differences from the paper: RMSprop's
epsilon stands outside the root, policy and value have a network each unless `shared_network` is set.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pydantic import Field

from rltrain.core import EnvSpec, Metrics, Problem
from rltrain.nn import policy_losses as losses
from rltrain.nn.arrays import Tensor
from rltrain.nn.optimizers import OptimizerName, descend
from rltrain.on_policy import explained_variance, output_gradient
from rltrain.rollout_agent import never_full
from rltrain.sde import SDERolloutAgent, SDESettings


class A2CSettings(SDESettings):
    """Settings of the advantage actor-critic; steps are environment steps, summed over all environments."""

    n_steps: int = Field(default=5, ge=1)
    """Steps of each environment between updates."""
    gae_lambda: float = Field(default=1.0, ge=0, le=1)
    """1 for n-step returns minus values, 0 for TD errors."""
    normalize_advantage: bool = False
    """Advantages of each rollout with mean 0 and standard deviation 1."""
    vf_coef: float = Field(default=0.5, ge=0)
    """Weight of the value's loss."""
    optimizer: OptimizerName = "rmsprop"
    """How the gradient moves the weights; rmsprop as published."""

    def gradient_steps_of(self, total_steps: int, num_envs: int) -> int:
        """About how many gradient steps a run takes."""
        return total_steps // (self.n_steps * num_envs)

    def problems(self, config: Any, spec: EnvSpec) -> Iterator[Problem]:
        """What does not fit the environment or the run's length."""
        yield from super().problems(config, spec)
        yield from never_full(self.n_steps * spec.num_envs, config)


class A2C(SDERolloutAgent):
    """On-policy learning from n-step advantages."""

    Config = A2CSettings

    def _learn(self) -> Metrics:
        config = self._config
        obs, choice, advantage, target, *_ = self._collected(config.gamma, config.gae_lambda)
        among = self._everyone(advantage) if config.normalize_advantage else advantage
        log_prob, value, entropy = self._gradient(1 / self._team.size, obs, choice, advantage, target, among)
        learning_rate = config.learning_rate(self._steps)
        norm = descend(self.optimizer, self.network.gradient, learning_rate, config.max_grad_norm, self._steps)
        return {
            "train/policy_loss": lambda: losses.policy_gradient_loss(log_prob, advantage),
            "train/value_loss": lambda: losses.value_loss(value, target, value, None),
            "train/entropy": entropy,
            **explained_variance(value, target),
            "train/gradient_norm": norm,
            "train/learning_rate": learning_rate,
        }

    def _output_gradient(
        self, outputs: Tensor, choice: Tensor, advantage: Tensor, target: Tensor, among: Tensor
    ) -> tuple[Tensor, Any]:
        """Gradient of the loss at the outputs (B, O); beside it log-probabilities, values and entropies (B,)."""
        config, value = self._config, outputs[:, self._value]
        log_prob, entropy, pull = self.policy.evaluate(outputs[:, self._policy], choice)
        if config.normalize_advantage:
            advantage = losses.normalized(advantage, among)
        d_log_prob = losses.policy_gradient(log_prob, advantage)
        d_value = config.vf_coef * losses.value_gradient(value, target, value, None)
        return output_gradient(d_value, pull(d_log_prob, -config.ent_coef / len(value))), (log_prob, value, entropy)
