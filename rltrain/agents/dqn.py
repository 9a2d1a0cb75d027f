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
from typing import Any, ClassVar

import gymnasium as gym
import numpy as np
from pydantic import Field, model_validator

from rltrain import losses
from rltrain.arrays import Tensor, resolve_device, to_device
from rltrain.core import ActionSelector, ActionValues, Array, EnvSpec, Metrics, Problem, State, Transition
from rltrain.encoding import Encoder, vector_problem
from rltrain.losses import LossKind
from rltrain.networks import Activation, Network
from rltrain.optimizers import Adam, descend
from rltrain.q_functions import QFunction
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
    heads: int = Field(default=1, ge=1, le=100)
    """Networks of an ensemble, each with its own weights and targets; `thompson` follows one of them per episode."""
    prior_scale: float = Field(default=0.0, ge=0)
    """Weight of a random network that never learns, added to each head: where nothing was learnt, heads differ."""

    explores_with: ClassVar[str] = "selector"
    remedies: ClassVar[dict[str, dict[str, Any]]] = {"samples": {"heads": 10}, "std": {"heads": 10}}

    @property
    def offers(self) -> tuple[str, ...]:
        """What a selector may know beside the mean."""
        return ("samples", "std") if self.heads > 1 else ()

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
        self.q, self.target = (self._q_function(actions, init_rng, resolve_device(device)) for _ in range(2))
        self.target.twin(self.q)
        self.optimizer = Adam(self.q.network.parameters, eps=config.adam_eps)
        self.replay = ReplayBuffer(config.buffer_size, spec, gamma=config.gamma, n_step=config.n_step, rng=replay_rng)
        self._first = np.ones(spec.num_envs, bool)  # an episode begins here
        self._steps = 0  # environment steps observed
        self._trained_at = 0  # environment step of the last block of gradient steps
        self._synced_at = 0  # environment step of the last target update

    def _q_function(self, actions: int, rng: np.random.Generator, device: str) -> QFunction:
        config = self._config
        return QFunction(
            (self._encode.size, *config.hidden_sizes),
            config.activation,
            self._gradient,
            actions=actions,
            dueling=config.dueling,
            heads=config.heads,
            prior_scale=config.prior_scale,
            rng=rng,
            device=device,
        )

    @property
    def networks(self) -> tuple[Network, ...]:
        """The network that learns."""
        return (self.q.network,)

    def act(self, obs: Array, *, explore: bool = True) -> Array:
        """Actions (N,) for observations (N, *obs_shape)."""
        samples = self.q.infer(self._encode(obs))  # (N, K, A)
        mean = samples.mean(axis=1)
        if not explore:
            return np.asarray(mean.argmax(axis=1) + self._first_action)
        values = ActionValues(mean, first=self._first)
        if self._config.heads > 1:
            values = values._replace(samples=samples.swapaxes(0, 1), std=samples.std(axis=1))
        return self._exploration.select(values, self._steps, self._rng) + self._first_action

    def values(self, obs: Array) -> Array:
        """Q(s, a), (N, A), the mean of the heads."""
        return np.asarray(self.q.infer(self._encode(obs)).mean(axis=1))

    def observe(self, transition: Transition) -> None:
        """Store the step for replay."""
        self.replay.add(transition)
        self._first = transition.terminated | transition.truncated
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
            self.target.follow(self.q, config.tau)
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
        size, heads, device = self._config.batch_size, self._config.heads, self.q.network.device
        batch = self.replay.sample(count * size)
        obs, next_obs = (to_device(self._encode(part), device) for part in (batch.obs, batch.next_obs))
        columns = (batch.action - self._first_action, batch.reward, batch.discount, batch.weight)
        rows = [to_device(column if heads == 1 else column.repeat(heads), device) for column in columns]
        rows.append(self.target.values(next_obs))
        for at in range(count):
            here, each = slice(at * size, (at + 1) * size), slice(at * size * heads, (at + 1) * size * heads)
            parts = self._gradient_step(learning_rate, obs[here], next_obs[here], *(column[each] for column in rows))
        return parts

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
            next_value = losses.double_value(self.q.values(next_obs), next_q)
        else:
            next_value = losses.greedy_value(next_q)
        target = losses.td_target(reward, discount, next_value)
        q, td_error = self.q.learn(obs, action, target, weight)
        gradient, steps = self.q.network.gradient, self._steps
        descend(self.optimizer, gradient, learning_rate, self._config.max_grad_norm, steps)
        return q, action, target, weight, td_error

    def _gradient(self, q: Tensor, action: Tensor, target: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
        """Gradient of the loss at Q (B * K, A), and the TD errors (B * K,)."""
        return losses.q_learning_gradient(q, action, target, weight, self._config.loss)

    def abandon(self, env: int) -> None:
        """Give up the steps that wait for their n-step return."""
        self.replay.abandon(env)
        self._first[env] = True

    def state_dict(self) -> State:
        """Networks, optimiser, replay, counters and generators."""
        return {
            "q_network": self.q.state_dict(),
            "target_network": self.target.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "replay": self.replay.state_dict(),
            "exploration": self._exploration.state_dict(),
            "rng": self._rng.bit_generator.state,
            "steps": self._steps,
            "trained_at": self._trained_at,
            "first": self._first.copy(),
            "synced_at": self._synced_at,
        }

    def load_state_dict(self, state: State) -> None:
        """Restore the state."""
        self.q.load_state_dict(state["q_network"])
        self.target.load_state_dict(state["target_network"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.replay.load_state_dict(state["replay"])
        self._exploration.load_state_dict(state["exploration"])
        self._rng.bit_generator.state = state["rng"]
        self._steps = state["steps"]
        self._trained_at = state["trained_at"]
        self._first = np.array(state["first"])
        self._synced_at = state["synced_at"]
