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

from typing import Any, ClassVar

import numpy as np

from rltrain.continuous import ContinuousAgent, ContinuousSettings, EncodedBatch, FollowedLearner, Norms
from rltrain.core import ActionNoise, Array, EnvSpec, Metrics, State
from rltrain.nn import losses
from rltrain.nn.arrays import Tensor, namespace, side_by_side


class DDPGSettings(ContinuousSettings):
    """Settings of the deep deterministic policy gradient."""

    explores_with: ClassVar[str] = "noise"


class DDPG(ContinuousAgent):
    """Off-policy learning of a deterministic actor for continuous actions."""

    Config: type[ContinuousSettings] = DDPGSettings
    actor: FollowedLearner

    def __init__(
        self, config: DDPGSettings, spec: EnvSpec, *, exploration: ActionNoise, rng: np.random.Generator, device: str
    ) -> None:
        super().__init__(config, spec, rng=rng, device=device)
        self._exploration = exploration
        plan = [self._plan(self._encode.size, self.box.size)]
        self.actor = FollowedLearner(self._build(plan), self._build(plan), config.adam_eps)

    def _policy_action(self, outputs: Array, explore: bool) -> Array:
        """The tanh of the outputs, and noise."""
        unit = np.tanh(outputs)
        return self._exploration.perturb(unit, self._first, self._steps, self._rng) if explore else unit

    def values(self, obs: Array) -> Array:
        """Q(s, mu(s)), (N,), of the first critic."""
        seen = self._encode(obs)
        action = np.tanh(self.actor.network.infer(seen))
        return self.critic.network.infer(side_by_side(seen, action))[:, 0]

    def _gradient_step(
        self, batch: EncodedBatch, critic_rate: Any, actor_rate: Any, due: bool
    ) -> tuple[Norms, tuple[Any, ...]]:
        config, critic, actor = self._config, self.critic, self.actor
        target = losses.td_target(batch.reward, batch.discount, self._next_value(batch.next_obs, batch.noise))
        seen = side_by_side(batch.obs, batch.action)
        error = critic.network.learn(losses.critic_gradient, seen, target, batch.weight)
        norms = critic.descend(critic_rate, config.max_grad_norm), 0.0
        if due:
            actor.network.learn(self._policy_gradient, batch.obs, batch.obs)
            norms = norms[0], actor.descend(actor_rate, config.max_grad_norm)
            actor.follow(config.tau)
            critic.follow(config.tau)
        return norms, (target, error)

    def _metrics(self, batch: EncodedBatch, *parts: Any) -> Metrics:
        target, error = parts
        return {
            "train/critic_loss": lambda: losses.critic_loss(target[:, None] - error, target, batch.weight),
            "train/actor_loss": lambda: -self._value(batch.obs),
            "train/q_value": lambda: target[:, None] - error,
            "train/td_error": lambda: abs(error),
            **self._exploration.metrics(self._steps),
        }

    def _next_action(self, next_obs: Tensor, noise: Tensor) -> Tensor:
        """The target actor's actions (B, D) for the states reached."""
        return namespace(next_obs).tanh(self.actor.target.evaluate(next_obs))

    def _next_value(self, next_obs: Tensor, noise: Tensor) -> Tensor:
        """min_k Q_k(s', a') (B,) by the target networks."""
        x = side_by_side(next_obs, self._next_action(next_obs, noise))
        return namespace(x).amin(self.critic.target.evaluate(x), 1)

    def _value(self, obs: Tensor) -> Tensor:
        """Q_1(s, mu(s)) (B,)."""
        action = namespace(obs).tanh(self.actor.network.evaluate(obs))
        return self.critic.network.evaluate(side_by_side(obs, action))[:, 0]

    def _policy_gradient(self, outputs: Tensor, obs: Tensor) -> tuple[Tensor, None]:
        """Gradient of -mean Q_1(s, tanh(o)) at the actor's outputs o (B, D): dQ/da (1 - tanh^2 o)."""
        action = namespace(outputs).tanh(outputs)
        x = side_by_side(obs, action)
        at_inputs = self.critic.network.input_gradient(losses.mean_value_gradient, x, columns=FIRST)
        return at_inputs[:, obs.shape[1] :] * (1 - action * action), None

    def state_dict(self) -> State:
        """As every actor-critic's with replay, and its exploration."""
        return super().state_dict() | {"exploration": self._exploration.state_dict()}

    def load_state_dict(self, state: State) -> None:
        """Restore the state."""
        super().load_state_dict(state)
        self._exploration.load_state_dict(state["exploration"])


FIRST = slice(0, 1)
"""Of the critics, the one that the actor follows."""
