"""Soft actor-critic: values count the entropy of what is done, and the policy stays as random as is asked.

    a' ~ pi(s');   y = r + gamma (min(Q1_target(s', a'), Q2_target(s', a')) - alpha log pi(a'|s'))      0 beyond an end
    both critics: minimise  (Q(s, a) - y)^2 / 2
    actor: minimise  alpha log pi(a|s) - min(Q1(s, a), Q2(s, a)),  a = tanh(mean(s) + std(s) * noise)
    log alpha: minimise  -log alpha (log pi(a|s) + target entropy),  which is -D unless set
    target = tau * network + (1 - tau) * target

Sources: Haarnoja et al. 2018, https://arxiv.org/abs/1801.01290; 2018b with the temperature alpha,
https://arxiv.org/abs/1812.05905; noise that is held (gSDE): Raffin, Kober and Stulp 2022, https://arxiv.org/abs/2005.05719

Differences from the paper, all usual: log alpha is moved, not alpha; log std is cut to -20 ... 2; actions are uniform
until learning starts; with gSDE means are kept within -2 ... 2 before tanh. Entropies are those of actions on a scale
from -1 to 1, whatever the box. Of n steps only the last has the entropy of what follows.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import Field, field_validator, model_validator

from rltrain.continuous import ContinuousAgent, ContinuousSettings, EncodedBatch, Learner, Norms
from rltrain.core import Array, EnvSpec, Metrics, Problem, State
from rltrain.nn import losses
from rltrain.nn.arrays import Tensor, copy_into, namespace, side_by_side, to_device, to_numpy
from rltrain.nn.distributions import StateDependentGaussian
from rltrain.nn.optimizers import Adam, guarded_step
from rltrain.nn.size import LEARNT
from rltrain.nn.squashed import Draw, draw, squashed_policy
from rltrain.schedules import Constant, LearningRate
from rltrain.settings import HiddenSizes


class SACSettings(ContinuousSettings):
    """Settings of soft actor-critic."""

    explores_with: ClassVar[None] = None
    explores_by: ClassVar[str] = "explores by drawing from its policy"
    actor_kept: ClassVar[int] = LEARNT

    learning_rate: LearningRate = Constant(value=3e-4)
    """Of the actor and of the temperature: a number, or a schedule of environment steps."""
    hidden_sizes: HiddenSizes = (256, 256)
    """Units of each hidden layer, of actor and critics."""
    ent_coef: float | Literal["auto"] = "auto"
    """The temperature alpha; auto to learn it."""
    ent_coef_init: float = Field(default=1.0, gt=0)
    """Where a temperature that is learnt begins."""
    target_entropy: float | None = None
    """The entropy that a learnt temperature keeps, in nats; null for -1 per dimension of an action."""
    sde: bool = False
    """Noise that is linear in the last hidden layer, by a matrix that is held for a while."""
    sde_sample_freq: int = Field(default=64, ge=1)
    """Vector steps between draws of the matrix."""
    log_std_init: float = Field(default=-3.0, ge=-20, le=5)
    """Logarithm of the standard deviation that the matrix's elements have at the beginning."""

    @property
    def critics(self) -> int:
        """Twins."""
        return 2

    @field_validator("ent_coef", mode="before")
    @classmethod
    def _no_idiom(cls, value: Any) -> Any:
        if isinstance(value, str) and re.fullmatch(r"auto_.+", value):  # as Stable-Baselines3 has it
            raise ValueError(f"a temperature learnt from {value[5:]} on is ent_coef: auto, ent_coef_init: {value[5:]}")
        return value

    @model_validator(mode="after")
    def _temperature_and_noise_are_complete(self) -> SACSettings:
        if self.ent_coef != "auto":
            if self.ent_coef < 0:
                raise ValueError("ent_coef must not be negative")
            for name in self.changed("target_entropy", "ent_coef_init"):
                raise ValueError(f"{name} does nothing with a fixed ent_coef: leave it out, or use ent_coef: auto")
        if self.sde and not self.hidden_sizes:
            raise ValueError("sde takes its noise from the last hidden layer: hidden_sizes needs one")
        if not self.sde:
            for name in self.changed("sde_sample_freq", "log_std_init"):
                raise ValueError(f"{name} does nothing without sde: true")
        return self

    def problems(self, config: Any, spec: EnvSpec) -> Iterator[Problem]:
        """An entropy that no policy can have is one more."""
        found = list(super().problems(config, spec))
        yield from found
        if self.target_entropy is None or found:
            return
        most = math.log(2) * math.prod(spec.action_space.shape or ())  # of the uniform policy between -1 and 1
        if self.target_entropy >= most:
            yield Problem("agent.target_entropy", f"no policy here has an entropy of {most:.3g} or more: set less")


