"""Deep Q-network, with double, dueling and n-step learning and noisy weights as settings.

Q-learning with a neural network, made stable by experience replay and a target network that is
copied now and then.

    y = r + gamma max_a' Q_target(s', a')            (0 beyond a terminal state, not beyond a time limit)
    minimise  l(Q(s, a) - y)  over a batch from replay

Sources: Mnih et al. 2015, https://doi.org/10.1038/nature14236; double: van Hasselt et al. 2016,
https://arxiv.org/abs/1509.06461; dueling: Wang et al. 2016, https://arxiv.org/abs/1511.06581;
n-step: Sutton 1988, as used in https://arxiv.org/abs/1710.02298; noisy: Fortunato et al. 2018,
https://arxiv.org/abs/1706.10295.

Differences from the papers: Adam in place of RMSProp; the two dueling streams share all hidden
layers, so they are one linear layer [V, A_1 ... A_n] with Q = V + A - mean A; mse is (Q - y)^2 / 2; with noisy
weights all environments act under the same noise, which is new at every step, and actions are uniform during the
first `learning_starts` steps, as for Mnih et al. (an untrained network under noise nearly always takes the same one).
"""

from __future__ import annotations

import gymnasium as gym
import numpy as np

from rltrain.core import ActionSelector, ActionValues, Array, EnvSpec, Metrics, State, Transition
from rltrain.hashing import PseudoCounts
from rltrain.nn import losses
from rltrain.nn.arrays import Tensor, resolve_device, to_device
from rltrain.nn.networks import Network
from rltrain.nn.optimizers import Adam, descend
from rltrain.nn.q_functions import QFunction
from rltrain.nn.torso import torso
from rltrain.off_policy import OffPolicyAgent
from rltrain.q_settings import DQNSettings


