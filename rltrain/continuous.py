"""What actor-critics with replay share: settings, and critics of bounded continuous actions.

Legend: B batch, I numbers of an encoded observation, D dimensions of an action, K critics.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from typing import Any, ClassVar

import gymnasium as gym
import numpy as np
from pydantic import Field, model_validator

from rltrain.core import EnvSpec, Metrics, Problem, State
from rltrain.encoding import UnitBox
from rltrain.nn.arrays import Tensor, move_towards, namespace, resolve_device, to_device
from rltrain.nn.networks import Network, blueprint, build, load_network_state, network_state
from rltrain.nn.optimizers import Adam
from rltrain.off_policy import OffPolicyAgent, OffPolicySettings
from rltrain.schedules import Constant, ScheduleSetting


class ContinuousSettings(OffPolicySettings):
    """Settings that every actor-critic with replay has; steps are environment steps, summed over all environments."""

    offers: ClassVar[tuple[str, ...]] = ()

    learning_rate: ScheduleSetting = Constant(value=1e-3)
    """Of the actor: a number, or a schedule of environment steps."""
    critic_learning_rate: ScheduleSetting | None = None
    """Of the critic; null for the actor's."""
    hidden_sizes: tuple[int, ...] = (400, 300)
    """Units of each hidden layer, of actor and critic."""
    batch_size: int = Field(default=256, ge=1)
    """Transitions per gradient step."""
    buffer_size: int = Field(default=1_000_000, ge=1)
    """Transitions kept for replay."""
    train_freq: int = Field(default=1, ge=1)
    """Steps between blocks of gradient steps."""
    tau: float = Field(default=0.005, gt=0, le=1)
    """Share of a network in an update of its target: target = tau * network + (1 - tau) * target."""

    @model_validator(mode="after")
    def _critic_can_learn(self) -> ContinuousSettings:
        if self.critic_learning_rate is not None and self.critic_learning_rate.bounds[0] < 0:
            raise ValueError("critic_learning_rate must not be negative")
        return self

    def problems(self, config: Any, spec: EnvSpec) -> Iterator[Problem]:
        """What does not fit the environment, the run's length or the machine."""
        name, space = config.agent.name, spec.action_space
        if not isinstance(space, gym.spaces.Box) or not np.issubdtype(space.dtype, np.floating):
            yield Problem("agent.name", f"{name} needs continuous actions, a Box of floats; {spec.id} has {space}")
            return
        if not space.is_bounded() or (space.low == space.high).any():
            yield Problem("agent.name", f"{name} needs actions with a lower and a greater upper bound, not {space}")
        yield from super().problems(config, spec)


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


class ContinuousAgent(OffPolicyAgent):
    """Values bounded actions by critics, and learns from replay."""

    Config: type[ContinuousSettings]
    critics: ClassVar[int] = 1
    """How many there are, K."""

    def __init__(self, config: Any, spec: EnvSpec, *, rng: np.random.Generator, device: str) -> None:
        super().__init__(config, spec, rng=rng)
        self._device = resolve_device(device, config.hidden_sizes)
        assert isinstance(spec.action_space, gym.spaces.Box)
        self.box = UnitBox(spec.action_space)
        self.critic = self._learner(self._encode.size + self.box.size, 1, count=self.critics)
        self._updates = 0  # gradient steps of the critic

    def _learner(self, inputs: int, outputs: int, *, count: int = 1) -> Learner:
        """`count` perceptrons over the same input, and their targets."""
        config = self._config
        sizes = (inputs, *config.hidden_sizes, outputs)
        plans = [blueprint(sizes, config.activation, self._init_rng) for _ in range(count)]
        return Learner(build(plans, self._device), build(plans, self._device), config.adam_eps)

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

    def state_dict(self) -> State:
        """As every agent's with replay, and the critic."""
        return super().state_dict() | {"critic": self.critic.state_dict(), "updates": self._updates}

    def load_state_dict(self, state: State) -> None:
        """Restore the state."""
        super().load_state_dict(state)
        self.critic.load_state_dict(state["critic"])
        self._updates = state["updates"]


def side_by_side(obs: Tensor, action: Tensor) -> Tensor:
    """What a critic takes (B, I + D)."""
    return namespace(obs).concatenate((obs, action), 1)
