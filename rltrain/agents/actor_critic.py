"""The one-step actor-critic of the textbooks: after every step the TD error moves actor and critic.

    delta = r + gamma V(s') - V(s)                  (V(s') = 0 beyond a terminal state, not beyond a time limit)
    critic:  w     <- w     + alpha_w delta grad V(s)
    actor:   theta <- theta + alpha_theta I delta grad log pi(a|s),   I = gamma^t with `discount_weighting`, else 1

Source: Sutton and Barto 2018, section 13.5, "One-step Actor-Critic (episodic)". Differences from the book: Adam
unless `optimizer` is sgd, and the mean over environments where there are several.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from rltrain.core import Array, EnvSpec, Metrics, Problem, State, Transition
from rltrain.encoding import is_image
from rltrain.nn import policy_losses as losses
from rltrain.nn.arrays import Tensor, to_device
from rltrain.nn.optimizers import finite_gradient, make_optimizer
from rltrain.on_policy import output_gradient
from rltrain.rollout_agent import RolloutAgent, RolloutSettings
from rltrain.schedules import Constant, LearningRate


class ActorCriticSettings(RolloutSettings):
    """Settings of the one-step actor-critic; steps are environment steps, summed over all environments."""

    learning_rate: LearningRate = Constant(value=3e-4)
    """Of the actor: a number, or a schedule of environment steps."""
    critic_learning_rate: LearningRate | None = None
    """Of the critic; null for the actor's."""
    discount_weighting: bool = False
    """Weigh the actor's step t of an episode by gamma**t, as the policy gradient theorem asks; most leave it out."""

    def gradient_steps_of(self, total_steps: int, num_envs: int) -> int:
        """About how many gradient steps a run takes."""
        return total_steps // num_envs

    def problems(self, config: Any, spec: EnvSpec) -> Iterator[Problem]:
        """What does not fit the environment, or each other."""
        yield from super().problems(config, spec)
        shared = self.shared_network or is_image(spec.observation_space)
        if shared and self.critic_learning_rate is not None:
            yield Problem(
                "agent.critic_learning_rate", "actor and critic share a network and so a learning rate: leave this out"
            )


class ActorCritic(RolloutAgent):
    """Online learning from the TD error of every step."""

    Config = ActorCriticSettings
    rollout_steps = 1

    def __init__(self, config: Any, spec: EnvSpec, *, exploration: None, rng: np.random.Generator, device: str) -> None:
        super().__init__(config, spec, exploration=exploration, rng=rng, device=device)
        self._weight = np.ones(spec.num_envs, np.float32)  # I of every environment's step
        self._next_weight = self._weight.copy()
        own = config.critic_learning_rate is not None
        self._critic = slice(0, self.critic_parameters if own else 0)
        self._actor = slice(self._critic.stop, None)
        self.optimizer, self.critic_optimizer = (
            make_optimizer(config.optimizer, self.network.parameters[part], config.optimizer_eps)
            for part in (self._actor, self._critic)
        )

    def observe(self, transition: Transition) -> None:
        """Take in the step, and how much it counts."""
        super().observe(transition)
        if self._config.discount_weighting:
            self._weight = self._next_weight
            over = transition.terminated | transition.truncated
            self._next_weight = np.where(over, 1, self._weight * self._config.gamma).astype(np.float32)

    def abandon(self, env: int) -> None:
        """The next step is the first of an episode."""
        super().abandon(env)
        self._next_weight[env] = 1

    def _learn(self) -> Metrics:
        config, steps = self._config, self._steps
        obs, choice, delta, target, *_ = self._collected(config.gamma, 0.0)
        weighted = delta * to_device(self._weight, self.network.device)
        value, entropy = self._gradient(1 / self._team.size, obs, choice, weighted, target)
        gradient, rate = self.network.gradient, config.learning_rate(steps)
        finite_gradient(gradient, config.max_grad_norm, steps)
        self.optimizer.step(gradient[self._actor], rate)
        if config.critic_learning_rate is not None:
            self.critic_optimizer.step(gradient[self._critic], config.critic_learning_rate(steps))
        return {
            "train/td_error": lambda: abs(delta),
            "train/value_loss": lambda: losses.value_loss(value, target, value, None),
            "train/entropy": entropy,
            "train/learning_rate": rate,
        }

    def _output_gradient(self, outputs: Tensor, choice: Tensor, delta: Tensor, target: Tensor) -> tuple[Tensor, Any]:
        """Gradient at the outputs (B, O) of -mean(log pi I delta) + mean((y - V)^2) / 2 - ent_coef mean(H)."""
        value = outputs[:, self._value]
        log_prob, entropy, pull = self.policy.evaluate(outputs[:, self._policy], choice)
        d_value = 0.5 * losses.value_gradient(value, target, value, None)
        d_policy = pull(losses.policy_gradient(log_prob, delta), -self._config.ent_coef / len(value))
        return output_gradient(d_value, d_policy), (value, entropy)

    def state_dict(self) -> State:
        """As every agent's, and the critic's optimiser and the weights of the open episodes."""
        own: dict[str, Array | State] = {
            "critic_optimizer": self.critic_optimizer.state_dict(),
            "next_weight": self._next_weight.copy(),
        }
        return super().state_dict() | own

    def load_state_dict(self, state: State) -> None:
        """Restore the state."""
        super().load_state_dict(state)
        self.critic_optimizer.load_state_dict(state["critic_optimizer"])
        self._next_weight = np.array(state["next_weight"])
