"""Deep Q-network, with double, dueling and n-step learning as settings.

Q-learning with a neural network, made stable by experience replay and a target network that is
copied now and then.

    y = r + gamma max_a' Q_target(s', a')            (0 beyond a terminal state, not beyond a time limit)
    minimise  l(Q(s, a) - y)  over a batch from replay

Sources: Mnih et al. 2015, https://doi.org/10.1038/nature14236; double: van Hasselt et al. 2016,
https://arxiv.org/abs/1509.06461; dueling: Wang et al. 2016, https://arxiv.org/abs/1511.06581;
n-step: Sutton 1988, as used in https://arxiv.org/abs/1710.02298.

Differences from the papers: Adam in place of RMSProp; the two dueling streams share all hidden
layers, so they are one linear layer [V, A_1 ... A_n] with Q = V + A - mean A; mse is (Q - y)^2 / 2.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import gymnasium as gym
import numpy as np
from pydantic import Field, model_validator

from rltrain import losses
from rltrain.arrays import Tensor, resolve_device, to_device
from rltrain.core import ActionSelector, ActionValues, Array, EnvSpec, Metrics, Problem, State, Transition
from rltrain.encoding import Encoder, vector_problem
from rltrain.losses import LossKind
from rltrain.networks import Activation, Network, blueprint, build, load_network_state, network_state
from rltrain.optimizers import Adam, descend
from rltrain.replay import ReplayBuffer, memory_problem
from rltrain.schedules import Constant, ScheduleSetting
from rltrain.settings import Settings

BLOCK = 32
"""Gradient steps whose batches are drawn, and valued by the target network, together."""


class DQNSettings(Settings):
    """Settings of the deep Q-network; steps are environment steps, summed over all environments."""

    learning_rate: ScheduleSetting = Constant(value=1e-4)
    """A number, or a schedule of environment steps."""
    hidden_sizes: tuple[int, ...] = (64, 64)
    """Units of each hidden layer."""
    activation: Activation = "relu"
    batch_size: int = Field(default=32, ge=1)
    """Transitions per gradient step."""
    buffer_size: int = Field(default=100_000, ge=1)
    """Transitions kept for replay."""
    learning_starts: int = Field(default=100, ge=0)
    """Steps before the first gradient step."""
    gamma: float = Field(default=0.99, ge=0, le=1)
    """Discount per step."""
    n_step: int = Field(default=1, ge=1, le=1_000)
    """Rewards summed before the value of the state reached is trusted."""
    train_freq: int = Field(default=4, ge=1)
    """Steps between blocks of gradient steps."""
    gradient_steps: int = Field(default=1, ge=-1)
    """Gradient steps per block; -1 for as many as steps were taken since the last block."""
    target_update_interval: int = Field(default=10_000, ge=1)
    """Steps between updates of the target network, which happen before a block of gradient steps."""
    tau: float = Field(default=1.0, gt=0, le=1)
    """Share of the network in a target update: target = tau * network + (1 - tau) * target."""
    double: bool = False
    """Choose a' by the network and value it by the target network."""
    dueling: bool = False
    """Learn V(s) and advantages apart."""
    loss: LossKind = "huber"
    max_grad_norm: float | None = Field(default=10.0, gt=0)
    """Greatest norm of the whole gradient; null for no clipping."""
    adam_eps: float = Field(default=1e-8, gt=0)

    @model_validator(mode="after")
    def _consistent(self) -> DQNSettings:
        if self.batch_size > self.buffer_size:
            raise ValueError(f"batch_size {self.batch_size:,} is larger than buffer_size {self.buffer_size:,}")
        if self.gradient_steps == 0:
            raise ValueError("gradient_steps 0 would never learn: use 1 or more, or -1")
        if self.learning_rate.bounds[0] < 0:
            raise ValueError("learning_rate must not be negative")
        if any(size < 1 for size in self.hidden_sizes):
            raise ValueError("hidden_sizes must all be at least 1")
        return self

    def problems(self, config: Any, spec: EnvSpec) -> Iterator[Problem]:
        """What does not fit the environment, the run's length or the machine."""
        if not isinstance(spec.action_space, gym.spaces.Discrete):
            yield Problem("agent.name", f"dqn needs Discrete actions, {spec.id} has {spec.action_space}")
            return
        if problem := vector_problem("dqn", spec):
            yield Problem("agent.name", problem)
        if self.learning_starts >= config.train.total_steps:
            yield Problem(
                "agent.learning_starts",
                f"{self.learning_starts:,} steps of warm-up leave nothing of {config.train.total_steps:,} total steps",
            )
        if problem := memory_problem(self.buffer_size, spec):
            yield Problem("agent.buffer_size", problem)

    def gradient_steps_of(self, total_steps: int, num_envs: int) -> int:
        """About how many gradient steps a run takes."""
        blocks = max(total_steps - self.learning_starts, 0) // max(self.train_freq, num_envs)
        return blocks * (max(self.train_freq, num_envs) if self.gradient_steps == -1 else self.gradient_steps)


