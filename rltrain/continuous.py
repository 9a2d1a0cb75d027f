"""What actor-critics with replay share: settings, and critics of bounded continuous actions.

Legend: B batch, I numbers of an encoded observation, D dimensions of an action, K critics, W numbers of noise.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from typing import Any, ClassVar, NamedTuple

import gymnasium as gym
import numpy as np
from pydantic import Field

from rltrain.core import Array, Batch, EnvSpec, Metrics, Problem, State
from rltrain.encoding import UnitBox, in_words
from rltrain.nn.arrays import Tensor, move_towards, numbers, resolve_device, to_device
from rltrain.nn.blueprint import Blueprint, blueprint
from rltrain.nn.networks import Network, build, load_network_state, network_state
from rltrain.nn.optimizers import Adam, guarded_step, refuse_divergence
from rltrain.nn.size import FOLLOWED
from rltrain.off_policy import OffPolicyAgent, OffPolicySettings
from rltrain.schedules import Constant, LearningRate
from rltrain.settings import HiddenSizes


class ContinuousSettings(OffPolicySettings):
    """Settings that every actor-critic with replay has; steps are environment steps, summed over all environments."""

    offers: ClassVar[tuple[str, ...]] = ()
    actor_kept: ClassVar[int] = FOLLOWED

    learning_rate: LearningRate = Constant(value=1e-3)
    """Of the actor: a number, or a schedule of environment steps."""
    critic_learning_rate: LearningRate | None = None
    """Of the critic; null for the actor's."""
    hidden_sizes: HiddenSizes = (400, 300)
    """Units of each hidden layer, of actor and critic."""
    batch_size: int = Field(default=256, ge=1)
    """Transitions per gradient step."""
    buffer_size: int = Field(default=1_000_000, ge=1)
    """Transitions kept for replay."""
    learning_starts: int = Field(default=100, ge=0)
    """Steps before the first gradient step, with uniform actions."""
    train_freq: int = Field(default=1, ge=1)
    """Steps between blocks of gradient steps."""
    tau: float = Field(default=0.005, gt=0, le=1)
    """Share of a network in an update of its target: target = tau * network + (1 - tau) * target."""

    @property
    def critics(self) -> int:
        """How many there are, K."""
        return 1

    @property
    def numbers_kept(self) -> int:
        """For each parameter of one network, in actor and critics together."""
        return self.critics * FOLLOWED + self.actor_kept

    def problems(self, config: Any, spec: EnvSpec) -> Iterator[Problem]:
        """What does not fit the environment, the run's length or the machine."""
        name, space = config.agent.name, spec.action_space
        if not isinstance(space, gym.spaces.Box) or not np.issubdtype(space.dtype, np.floating):
            yield Problem(
                "agent.name", f"{name} needs continuous actions, a Box of floats; {spec.id} has {in_words(space)}"
            )
            return
        with np.errstate(over="ignore"):
            width = space.high - space.low
        if not (np.isfinite(width) & (width > 0)).all():
            yield Problem(
                "agent.name", f"{name} needs actions with a lower and a greater upper bound, not {in_words(space)}"
            )
        yield from super().problems(config, spec)


class Learner:
    """A network with the Adam that moves it."""

    def __init__(self, network: Network, eps: float) -> None:
        self.network = network
        self.optimizer = Adam(network.parameters, eps=eps)

    def descend(self, learning_rate: Any, max_norm: float | None) -> Any:
        """Move against the network's gradient, if that is finite; returns its norm."""
        return guarded_step(self.optimizer, self.network.gradient, learning_rate, max_norm)

    @property
    def tensors(self) -> list[Tensor]:
        """All that changes while it learns."""
        return self.optimizer.tensors

    def state_dict(self) -> State:
        """Network and moments."""
        return {"network": network_state(self.network), "optimizer": self.optimizer.state_dict()}

    def load_state_dict(self, state: State) -> None:
        """Restore the state."""
        load_network_state(self.network, state["network"])
        self.optimizer.load_state_dict(state["optimizer"])


class FollowedLearner(Learner):
    """A network with its Adam, and a target that follows it slowly."""

    def __init__(self, network: Network, target: Network, eps: float) -> None:
        super().__init__(network, eps)
        self.target = target
        self.follow(1.0)

    def follow(self, tau: float) -> None:
        """target = (1 - tau) target + tau network."""
        move_towards(self.target.parameters, self.network.parameters, tau)

    @property
    def tensors(self) -> list[Tensor]:
        """All that changes while it learns."""
        return [*super().tensors, self.target.parameters]

    def state_dict(self) -> State:
        """Network, target and moments."""
        return super().state_dict() | {"target": network_state(self.target)}

    def load_state_dict(self, state: State) -> None:
        """Restore the state."""
        super().load_state_dict(state)
        load_network_state(self.target, state["target"])


class EncodedBatch(NamedTuple):
    """What a gradient step sees."""

    obs: Tensor  # (B, I)
    action: Tensor  # (B, D) in -1 ... 1
    reward: Tensor  # (B,)
    discount: Tensor  # (B,)
    weight: Tensor  # (B,)
    next_obs: Tensor  # (B, I)
    noise: Tensor  # (B, W) as the agent draws it


Norms = tuple[Any, Any]
"""Of the gradients of critic and actor, numbers or tensors."""


