"""Deep Q-network; double, dueling, n-step, prioritised and Munchausen learning and noisy weights are settings.

Q-learning with a neural network, made stable by experience replay and a target network that is
copied now and then.

    y = r + gamma max_a' Q_target(s', a')            (0 beyond a terminal state, not beyond a time limit)
    minimise  l(Q(s, a) - y)  over a batch from replay

    munchausen: y = r + alpha max(t log pi(a|s), l_0) + gamma sum_a' pi(a'|s') (Q_target(s', a') - t log pi(a'|s')),
                pi = softmax(Q_target / t)

Sources: Mnih et al. 2015, https://doi.org/10.1038/nature14236; double: van Hasselt et al. 2016,
https://arxiv.org/abs/1509.06461; dueling: Wang et al. 2016, https://arxiv.org/abs/1511.06581;
n-step: Sutton 1988, as used in https://arxiv.org/abs/1710.02298; noisy: Fortunato et al. 2018,
https://arxiv.org/abs/1706.10295; prioritised: Schaul et al. 2016, https://arxiv.org/abs/1511.05952; Munchausen:
Vieillard et al. 2020, https://arxiv.org/abs/2007.14430.

Where returns have distributions (c51, qr_dqn, iqn) a subclass says what the rows of its network mean, what a target is,
and which loss is between them. Everything else is here, so that every setting goes with each of them.

Differences from the papers: Adam in place of RMSProp; the two dueling streams share all hidden layers, so they are one
linear layer [V, A_1 ... A_n] with Q = V + A - mean A, and the gradient below them is not scaled by 1 / sqrt(2); mse is
(Q - y)^2 / 2; with noisy weights all environments act under the same noise, which is new at every step, and actions are
uniform during the first `learning_starts` steps, as for Mnih et al. (an untrained network under noise nearly always
takes the same one); with Munchausen learning, `double` takes the policy of s' from the network, and of n steps only the
first has its term.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from rltrain.core import Array, EnvSpec, Metrics, State, Transition
from rltrain.nn import losses
from rltrain.nn.arrays import Tensor, to_device
from rltrain.nn.optimizers import descend
from rltrain.nn.q_functions import QFunction
from rltrain.off_policy import OffPolicyAgent
from rltrain.q_agent import QAgent
from rltrain.q_settings import DQNSettings


class DQN(QAgent, OffPolicyAgent):
    """Off-policy value learning for discrete actions from replayed experience."""

    Config = DQNSettings

    def __init__(self, config: Any, spec: EnvSpec, *, exploration: Any, rng: np.random.Generator, device: str) -> None:
        super().__init__(config, spec, rng=rng)
        self._begin(spec, exploration, device, init_rng=self._init_rng, hash_rng=rng.spawn(1)[0])
        self.target = self._q_function(self._init_rng)
        self.target.twin(self.q)
        self._synced_at = 0  # environment step of the last target update
        if config.noisy:
            self.block = 1  # every gradient step has noise of its own

    def _under_noise(self, mean: Array) -> Array:
        """Uniform actions while the network has learnt nothing that it could doubt."""
        if self._steps < self._config.learning_starts:
            return self._rng.integers(mean.shape[1], size=len(mean))
        return super()._under_noise(mean)

    def _target(self, reward: Tensor, discount: Tensor, following: Tensor) -> Tensor:
        """The return (R,) or (R, Z) of which (R,) is paid and (R,) or (R, Z) follows, discounted."""
        return losses.td_target(reward, discount, following)

    def _seen(self, obs: Tensor) -> tuple[Tensor, ...]:
        """What the network sees of observations (B, I) in a gradient step, and what the loss has to know beside it."""
        return (obs,)

    def _returns(self, q: QFunction, obs: Tensor) -> Tensor:
        """Returns (R, A) or (R, A, Z) of all actions, in memory that may be used again by the next call."""
        return self._distribution(q.values(obs))

    def _means(self, q: QFunction, obs: Tensor) -> Tensor:
        """Means (R, A) of the returns of all actions, by which a policy chooses."""
        return self._mean(self._returns(q, obs))

    def _judged(self, next_obs: Tensor, following: Tensor) -> Tensor:
        """Means (R, A) by which a' is chosen, where `following` are the target network's returns."""
        if not self._config.double:
            return self._mean(following)
        self.q.disturb(self._rng)
        return self._means(self.q, next_obs)

    def observe(self, transition: Transition) -> None:
        """Store the step for replay, and count it."""
        super().observe(transition)
        if self.visits is not None:
            self.visits.add(transition.obs, transition.action)

    def _gradient_steps(self, count: int) -> Metrics:
        """So many gradient steps, a batch each. The target network stays, so it values all batches at once."""
        self._update_target()
        config, device, steps = self._config, self.q.network.device, self._steps
        learning_rate, size, heads = config.learning_rate(steps), config.batch_size, config.heads
        batch = self._sample(count * size)
        obs, next_obs = (to_device(self._encode(part), device) for part in (batch.obs, batch.next_obs))
        columns = (batch.action - self._first_action, batch.reward, batch.discount, batch.weight)
        action, reward, discount, weight = (to_device(column.repeat(heads), device) for column in columns)
        self.target.disturb(self._rng)
        if (soft := config.munchausen) is not None:
            q = self._means(self.target, obs)
            reward = reward + soft.alpha * losses.munchausen_term(q, action, soft.temperature, soft.floor)
        learnt = action, reward, discount, weight, self._returns(self.target, next_obs)
        for at in range(count):
            here, each = slice(at * size, (at + 1) * size), slice(at * size * heads, (at + 1) * size * heads)
            parts = self._gradient_step(learning_rate, obs[here], next_obs[here], *(column[each] for column in learnt))
        q, error, action, target, *others = parts
        self._prioritize(batch, error)
        return {
            "train/loss": lambda: self._loss(q, action, target, *others),
            "train/q_value": lambda: self._mean(self._distribution(q)),
            "train/td_error": lambda: self._td_error(q, action, target),
            "train/learning_rate": learning_rate,
            **self._target_metrics(target),
            **self._exploration_metrics(),
        }

    def _td_error(self, q: Tensor, action: Tensor, target: Tensor) -> Tensor:
        """|mean of the target - Q(s, a)| (R,)."""
        return abs(self._mean(target) - self._mean(self._distribution(q[losses.rows(q), action])))

    def _target_metrics(self, target: Tensor) -> Metrics:
        """What a subclass tells of the targets (R,) or (R, Z)."""
        return {}

    def _update_target(self) -> None:
        interval = self._config.target_update_interval
        if self._steps // interval > self._synced_at // interval:
            self._synced_at = self._steps
            self.target.follow(self.q, self._config.tau)

    def _gradient_step(
        self,
        learning_rate: float,
        obs: Tensor,  # (B, I)
        next_obs: Tensor,  # (B, I)
        action: Tensor,  # (R,) with R = B * K, as everything that follows
        reward: Tensor,
        discount: Tensor,
        weight: Tensor,
        following: Tensor,  # (R, A) or (R, A, Z)
    ) -> tuple[Tensor, ...]:
        judged, soft = self._judged(next_obs, following), self._config.munchausen
        if soft is None:
            following = losses.greedy_value(judged, following)
        else:
            following, entropy = losses.soft_value(judged, following, soft.temperature)
            reward = reward + discount * entropy
        target = self._target(reward, discount, following)
        self.q.disturb(self._rng)
        seen, *drawn = self._seen(obs)
        q, error = self.q.learn(seen, action, target, weight, *drawn)
        gradient, steps = self.q.network.gradient, self._steps
        descend(self.optimizer, gradient, learning_rate, self._config.max_grad_norm, steps)
        return q, error, action, target, weight, *drawn

    def state_dict(self) -> State:
        """As every agent's with replay, and networks, optimiser, exploration and visits."""
        return super().state_dict() | {
            **self._q_state(),
            "target_network": self.target.state_dict(),
            "synced_at": self._synced_at,
        }

    def load_state_dict(self, state: State) -> None:
        """Restore the state."""
        super().load_state_dict(state)
        self._load_q_state(state)
        self.target.load_state_dict(state["target_network"])
        self._synced_at = state["synced_at"]
