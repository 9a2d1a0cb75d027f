"""What every reward bonus is made of: a scale that may change, a limit, its own clock, and its state.

A bonus's file gives `novelty(transition)`, a number for every environment; the class here turns it into a reward. It
also has the parts that learnt bonuses share: observations brought to one scale, batches gathered from the stream, and a
network with its optimiser. Shapes: N environments, B batch, D numbers of an observation.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any, Literal

import numpy as np
from pydantic import Field, model_validator

from rltrain.compilable import compilable
from rltrain.core import Array, EnvSpec, Metrics, State, Transition
from rltrain.encoding import Encoder
from rltrain.moments import RunningMoments, Standardizer
from rltrain.nn.blueprint import Blueprint
from rltrain.nn.fused import FusedMLP
from rltrain.nn.networks import load_network_state, network_state
from rltrain.nn.optimizers import Adam, descend
from rltrain.schedules import Constant, ScheduleSetting
from rltrain.settings import HiddenSizes, Settings

GREATEST_SCALE = 1e30
"""Of a bonus; times a novelty of 1 it is still a float32 beside other rewards."""
WHITE_BOUND = 5.0
"""Standard deviations at which whitened numbers are cut, from Burda et al. 2018."""


class BonusSettings(Settings):
    """What every bonus has."""

    scale: ScheduleSetting = Constant(value=0.1)
    """What the novelty is multiplied by: a number, or a schedule of environment steps."""
    clip: float | None = Field(default=None, gt=0)
    """Greatest bonus of one step, after scaling; null for no limit."""

    @model_validator(mode="after")
    def _not_negative(self) -> BonusSettings:
        if self.scale.bounds[0] < 0:
            raise ValueError("scale must not be negative: a bonus is never a punishment")
        if self.scale.bounds[1] > GREATEST_SCALE:
            raise ValueError(f"scale must be at most {GREATEST_SCALE:g}: rewards are float32")
        return self


@compilable
def pay(novelty: Any, scale: float, limit: float) -> float:
    """What is added to the reward of one step: min(scale * novelty, limit)."""
    return float(min(scale * novelty, limit))


class Bonus(ABC):
    """bonus = min(scale(t) * novelty, clip), with t the environment steps before this one."""

    def __init__(self, config: Any, spec: EnvSpec) -> None:
        self.steps = 0  # environment steps
        self.scale = config.scale
        self.limit = math.inf if config.clip is None else float(config.clip)
        self.num_envs = spec.num_envs

    @abstractmethod
    def novelty(self, transition: Transition) -> Array:
        """How new the step is (N,), before scaling."""

    def bonus(self, transition: Transition) -> Array:
        """What is added to the reward (N,) float32."""
        scale, limit = self.scale(self.steps), self.limit
        self.steps += len(transition.reward)
        return np.array([pay(new, scale, limit) for new in self.novelty(transition).tolist()], np.float32)

    def metrics(self) -> Metrics:
        """The scale, where it changes. A learnt bonus adds its losses."""
        return {} if isinstance(self.scale, Constant) else {"scale": self.scale(self.steps)}

    def abandon(self, env: int) -> None:  # noqa: B027 most bonuses remember nothing of an episode
        """Forget the open episode of an environment: after a resume it begins anew."""

    def state_dict(self) -> State:
        """Steps. A bonus that remembers more adds it."""
        return {"steps": self.steps}

    def load_state_dict(self, state: State) -> None:
        """Restore the state."""
        self.steps = int(state["steps"])


def whitener(size: int) -> Standardizer:
    """clip((x - mean) / std, -5, 5), by the running moments of everything that was seen.

    A number that has never changed becomes 0 where it stays what it was, and the bound where it does not.
    Source: Burda et al. 2018, section 2.4. https://arxiv.org/abs/1810.12894
    """
    return Standardizer((size,), epsilon=1e-12, clip=WHITE_BOUND)


class ReturnScale:
    """Divides by the standard deviation of the discounted sum of what was divided: R_t = gamma R_(t-1) + x_t.

    One sum per environment, which goes on across episodes; the sums of 0 at the beginning count, so that the first
    bonus has something to be compared with.
    Source: Burda et al. 2018, section 2.4. https://arxiv.org/abs/1810.12894
    """

    def __init__(self, num_envs: int, gamma: float) -> None:
        self._gamma = gamma
        self._sums = np.zeros(num_envs)
        self._moments = RunningMoments(())
        self._moments.update(self._sums)

    def __call__(self, values: Array) -> Array:
        """Take in values (N,), return them on the new scale."""
        self._sums = self._gamma * self._sums + values
        self._moments.update(self._sums)
        return np.asarray(values / max(math.sqrt(self._moments.var), 1e-12))

    def state_dict(self) -> State:
        """Sums and moments."""
        return {"sums": self._sums.copy(), "moments": self._moments.state_dict()}

    def load_state_dict(self, state: State) -> None:
        """Restore the state."""
        self._sums = np.array(state["sums"], np.float64)
        self._moments.load_state_dict(state["moments"])


class Gathered:
    """Rows in the order they came, handed out in batches of one size."""

    def __init__(self, size: int, *widths: int) -> None:
        """Each row has a part of every one of `widths`."""
        self._parts = [np.zeros((size, width), np.float32) for width in widths]
        self._size, self._count = size, 0

    def add(self, *parts: Array) -> Iterator[tuple[Array, ...]]:
        """Take in parts (n, width) of n rows. Yields each full batch, to be used before the next is asked for."""
        taken, total = 0, len(parts[0])
        while taken < total:
            rows = min(total - taken, self._size - self._count)
            for memory, part in zip(self._parts, parts, strict=True):
                memory[self._count : self._count + rows] = part[taken : taken + rows]
            taken, self._count = taken + rows, self._count + rows
            if self._count == self._size:
                self._count = 0
                yield tuple(self._parts)

    def state_dict(self) -> State:
        """The rows that wait."""
        return {"parts": [part[: self._count].copy() for part in self._parts], "count": self._count}

    def load_state_dict(self, state: State) -> None:
        """Restore the rows."""
        self._count = int(state["count"])
        for memory, part in zip(self._parts, state["parts"], strict=True):
            memory[: self._count] = part


class LearntNetwork(FusedMLP):
    """A perceptron with the Adam that moves it."""

    def __init__(self, plan: Blueprint, learning_rate: float) -> None:
        super().__init__(plan)
        self._learning_rate = learning_rate
        self._optimizer = Adam(self.parameters)

    def step(self, at: int) -> None:
        """Move against the gradient. Raises Diverged where it is not finite; `at` is the environment step."""
        descend(self._optimizer, self.gradient, self._learning_rate, None, at, "the bonus's learning_rate")

    def state_dict(self) -> State:
        """Parameters and moments."""
        return network_state(self) | {"optimizer": self._optimizer.state_dict()}

    def load_state_dict(self, state: State) -> None:
        """Restore the state."""
        load_network_state(self, state)
        self._optimizer.load_state_dict(state["optimizer"])


class LearntSettings(BonusSettings):
    """What every bonus with a network has."""

    hidden_sizes: HiddenSizes = (64, 64)
    """Units of each hidden layer, of every network."""
    features: int = Field(default=32, ge=1)
    """Numbers that an observation is turned into."""
    activation: Literal["relu", "tanh"] = "relu"
    """Of every hidden layer."""
    learning_rate: float = Field(default=1e-3, gt=0)
    """Step size of Adam."""
    batch_size: int = Field(default=64, ge=1)
    """Environment steps that are gathered for one gradient step."""


class LearntBonus(Bonus):
    """A bonus whose networks learn from batches of what was seen, and which says how well."""

    def __init__(self, config: LearntSettings, spec: EnvSpec) -> None:
        super().__init__(config, spec)
        self.encode = Encoder(spec.observation_space)
        self.white = whitener(self.encode.size)
        self.losses: dict[str, float] = {}  # of the latest batch

    def metrics(self) -> Metrics:
        """The scale, where it changes, and the losses of the latest batch."""
        return super().metrics() | self.losses

    def state_dict(self) -> State:
        """Steps, moments of the observations, latest losses."""
        return super().state_dict() | {"white": self.white.state_dict(), "losses": dict(self.losses)}

    def load_state_dict(self, state: State) -> None:
        """Restore the state."""
        super().load_state_dict(state)
        self.white.load_state_dict(state["white"])
        self.losses = dict(state["losses"])