class DQN:
    """Off-policy value learning for discrete actions from replayed experience."""

    Config = DQNSettings
    explores_with = "selector"
    offers = ()

    def __init__(
        self,
        config: DQNSettings,
        spec: EnvSpec,
        *,
        exploration: ActionSelector,
        rng: np.random.Generator,
        device: str,
    ) -> None:
        init_rng, replay_rng, self._rng = rng.spawn(3)
        self._config = config
        self._exploration = exploration
        self._encode = Encoder(spec.observation_space)
        assert isinstance(spec.action_space, gym.spaces.Discrete)
        actions = int(spec.action_space.n)
        self._first_action = int(spec.action_space.start)
        self._head = _dueling_head(actions) if config.dueling else None
        self.q_network = self._network(actions + config.dueling, init_rng, resolve_device(device))
        self.target_network = self._network(actions + config.dueling, init_rng, resolve_device(device))
        self.target_network.parameters[:] = self.q_network.parameters
        self.optimizer = Adam(self.q_network.parameters, eps=config.adam_eps)
        self.replay = ReplayBuffer(config.buffer_size, spec, gamma=config.gamma, n_step=config.n_step, rng=replay_rng)
        self._steps = 0  # environment steps observed
        self._trained_at = 0  # environment step of the last block of gradient steps
        self._synced_at = 0  # environment step of the last target update

    def _network(self, outputs: int, rng: np.random.Generator, device: str) -> Network:
        sizes = (self._encode.size, *self._config.hidden_sizes, outputs)
        return build([blueprint(sizes, self._config.activation, rng)], device)

    @property
    def networks(self) -> tuple[Network, ...]:
        """The network that learns."""
        return (self.q_network,)

    def act(self, obs: Array, *, explore: bool = True) -> Array:
        """Actions (N,) for observations (N, *obs_shape)."""
        q = self.values(obs)
        if not explore:
            return np.asarray(q.argmax(axis=1) + self._first_action)
        return self._exploration.select(ActionValues(q), self._steps, self._rng) + self._first_action

    def values(self, obs: Array) -> Array:
        """Q(s, a), (N, A)."""
        q = self.q_network.infer(self._encode(obs))
        return q if self._head is None else np.asarray(q @ self._head)

    def observe(self, transition: Transition) -> None:
        """Store the step for replay."""
        self.replay.add(transition)
        self._steps += len(transition.reward)

    def update(self) -> Metrics:
        """A block of gradient steps when `train_freq` steps have passed since the last."""
        config, since = self._config, self._steps - self._trained_at
        if since < config.train_freq or self._steps < config.learning_starts or not len(self.replay):
            return {}
        self._trained_at = self._steps
        interval = config.target_update_interval
        if self._steps // interval > self._synced_at // interval:
            self._synced_at = self._steps
            target = self.target_network.parameters
            target *= 1 - config.tau
            target += config.tau * self.q_network.parameters
        learning_rate = config.learning_rate(self._steps)
        left = since if config.gradient_steps == -1 else config.gradient_steps
        while left:
            block = min(left, BLOCK)
            parts = self._gradient_steps(block, learning_rate)
            left -= block
        q, action, y, weight, td_error = parts
        return {
            "train/loss": lambda: losses.q_learning_loss(q, action, y, weight, config.loss),
            "train/q_value": q,
            "train/td_error": lambda: abs(td_error),
            "train/learning_rate": learning_rate,
            **self._exploration.metrics(self._steps),
        }

    def _gradient_steps(self, count: int, learning_rate: float) -> tuple[Tensor, ...]:
        """So many gradient steps, a batch each. The target network stays, so it values all batches at once.

        Returns what the last loss was made of: q, action, target, weight and TD error.
        """
        size, device = self._config.batch_size, self.q_network.device
        batch = self.replay.sample(count * size)
        next_obs = to_device(self._encode(batch.next_obs), device)
        obs = to_device(self._encode(batch.obs), device)
        action = to_device(batch.action - self._first_action, device)
        reward, discount, weight = (to_device(part, device) for part in (batch.reward, batch.discount, batch.weight))
        next_q = self._q(self.target_network.evaluate(next_obs))
        columns = (obs, action, reward, discount, next_obs, weight, next_q)
        for at in range(0, count * size, size):
            parts = self._gradient_step(learning_rate, *(column[at : at + size] for column in columns))
        return parts

    def _gradient_step(
        self,
        learning_rate: float,
        obs: Tensor,
        action: Tensor,
        reward: Tensor,
        discount: Tensor,
        next_obs: Tensor,
        weight: Tensor,
        next_q: Tensor,
    ) -> tuple[Tensor, ...]:
        if self._config.double:
            next_value = losses.double_value(self._q(self.q_network.evaluate(next_obs)), next_q)
        else:
            next_value = losses.greedy_value(next_q)
        target = losses.td_target(reward, discount, next_value)
        q, td_error = self.q_network.learn(self._output_gradient, obs, action, target, weight)
        descend(self.optimizer, self.q_network.gradient, learning_rate, self._config.max_grad_norm, self._steps)
        return q, action, target, weight, td_error

    def _output_gradient(self, outputs: Tensor, action: Tensor, target: Tensor, weight: Tensor) -> tuple[Tensor, Any]:
        """Gradient of the loss at the network's outputs; beside it Q(s, a) (B, A) and the TD errors (B,)."""
        q = self._q(outputs)
        grad, td_error = losses.q_learning_gradient(q, action, target, weight, self._config.loss)
        return (grad if self._head is None else grad @ self._head_like(grad).T), (q, td_error)

    def _q(self, outputs: Tensor) -> Tensor:
        return outputs if self._head is None else outputs @ self._head_like(outputs)

    def _head_like(self, x: Tensor) -> Tensor:
        return self._head if self.q_network.device is None else x.new_tensor(self._head)

    def abandon(self, env: int) -> None:
        """Give up the steps that wait for their n-step return."""
        self.replay.abandon(env)

    def state_dict(self) -> State:
        """Networks, optimiser, replay, counters and generators."""
        return {
            "q_network": network_state(self.q_network),
            "target_network": network_state(self.target_network),
            "optimizer": self.optimizer.state_dict(),
            "replay": self.replay.state_dict(),
            "exploration": self._exploration.state_dict(),
            "rng": self._rng.bit_generator.state,
            "steps": self._steps,
            "trained_at": self._trained_at,
            "synced_at": self._synced_at,
        }

    def load_state_dict(self, state: State) -> None:
        """Restore the state."""
        load_network_state(self.q_network, state["q_network"])
        load_network_state(self.target_network, state["target_network"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.replay.load_state_dict(state["replay"])
        self._exploration.load_state_dict(state["exploration"])
        self._rng.bit_generator.state = state["rng"]
        self._steps = state["steps"]
        self._trained_at = state["trained_at"]
        self._synced_at = state["synced_at"]


def _dueling_head(actions: int) -> Array:
    """Matrix (1 + A, A) of the linear map [V, A_1 ... A_n] -> Q = V + A - mean A."""
    return np.vstack((np.ones((1, actions)), np.eye(actions) - 1 / actions)).astype(np.float32)