class ContinuousAgent(OffPolicyAgent):
    """Values bounded actions by critics, which an actor follows, and learns from replay.

    A gradient step of all networks is one function of arrays, without a branch on their values; on a CUDA device the
    whole of it is one recording.
    """

    Config: type[ContinuousSettings]
    actor: Learner

    def __init__(self, config: Any, spec: EnvSpec, *, rng: np.random.Generator, device: str) -> None:
        super().__init__(config, spec, rng=rng)
        self._device = resolve_device(device, config.hidden_sizes)
        assert isinstance(spec.action_space, gym.spaces.Box)
        self.box = UnitBox(spec.action_space)
        inputs = self._encode.size + self.box.size
        plans = [self._plan(inputs, self.critic_outputs) for _ in range(config.critics)]
        self.critic = FollowedLearner(self._build(plans), self._build(plans), config.adam_eps)
        self._updates = 0  # gradient steps of the critic
        self._run: Callable[..., tuple[Norms, Any]] | None = None  # a gradient step, as this device runs it

    def _plan(self, inputs: int, outputs: int, **kwargs: Any) -> Blueprint:
        sizes = (inputs, *self._config.hidden_sizes, outputs)
        return blueprint(sizes, self._config.activation, self._init_rng, **kwargs)

    def _build(self, plans: Sequence[Blueprint]) -> Network:
        return build(plans, self._device)

    @property
    def critic_outputs(self) -> int:
        """Numbers by which each critic says what an action is worth."""
        return 1

    @property
    def policy_delay(self) -> int:
        """Gradient steps of the critic for one of the actor."""
        return 1

    def act(self, obs: Array, *, explore: bool = True) -> Array:
        """Actions (N, *action_shape) for observations (N, *obs_shape); uniform ones until learning starts."""
        if explore and self._steps < self._config.learning_starts:
            return self.box.action(self._rng.uniform(-1, 1, (len(obs), self.box.size)).astype(np.float32))
        return self.box.action(self._policy_action(self.actor.network.infer(self._encode(obs)), explore))

    @abstractmethod
    def _policy_action(self, outputs: Array, explore: bool) -> Array:
        """Actions (N, D) within -1 and 1 by the actor's outputs (N, O)."""

    @property
    def networks(self) -> tuple[Network, ...]:
        """The networks that learn."""
        return self.actor.network, self.critic.network

    def _gradient_steps(self, count: int) -> Metrics:
        """So many gradient steps, a batch each; the metrics of the last."""
        config, steps, size = self._config, self._steps, self._config.batch_size
        rate = config.learning_rate(steps)
        critic_rate = rate if config.critic_learning_rate is None else config.critic_learning_rate(steps)
        rates = numbers((critic_rate, rate), self.critic.network.device)
        rows, step = self._sample(count * size), self._run or self._runner()
        whole = self._minibatch(rows)
        totals: list[Any] = [0.0, 0.0]
        for at in range(0, count * size, size):
            self._updates += 1
            batch = EncodedBatch(*(column[at : at + size] for column in whole))
            norms, parts = step(self._updates % self.policy_delay == 0, rates, *batch)
            totals = [total + norm for total, norm in zip(totals, norms, strict=True)]
        for total, setting in zip(totals, (CRITIC_RATE, "agent.learning_rate"), strict=True):
            refuse_divergence(float(total), steps, setting)
        self._prioritize(rows, parts[1])
        return {**self._metrics(batch, *parts), "train/learning_rate": rate}

    def _minibatch(self, batch: Batch) -> EncodedBatch:
        """Rows from replay, as the networks see them, where they are."""
        obs, next_obs, action = self._encode(batch.obs), self._encode(batch.next_obs), self.box.unit(batch.action)
        columns = (obs, action, batch.reward, batch.discount, batch.weight, next_obs, self._noise(len(obs)))
        return EncodedBatch(*(to_device(column, self.critic.network.device) for column in columns))

    def _noise(self, rows: int) -> Array:
        """What a gradient step needs of chance (rows, W), drawn in NumPy whatever the device."""
        return np.empty((rows, 0), np.float32)

    def _runner(self) -> Callable[..., tuple[Norms, Any]]:
        def step(due: bool, rates: Any, *columns: Tensor) -> tuple[Norms, Any]:
            return self._gradient_step(EncodedBatch(*columns), rates[0], rates[1], due)

        self._run, network = step, self.critic.network
        if network.device is not None:
            from rltrain.nn.graphs import graphed  # loads torch

            self._run = graphed(step, network, self._tensors())
        return self._run

    def _tensors(self) -> list[Tensor]:
        """All that a gradient step changes and that the next one depends on."""
        return [*self.critic.tensors, *self.actor.tensors]

    @abstractmethod
    def _gradient_step(
        self, batch: EncodedBatch, critic_rate: Any, actor_rate: Any, due: bool
    ) -> tuple[Norms, tuple[Any, ...]]:
        """One step of the critic, and of the actor where it is due.

        Returns also what `_metrics` takes: the targets (B,), the errors (B,) or (B, K), and more.
        """

    @abstractmethod
    def _metrics(self, batch: EncodedBatch, *parts: Any) -> Metrics:
        """What is told of a gradient step."""

    def state_dict(self) -> State:
        """As every agent's with replay, and critic and actor."""
        own = {"critic": self.critic.state_dict(), "actor": self.actor.state_dict(), "updates": self._updates}
        return super().state_dict() | own

    def load_state_dict(self, state: State) -> None:
        """Restore the state."""
        super().load_state_dict(state)
        self.critic.load_state_dict(state["critic"])
        self.actor.load_state_dict(state["actor"])
        self._updates = state["updates"]


CRITIC_RATE = "agent.critic_learning_rate, or agent.learning_rate where that is not set"
