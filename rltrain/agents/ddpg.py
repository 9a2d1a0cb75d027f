"""Deep deterministic policy gradient: Q-learning for continuous actions, whose maximum an actor looks for.

    y = r + gamma Q_target(s', mu_target(s'))            (0 beyond a terminal state, not beyond a time limit)
    critic: minimise  (Q(s, a) - y)^2 / 2;   actor: maximise  Q(s, mu(s));   both over a batch from replay
    target = tau * network + (1 - tau) * target          after every step of the actor

mu(s) is the tanh of a network, stretched to the box; networks see actions on a scale from -1 to 1.

Source: Lillicrap et al. 2016, https://arxiv.org/abs/1509.02971

Differences from the paper: the action enters the critic at its input, no batch normalisation and no weight decay, all
layers begin as torch's do; one learning rate of 1e-3, unless the critic has its own (the paper has 1e-4 and 1e-3), tau
0.005 and batches of 256, which is what became usual.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from rltrain.continuous import ContinuousAgent, ContinuousSettings, side_by_side
from rltrain.core import ActionNoise, Array, EnvSpec, Metrics, State
from rltrain.nn import losses
from rltrain.nn.arrays import Tensor, namespace
from rltrain.nn.networks import Network
from rltrain.nn.optimizers import descend


class DDPGSettings(ContinuousSettings):
    """Settings of the deep deterministic policy gradient."""

    explores_with: ClassVar[str] = "noise"


class DDPG(ContinuousAgent):
    """Off-policy learning of a deterministic actor for continuous actions."""

    Config: type[ContinuousSettings] = DDPGSettings

    def __init__(
        self, config: DDPGSettings, spec: EnvSpec, *, exploration: ActionNoise, rng: np.random.Generator, device: str
    ) -> None:
        super().__init__(config, spec, rng=rng, device=device)
        self._exploration = exploration
        self.actor = self._learner(self._encode.size, self.box.size)

    @property
    def policy_delay(self) -> int:
        """Gradient steps of the critic for one of the actor and of the targets."""
        return 1

    @property
    def networks(self) -> tuple[Network, ...]:
        """The networks that learn."""
        return self.actor.network, self.critic.network

    def act(self, obs: Array, *, explore: bool = True) -> Array:
        """Actions (N, *action_shape) for observations (N, *obs_shape)."""
        unit = np.tanh(self.actor.network.infer(self._encode(obs)))
        if explore:
            unit = self._exploration.perturb(unit, self._first, self._steps, self._rng)
        return self.box.action(unit)

    def values(self, obs: Array) -> Array:
        """Q(s, mu(s)), (N,), of the first critic."""
        seen = self._encode(obs)
        action = np.tanh(self.actor.network.infer(seen))
        return self.critic.network.infer(side_by_side(seen, action))[:, 0]

    def _gradient_step(
        self, obs: Tensor, action: Tensor, reward: Tensor, discount: Tensor, weight: Tensor, next_obs: Tensor
    ) -> Metrics:
        config, steps = self._config, self._steps
        rate = config.learning_rate(steps)
        critic_rate = rate if config.critic_learning_rate is None else config.critic_learning_rate(steps)
        target = losses.td_target(reward, discount, self._next_value(next_obs))
        critic = self.critic.network
        error = critic.learn(losses.critic_gradient, side_by_side(obs, action), target, weight)
        descend(self.critic.optimizer, critic.gradient, critic_rate, config.max_grad_norm, steps, CRITIC_RATE)
        if self._updates % self.policy_delay == 0:
            self.actor.network.learn(self._policy_gradient, obs, obs)
            descend(self.actor.optimizer, self.actor.network.gradient, rate, config.max_grad_norm, steps)
            self.actor.follow(config.tau)
            self.critic.follow(config.tau)
        return {
            "train/critic_loss": lambda: losses.critic_loss(target[:, None] - error, target, weight),
            "train/actor_loss": lambda: -self._value(obs),
            "train/q_value": lambda: target[:, None] - error,
            "train/td_error": lambda: abs(error),
            "train/learning_rate": rate,
            **self._exploration.metrics(steps),
        }

    def _next_action(self, next_obs: Tensor) -> Tensor:
        """The target actor's actions (B, D) for the states reached."""
        return namespace(next_obs).tanh(self.actor.target.evaluate(next_obs))

    def _next_value(self, next_obs: Tensor) -> Tensor:
        """min_k Q_k(s', a') (B,) by the target networks."""
        x = side_by_side(next_obs, self._next_action(next_obs))
        return namespace(x).amin(self.critic.target.evaluate(x), 1)

    def _value(self, obs: Tensor) -> Tensor:
        """Q_1(s, mu(s)) (B,)."""
        action = namespace(obs).tanh(self.actor.network.evaluate(obs))
        return self.critic.network.evaluate(side_by_side(obs, action))[:, 0]

    def _policy_gradient(self, outputs: Tensor, obs: Tensor) -> tuple[Tensor, None]:
        """Gradient of -mean Q_1(s, tanh(o)) at the actor's outputs o (B, D): dQ/da (1 - tanh^2 o)."""
        action = namespace(outputs).tanh(outputs)
        at_inputs = self.critic.network.input_gradient(losses.first_value_gradient, side_by_side(obs, action))
        return at_inputs[:, obs.shape[1] :] * (1 - action * action), None

    def state_dict(self) -> State:
        """As every agent's with replay, and the actor and its exploration."""
        return super().state_dict() | {
            "actor": self.actor.state_dict(),
            "exploration": self._exploration.state_dict(),
        }

    def load_state_dict(self, state: State) -> None:
        """Restore the state."""
        super().load_state_dict(state)
        self.actor.load_state_dict(state["actor"])
        self._exploration.load_state_dict(state["exploration"])


CRITIC_RATE = "agent.critic_learning_rate, or agent.learning_rate where that is not set"