class SAC(ContinuousAgent):
    """Off-policy learning of a random policy for continuous actions, under a given entropy."""

    Config: type[SACSettings] = SACSettings

    def __init__(self, config: SACSettings, spec: EnvSpec, *, exploration: None, rng: np.random.Generator, device: str):
        super().__init__(config, spec, rng=rng, device=device)
        features = config.hidden_sizes[-1] if config.sde else None
        self.policy = squashed_policy(self.box.size, features=features, log_std=config.log_std_init)
        free = self.policy.free
        heads = self.policy.outputs - self.policy.features - (0 if free is None else len(free))
        plan = self._plan(self._encode.size, heads, free=free, features=config.sde)
        self.actor = Learner(self._build([plan]), config.adam_eps)
        self._held = np.zeros((spec.num_envs, 0, 0), np.float32)  # (N, F, D) the matrix of every environment
        fixed = config.ent_coef != "auto"
        with np.errstate(divide="ignore"):  # log 0
            log_alpha = np.log([config.ent_coef if fixed else config.ent_coef_init]).astype(np.float32)
        self.log_alpha = to_device(log_alpha, self.actor.network.device)
        self._temperature = None if fixed else Adam(self.log_alpha, eps=config.adam_eps)
        self.target_entropy = -float(self.box.size) if config.target_entropy is None else config.target_entropy

    def _policy_action(self, outputs: Array, explore: bool) -> Array:
        """The tanh of what is drawn, or of the means."""
        return np.asarray(np.tanh(self._drawn(outputs) if explore else self.policy.mode(outputs)))

    def _drawn(self, outputs: Array) -> Array:
        """Draws (N, D) before they are squashed."""
        if not isinstance(self.policy, StateDependentGaussian):
            return self.policy.sample(outputs, self._rng)
        count, every = len(outputs), self._config.sde_sample_freq
        if not self._held.size or self._steps // count % every == 0:
            self._held = self.policy.draw(outputs, self._rng)
        return self.policy.held(outputs, self._held)

    def values(self, obs: Array) -> Array:
        """What the critics say of the mean action, (N,): for twins min_k Q_k(s, tanh(mean))."""
        seen = self._encode(obs)
        action = np.tanh(self.policy.mode(self.actor.network.infer(seen)))
        return np.asarray(self._value(self.critic.network.infer(side_by_side(seen, action))))

    def _noise(self, rows: int) -> Array:
        """Of the policy at s and at s' (rows, 2 D)."""
        return self._rng.standard_normal((rows, 2 * self.box.size), np.float32)

    def _gradient_step(
        self, batch: EncodedBatch, critic_rate: Any, actor_rate: Any, due: bool
    ) -> tuple[Norms, tuple[Any, ...]]:
        config, critic, actor = self._config, self.critic, self.actor
        noise, next_noise = batch.noise[:, : self.box.size], batch.noise[:, self.box.size :]
        alpha = namespace(batch.obs).exp(self.log_alpha)
        target = self._target(batch, next_noise, alpha)
        seen = side_by_side(batch.obs, batch.action)
        error = critic.network.learn(self._critic_gradient, seen, target, batch.weight)
        critic_norm = critic.descend(critic_rate, config.max_grad_norm)
        log_prob = actor.network.learn(self._policy_gradient, batch.obs, batch.obs, noise, alpha)
        actor_norm = actor.descend(actor_rate, config.max_grad_norm)
        if self._temperature is not None:
            slope = losses.temperature_gradient(log_prob, self.target_entropy)
            actor_norm = actor_norm + guarded_step(self._temperature, slope, actor_rate, None)
        critic.follow(config.tau)
        return (critic_norm, actor_norm), (target, error, log_prob, alpha)

    def _target(self, batch: EncodedBatch, noise: Tensor, alpha: Tensor) -> Tensor:
        """y = r + discount (min_k Q_k(s', a') - alpha log pi(a'|s')) (B,), by the target critics and the policy."""
        q, log_prob = self._next(batch.next_obs, noise)
        return losses.td_target(batch.reward, batch.discount, self._value(q) - alpha * log_prob)

    def _next(self, next_obs: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """What the target critics say of the next action (B, O), and its log-probability (B,)."""
        drawn = self._draw(next_obs, noise)
        return self.critic.target.evaluate(side_by_side(next_obs, drawn.action)), drawn.log_prob

    def _value(self, q: Tensor) -> Tensor:
        """What an action is worth (B,) by the outputs of the critics (B, K)."""
        return namespace(q).amin(q, 1)

    def _value_gradient(self, q: Tensor) -> tuple[Tensor, None]:
        """Gradient of -mean `_value` at the outputs of the critics (B, K)."""
        return losses.least_value_gradient(q)

    def _critic_gradient(self, q: Tensor, target: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
        """Gradient of the critics' loss at their outputs (B, K), and the errors."""
        return losses.critic_gradient(q, target, weight)

    def _draw(self, obs: Tensor, noise: Tensor) -> Draw:
        """The policy's actions (B, D) under this noise."""
        return draw(self.policy, self.actor.network.evaluate(obs), noise)

    def _policy_gradient(self, outputs: Tensor, obs: Tensor, noise: Tensor, alpha: Tensor) -> tuple[Tensor, Tensor]:
        """Gradient of mean(alpha log pi - `_value`) at the actor's outputs (B, O), and log pi (B,)."""
        drawn = draw(self.policy, outputs, noise)
        x = side_by_side(obs, drawn.action)
        at_inputs = self.critic.network.input_gradient(self._value_gradient, x)
        return drawn.pull(at_inputs[:, obs.shape[1] :], alpha / len(obs)), drawn.log_prob

    def _metrics(self, batch: EncodedBatch, *parts: Any) -> Metrics:
        target, error, log_prob, alpha = parts
        return {
            "train/critic_loss": lambda: 0.5 * (batch.weight[:, None] * error**2).sum(1),
            "train/actor_loss": lambda: self._actor_loss(batch, alpha),
            "train/q_value": lambda: target[:, None] - error,
            "train/td_error": lambda: abs(error),
            "train/entropy": lambda: -log_prob,
            "exploration/temperature": alpha,
        }

    def _actor_loss(self, batch: EncodedBatch, alpha: Tensor) -> Tensor:
        """alpha log pi - `_value` (B,)."""
        drawn = self._draw(batch.obs, batch.noise[:, : self.box.size])
        q = self.critic.network.evaluate(side_by_side(batch.obs, drawn.action))
        return alpha * drawn.log_prob - self._value(q)

    def _tensors(self) -> list[Tensor]:
        return super()._tensors() + ([] if self._temperature is None else self._temperature.tensors)

    def state_dict(self) -> State:
        """As every actor-critic's with replay, the temperature, and the noise that is held."""
        own = {"log_alpha": to_numpy(self.log_alpha), "held": self._held.copy()}
        moments = {} if self._temperature is None else {"temperature": self._temperature.state_dict()}
        return super().state_dict() | own | moments

    def load_state_dict(self, state: State) -> None:
        """Restore the state."""
        super().load_state_dict(state)
        copy_into(self.log_alpha, np.ascontiguousarray(state["log_alpha"]))
        self._held = np.array(state["held"], np.float32)
        if self._temperature is not None:
            self._temperature.load_state_dict(state["temperature"])