class DQN(OffPolicyAgent):
    """Off-policy value learning for discrete actions from replayed experience."""

    Config = DQNSettings

    def __init__(
        self,
        config: DQNSettings,
        spec: EnvSpec,
        *,
        exploration: ActionSelector | None,
        rng: np.random.Generator,
        device: str,
    ) -> None:
        super().__init__(config, spec, rng=rng)
        (hash_rng,) = rng.spawn(1)
        self._exploration = exploration
        assert isinstance(spec.action_space, gym.spaces.Discrete)
        actions = int(spec.action_space.n)
        self._first_action = int(spec.action_space.start)
        image = self._encode.image
        self._torso = None if image is None else torso(config.encoder, image)
        device = resolve_device(device, config.hidden_sizes, self._torso)
        self.q, self.target = (self._q_function(actions, self._init_rng, device) for _ in range(2))
        self.target.twin(self.q)
        self.optimizer = Adam(self.q.network.parameters, eps=config.adam_eps)
        self.visits = None if config.visits is None else PseudoCounts(config.visits, spec, hash_rng)
        self._synced_at = 0  # environment step of the last target update
        if config.noisy:
            self.block = 1  # every gradient step has noise of its own

    def _q_function(self, actions: int, rng: np.random.Generator, device: str) -> QFunction:
        config = self._config
        return QFunction(
            (self._encode.size if self._torso is None else self._torso.features, *config.hidden_sizes),
            config.activation,
            self._gradient,
            actions=actions,
            dueling=config.dueling,
            heads=config.heads,
            prior_scale=config.prior_scale,
            noisy_std=config.noisy_std if config.noisy else None,
            rng=rng,
            device=device,
            torso=self._torso,
        )

    @property
    def networks(self) -> tuple[Network, ...]:
        """The network that learns."""
        return (self.q.network,)

    def act(self, obs: Array, *, explore: bool = True) -> Array:
        """Actions (N,) for observations (N, *obs_shape)."""
        self.q.disturb(self._rng if explore else None)
        samples = self.q.infer(self._encode(obs))  # (N, K, A)
        mean = samples.mean(axis=1)
        if not explore:
            action = mean.argmax(axis=1)
        elif self._exploration is None:
            action = self._under_noise(mean)
        else:
            values = ActionValues(mean, first=self._first, visits=None if self.visits is None else self.visits(obs))
            if self._config.heads > 1:
                values = values._replace(samples=samples.swapaxes(0, 1), std=samples.std(axis=1))
            action = self._exploration.select(values, self._steps, self._rng)
        return np.asarray(action + self._first_action)

    def _under_noise(self, mean: Array) -> Array:
        """The best actions (N,) of a noisy network; uniform ones while it has learnt nothing that it could doubt."""
        if self._steps < self._config.learning_starts:
            return self._rng.integers(mean.shape[1], size=len(mean))
        return np.asarray(mean.argmax(axis=1))

    def values(self, obs: Array) -> Array:
        """Q(s, a), (N, A), the mean of the heads, without noise."""
        self.q.disturb(None)
        return np.asarray(self.q.infer(self._encode(obs)).mean(axis=1))

    def observe(self, transition: Transition) -> None:
        """Store the step for replay, and count it."""
        super().observe(transition)
        if self.visits is not None:
            self.visits.add(transition.obs, transition.action)

    def _exploration_metrics(self) -> Metrics:
        chosen = {} if self._exploration is None else self._exploration.metrics(self._steps)
        counted = {} if self.visits is None else {"exploration/entries": len(self.visits)}
        return chosen | counted | self.q.metrics()

    def _gradient_steps(self, count: int) -> Metrics:
        """So many gradient steps, a batch each. The target network stays, so it values all batches at once."""
        self._update_target()
        learning_rate = self._config.learning_rate(self._steps)
        size, heads, device = self._config.batch_size, self._config.heads, self.q.network.device
        batch = self.replay.sample(count * size)
        obs, next_obs = (to_device(self._encode(part), device) for part in (batch.obs, batch.next_obs))
        columns = (batch.action - self._first_action, batch.reward, batch.discount, batch.weight)
        rows = [to_device(column if heads == 1 else column.repeat(heads), device) for column in columns]
        self.target.disturb(self._rng)
        rows.append(self.target.values(next_obs))
        for at in range(count):
            here, each = slice(at * size, (at + 1) * size), slice(at * size * heads, (at + 1) * size * heads)
            parts = self._gradient_step(learning_rate, obs[here], next_obs[here], *(column[each] for column in rows))
        q, action, y, weight, td_error = parts
        return {
            "train/loss": lambda: losses.q_learning_loss(q, action, y, weight, self._config.loss),
            "train/q_value": q,
            "train/td_error": lambda: abs(td_error),
            "train/learning_rate": learning_rate,
            **self._exploration_metrics(),
        }

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
        action: Tensor,  # (B * K,), as everything that follows
        reward: Tensor,
        discount: Tensor,
        weight: Tensor,
        next_q: Tensor,  # (B * K, A)
    ) -> tuple[Tensor, ...]:
        if self._config.double:
            self.q.disturb(self._rng)
            next_value = losses.double_value(self.q.values(next_obs), next_q)
        else:
            next_value = losses.greedy_value(next_q)
        target = losses.td_target(reward, discount, next_value)
        self.q.disturb(self._rng)
        q, td_error = self.q.learn(obs, action, target, weight)
        gradient, steps = self.q.network.gradient, self._steps
        descend(self.optimizer, gradient, learning_rate, self._config.max_grad_norm, steps)
        return q, action, target, weight, td_error

    def _gradient(self, q: Tensor, action: Tensor, target: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
        """Gradient of the loss at Q (B * K, A), and the TD errors (B * K,)."""
        return losses.q_learning_gradient(q, action, target, weight, self._config.loss)

    def state_dict(self) -> State:
        """As every agent's with replay, and networks, optimiser, exploration and visits."""
        return super().state_dict() | {
            "q_network": self.q.state_dict(),
            "target_network": self.target.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "exploration": None if self._exploration is None else self._exploration.state_dict(),
            "visits": None if self.visits is None else self.visits.state_dict(),
            "synced_at": self._synced_at,
        }

    def load_state_dict(self, state: State) -> None:
        """Restore the state."""
        super().load_state_dict(state)
        self.q.load_state_dict(state["q_network"])
        self.target.load_state_dict(state["target_network"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self._exploration is not None:
            self._exploration.load_state_dict(state["exploration"])
        if self.visits is not None:
            self.visits.load_state_dict(state["visits"])
        self._synced_at = state["synced_at"]
