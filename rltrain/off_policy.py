"""What actor-critics share that learn from replay: settings, memory, when to learn, and critics of bounded actions.

Legend: N environments, B batch, I numbers of an encoded observation, D dimensions of an action, K critics.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any, ClassVar

import gymnasium as gym
import numpy as np
from pydantic import Field, model_validator

from rltrain.core import EnvSpec, Metrics, Problem, State, Transition
from rltrain.encoding import Encoder, UnitBox, vector_problem
from rltrain.nn.arrays import Tensor, move_towards, namespace, resolve_device, to_device
from rltrain.nn.networks import Activation, Network, blueprint, build, load_network_state, network_state
from rltrain.nn.optimizers import Adam
from rltrain.replay import ReplayBuffer, memory_problem
from rltrain.schedules import Constant, ScheduleSetting
from rltrain.settings import Settings

BLOCK = 32
"""Gradient steps whose batches are drawn together."""


class OffPolicySettings(Settings):
    """Settings that every actor-critic with replay has; steps are environment steps, summed over all environments."""

    offers: ClassVar[tuple[str, ...]] = ()

    learning_rate: ScheduleSetting = Constant(value=1e-3)
    """Of the actor: a number, or a schedule of environment steps."""
    critic_learning_rate: ScheduleSetting | None = None
    """Of the critic; null for the actor's."""
    hidden_sizes: tuple[int, ...] = (400, 300)
    """Units of each hidden layer, of actor and critic."""
    activation: Activation = "relu"
    """relu and tanh run fused in NumPy; the others through torch."""
    batch_size: int = Field(default=256, ge=1)
    """Transitions per gradient step."""
    buffer_size: int = Field(default=1_000_000, ge=1)
    """Transitions kept for replay."""
    learning_starts: int = Field(default=100, ge=0)
    """Steps before the first gradient step."""
    gamma: float = Field(default=0.99, ge=0, le=1)
    """Discount per step."""
    n_step: int = Field(default=1, ge=1, le=1_000)
    """Rewards summed before the value of the state reached is trusted."""
    train_freq: int = Field(default=1, ge=1)
    """Steps between blocks of gradient steps."""
    gradient_steps: int = Field(default=1, ge=-1)
    """Gradient steps per block; -1 for as many as steps were taken since the last block."""
    tau: float = Field(default=0.005, gt=0, le=1)
    """Share of a network in an update of its target: target = tau * network + (1 - tau) * target."""
    max_grad_norm: float | None = Field(default=None, gt=0)
    """Greatest norm of a network's gradient; null for no clipping."""
    adam_eps: float = Field(default=1e-8, gt=0)

    @model_validator(mode="after")
    def _consistent(self) -> OffPolicySettings:
        if self.batch_size > self.buffer_size:
            raise ValueError(f"batch_size {self.batch_size:,} is larger than buffer_size {self.buffer_size:,}")
        if self.gradient_steps == 0:
            raise ValueError("gradient_steps 0 would never learn: use 1 or more, or -1")
        for name in ("learning_rate", "critic_learning_rate"):
            if (schedule := getattr(self, name)) is not None and schedule.bounds[0] < 0:
                raise ValueError(f"{name} must not be negative")
        if any(size < 1 for size in self.hidden_sizes):
            raise ValueError("hidden_sizes must all be at least 1")
        return self

    def problems(self, config: Any, spec: EnvSpec) -> Iterator[Problem]:
        """What does not fit the environment, the run's length or the machine."""
        name, space = config.agent.name, spec.action_space
        if not isinstance(space, gym.spaces.Box) or not np.issubdtype(space.dtype, np.floating):
            yield Problem("agent.name", f"{name} needs continuous actions, a Box of floats; {spec.id} has {space}")
            return
        if not space.is_bounded() or (space.low == space.high).any():
            yield Problem("agent.name", f"{name} needs actions with a lower and a greater upper bound, not {space}")
        if problem := vector_problem(name, spec):
            yield Problem("agent.name", problem)
        if self.learning_starts >= config.train.total_steps:
            yield Problem(
                "agent.learning_starts",
                f"{self.learning_starts:,} steps before the first gradient step leave nothing of "
                f"{config.train.total_steps:,} total steps",
            )
        if problem := memory_problem(self.buffer_size, spec):
            yield Problem("agent.buffer_size", problem)

    def gradient_steps_of(self, total_steps: int, num_envs: int) -> int:
        """About how many gradient steps a run takes."""
        every = max(self.train_freq, num_envs)
        blocks = max(total_steps - self.learning_starts, 0) // every
        return blocks * (every if self.gradient_steps == -1 else self.gradient_steps)


