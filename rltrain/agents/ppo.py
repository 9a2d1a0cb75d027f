"""Proximal policy optimisation: several epochs of minibatches on each rollout, as long as the policy stays near.

    rho = pi(a|s) / pi_old(a|s)
    minimise  -mean(min(rho A, clip(rho, 1 - c, 1 + c) A)) + vf_coef mean((V(s) - y)^2) - ent_coef mean(H)

with generalised advantage estimates A and y = A + V_old(s). Beyond an episode that was cut short the value of the
true successor counts, beyond one that ended nothing.

Source: Schulman et al. 2017, https://arxiv.org/abs/1707.06347

Differences from the paper, all usual: advantages are normalised in every minibatch, the norm of the gradient is
clipped, weights begin orthogonal; the target of the value is not cut unless `clip_range_vf` says so. A rollout's
log-probabilities and values are computed together when it is full, which is the same and cheaper. A schedule is read
at the rollout's end, as in Stable-Baselines3, so that a rate which falls to 0 at the run's end is 0 in the last update.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from pydantic import Field, model_validator

from rltrain.core import EnvSpec, Metrics, Problem
from rltrain.nn import policy_losses as losses
from rltrain.nn.arrays import Tensor, namespace, to_device
from rltrain.nn.optimizers import descend
from rltrain.on_policy import explained_variance, output_gradient
from rltrain.rollout_agent import Minibatch, RolloutBatch, minibatch_problems, minibatch_steps
from rltrain.schedules import Constant, LearningRate, ScheduleSetting
from rltrain.sde import SDERolloutAgent, SDESettings


class PPOSettings(SDESettings):
    """Settings of proximal policy optimisation; steps are environment steps, summed over all environments."""

    learning_rate: LearningRate = Constant(value=3e-4)
    """A number, or a schedule of environment steps."""
    n_steps: int = Field(default=2_048, ge=1)
    """Steps of each environment between updates: a rollout has n_steps * num_envs."""
    batch_size: int = Field(default=64, ge=1)
    """Steps per gradient step; what is left over of a rollout makes a last, smaller minibatch."""
    n_epochs: int = Field(default=10, ge=1)
    """Passes over each rollout."""
    gae_lambda: float = Field(default=0.95, ge=0, le=1)
    """1 for returns minus values, 0 for TD errors."""
    clip_range: ScheduleSetting = Constant(value=0.2)
    """How far the probability ratio may move from 1: a number, or a schedule of environment steps."""
    clip_range_vf: ScheduleSetting | None = None
    """How far values may move in one update, in units of the return; null for no limit."""
    normalize_advantage: bool = True
    """Advantages of each minibatch with mean 0 and standard deviation 1."""
    vf_coef: float = Field(default=0.5, ge=0)
    """Weight of the value's loss."""
    target_kl: float | None = Field(default=None, gt=0)
    """Ends an update early once the approximate KL divergence is beyond 1.5 times this; null for never."""

    @model_validator(mode="after")
    def _ranges(self) -> PPOSettings:
        for name in ("clip_range", "clip_range_vf"):
            schedule = getattr(self, name)
            if schedule is not None and schedule.bounds[0] < 0:
                raise ValueError(f"{name} must not be negative")
        return self

    def gradient_steps_of(self, total_steps: int, num_envs: int) -> int:
        """About how many gradient steps a run takes."""
        return minibatch_steps(self, total_steps, num_envs)

    def problems(self, config: Any, spec: EnvSpec) -> Iterator[Problem]:
        """What does not fit the environment or the run's length."""
        yield from super().problems(config, spec)
        yield from minibatch_problems(self, config, spec)


class PPO(SDERolloutAgent):
    """On-policy learning with a clipped surrogate objective."""

    Config = PPOSettings

    def _learn(self) -> Metrics:
        config, device = self._config, self.network.device
        batch = self._collected(config.gamma, config.gae_lambda)
        learning_rate = config.learning_rate(self._steps)
        clip, clip_vf = (
            None if schedule is None else to_device(np.array(schedule(self._steps), np.float32), device)
            for schedule in (config.clip_range, config.clip_range_vf)
        )
        for part in self._every_minibatch(batch):
            learnt = self._gradient(part.share, *part.own, part.among, clip, clip_vf)
            stops = config.target_kl is not None and self._divergence(learnt[0], part.share) > 1.5 * config.target_kl
            if stops:
                break
            descend(self.optimizer, self.network.gradient, learning_rate, config.max_grad_norm, self._steps)
        early = {} if config.target_kl is None else {"train/early_stop": float(stops)}
        return self._metrics(batch, part, learnt, clip, clip_vf) | early

    def _every_minibatch(self, batch: RolloutBatch) -> Iterator[Minibatch]:
        """Every epoch's, in a random order of its own."""
        among = self._everyone(batch.advantage)
        for _ in range(self._config.n_epochs):
            yield from self._minibatches(batch, among, self._config.batch_size)

    def _divergence(self, log_ratio: Tensor, share: float) -> float:
        """The approximate KL divergence over everybody's rows."""
        return float(self._team.average(np.array(float(_approximate_kl(log_ratio))), share))

    def _output_gradient(
        self,
        outputs: Tensor,
        choice: Tensor,
        advantage: Tensor,
        target: Tensor,
        old_log_prob: Tensor,
        old_value: Tensor,
        among: Tensor,
        clip: Tensor,
        clip_vf: Tensor | None,
    ) -> tuple[Tensor, Any]:
        """Gradient of the loss at the outputs (B, O); beside it log rho, values and entropies (B,)."""
        config, value = self._config, outputs[:, self._value]
        log_prob, entropy, pull = self.policy.evaluate(outputs[:, self._policy], choice)
        if config.normalize_advantage:
            advantage = losses.normalized(advantage, among)
        d_log_prob = losses.clipped_surrogate_gradient(log_prob, old_log_prob, advantage, clip)
        d_value = config.vf_coef * losses.value_gradient(value, target, old_value, clip_vf)
        grad = output_gradient(d_value, pull(d_log_prob, -config.ent_coef / len(value)))
        return grad, (log_prob - old_log_prob, value, entropy)

    def _metrics(
        self, batch: RolloutBatch, part: Minibatch, learnt: Any, clip: Tensor, clip_vf: Tensor | None
    ) -> Metrics:
        """Of the last minibatch, but the explained variance of the whole rollout."""
        _, _, advantage, target, old_log_prob, old_value = part.own
        log_ratio, value, entropy = learnt
        normal = losses.normalized(advantage, part.among) if self._config.normalize_advantage else advantage
        return {
            "train/policy_loss": lambda: losses.clipped_surrogate_loss(
                log_ratio + old_log_prob, old_log_prob, normal, clip
            ),
            "train/value_loss": lambda: losses.value_loss(value, target, old_value, clip_vf),
            "train/entropy": entropy,
            "train/approx_kl": lambda: _approximate_kl(log_ratio),
            "train/clip_fraction": lambda: (abs(namespace(log_ratio).exp(log_ratio) - 1) > clip) * 1.0,
            **explained_variance(self._everyone(batch.old_value), self._everyone(batch.target)),
            "train/learning_rate": self._config.learning_rate(self._steps),
            "train/clip_range": clip,
        }


def _approximate_kl(log_ratio: Tensor) -> Tensor:
    """mean(rho - 1 - log rho), an estimate of KL(pi_old | pi) that is never negative.

    Source: Schulman 2020, "Approximating KL divergence". http://joschu.net/blog/kl-approx.html
    """
    return (namespace(log_ratio).exp(log_ratio) - 1 - log_ratio).mean()