class Learner:
    """A network with the Adam that moves it, and a target that follows it slowly."""

    def __init__(self, network: Network, target: Network, eps: float) -> None:
        self.network, self.target = network, target
        self.optimizer = Adam(network.parameters, eps=eps)
        self.follow(1.0)

    def follow(self, tau: float) -> None:
        """target = (1 - tau) target + tau network."""
        move_towards(self.target.parameters, self.network.parameters, tau)

    def state_dict(self) -> State:
        """Network, target and moments."""
        return {
            "network": network_state(self.network),
            "target": network_state(self.target),
            "optimizer": self.optimizer.state_dict(),
        }

    def load_state_dict(self, state: State) -> None:
        """Restore the state."""
        load_network_state(self.network, state["network"])
        load_network_state(self.target, state["target"])
        self.optimizer.load_state_dict(state["optimizer"])


class OffPolicyAgent(ABC):
    """Keeps every step in replay and learns from batches of it, as soon as `learning_starts` steps are there."""

    Config: type[OffPolicySettings]
    critics: ClassVar[int] = 1
    """How many there are, K."""

    def __init__(self, config: Any, spec: EnvSpec, *, rng: np.random.Generator, device: str) -> None:
        self._init_rng, replay_rng, self._rng = rng.spawn(3)
        self._config = config
        self._device = resolve_device(device)
        self._encode = Encoder(spec.observation_space)
        assert isinstance(spec.action_space, gym.spaces.Box)
        self.box = UnitBox(spec.action_space)
        self.critic = self._learner(self._encode.size + self.box.size, 1, count=self.critics)
        self.replay = ReplayBuffer(config.buffer_size, spec, gamma=config.gamma, n_step=config.n_step, rng=replay_rng)
        self._first = np.ones(spec.num_envs, bool)  # an episode begins here
        self._steps = 0  # environment steps observed
        self._trained_at = 0  # environment step of the last block of gradient steps
        self._updates = 0  # gradient steps of the critic

    def _learner(self, inputs: int, outputs: int, *, count: int = 1) -> Learner:
        """`count` perceptrons over the same input, and their targets."""
        config = self._config
        sizes = (inputs, *config.hidden_sizes, outputs)
        plans = [blueprint(sizes, config.activation, self._init_rng) for _ in range(count)]
        return Learner(build(plans, self._device), build(plans, self._device), config.adam_eps)

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
        left = since if config.gradient_steps == -1 else config.gradient_steps
        while left:
            block = min(left, BLOCK)
            metrics = self._gradient_steps(block)
            left -= block
        return metrics

    def _gradient_steps(self, count: int) -> Metrics:
        """So many gradient steps, a batch each; the metrics of the last."""
        size, device = self._config.batch_size, self.critic.network.device
        batch = self.replay.sample(count * size)
        columns = (
            self._encode(batch.obs),
            self.box.unit(batch.action),
            batch.reward,
            batch.discount,
            batch.weight,
            self._encode(batch.next_obs),
        )
        parts = [to_device(column, device) for column in columns]
        for at in range(0, count * size, size):
            self._updates += 1
            metrics = self._gradient_step(*(part[at : at + size] for part in parts))
        return metrics

    @abstractmethod
    def _gradient_step(
        self,
        obs: Tensor,  # (B, I)
        action: Tensor,  # (B, D) in -1 ... 1
        reward: Tensor,  # (B,) as all below
        discount: Tensor,
        weight: Tensor,
        next_obs: Tensor,  # (B, I)
    ) -> Metrics:
        """One step of every network that is due."""

    def abandon(self, env: int) -> None:
        """Give up the steps that wait for their n-step return."""
        self.replay.abandon(env)
        self._first[env] = True

    def state_dict(self) -> State:
        """Critic, replay, counters and generator."""
        return {
            "critic": self.critic.state_dict(),
            "replay": self.replay.state_dict(),
            "rng": self._rng.bit_generator.state,
            "first": self._first.copy(),
            "steps": self._steps,
            "trained_at": self._trained_at,
            "updates": self._updates,
        }

    def load_state_dict(self, state: State) -> None:
        """Restore the state."""
        self.critic.load_state_dict(state["critic"])
        self.replay.load_state_dict(state["replay"])
        self._rng.bit_generator.state = state["rng"]
        self._first = np.array(state["first"])
        self._steps = state["steps"]
        self._trained_at = state["trained_at"]
        self._updates = state["updates"]


def side_by_side(obs: Tensor, action: Tensor) -> Tensor:
    """What a critic takes (B, I + D)."""
    return namespace(obs).concatenate((obs, action), 1)
