"""What agents share that learn from replay: settings, memory, and when to learn.

Legend: N environments, B batch, I numbers of an encoded observation.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from functools import cached_property
from typing import Any, ClassVar

import gymnasium as gym
import numpy as np
from pydantic import Field, model_validator

from rltrain.core import Batch, EnvSpec, Metrics, Problem, State, Transition
from rltrain.encoding import Encoder, NormalizingEncoder, in_words, is_image, vector_problem
from rltrain.memory import WORTH_TELLING
from rltrain.nn.arrays import Tensor, to_numpy
from rltrain.nn.blueprint import Activation
from rltrain.nn.size import FOLLOWED, size_problems
from rltrain.priorities import PrioritySettings
from rltrain.replay import ReplayBuffer, memory_problem, required_bytes
from rltrain.schedules import Constant, LearningRate
from rltrain.settings import HiddenSizes, Settings


class OffPolicySettings(Settings):
    """Settings that every agent with replay has; steps are environment steps, summed over all environments."""

    sees_images: ClassVar[bool] = False
    """Whether the agent's networks may have convolutions."""

    learning_rate: LearningRate = Constant(value=1e-4)
    """A number, or a schedule of environment steps."""
    hidden_sizes: HiddenSizes = (64, 64)
    """Units of each hidden layer."""
    activation: Activation = "relu"
    """relu and tanh run fused in NumPy; the others through torch."""
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
    prioritized: PrioritySettings | None = None
    """Replay what surprised more often; `{}` takes the paper's settings, but a `beta` that stays at 0.4."""
    train_freq: int = Field(default=4, ge=1)
    """Steps between blocks of gradient steps; with more environments than this, after every step of theirs."""
    gradient_steps: int = Field(default=1, ge=-1)
    """Gradient steps per block; -1 for as many as steps were taken since the last block was due."""
    normalize_observation: bool = False
    """Numbers with mean 0 and variance 1, by the statistics of all that was seen so far, in replay too; cut to +-10."""
    tau: float = Field(default=1.0, gt=0, le=1)
    """Share of a network in an update of its target: target = tau * network + (1 - tau) * target."""
    max_grad_norm: float | None = Field(default=None, gt=0)
    """Greatest norm of a network's gradient; null for no clipping."""
    adam_eps: float = Field(default=1e-8, gt=0)
    """Added to the root of Adam's second moment."""

    @model_validator(mode="after")
    def _can_learn(self) -> OffPolicySettings:
        if self.batch_size > self.buffer_size:
            raise ValueError(f"batch_size {self.batch_size:,} is larger than buffer_size {self.buffer_size:,}")
        if self.gradient_steps == 0:
            raise ValueError("gradient_steps 0 would never learn: use 1 or more, or -1")
        return self

    def problems(self, config: Any, spec: EnvSpec) -> Iterator[Problem]:
        """What does not fit the environment, the run's length or the machine."""
        if problem := vector_problem(config.agent.name, spec, images=self.sees_images):
            yield Problem("agent.name", problem)
        if self.normalize_observation and not _numbers(spec.observation_space):
            why = f"is for a Box of numbers, not for {in_words(spec.observation_space)}: leave it out"
            yield Problem("agent.normalize_observation", why)
        total, every = config.train.total_steps, self.train_freq
        if self.learning_starts >= total:
            yield Problem(
                "agent.learning_starts",
                f"{self.learning_starts:,} steps before the first gradient step leave nothing of {total:,} total steps",
            )
        elif total // every * every < max(self.learning_starts, 1):
            yield Problem(
                "agent.train_freq",
                f"no multiple of {every:,} lies between {self.learning_starts:,} steps, where learning starts, and "
                f"{total:,} total steps, so nothing would be learnt: lower it",
            )
        if problem := memory_problem(self.buffer_size, spec, self.n_step, prioritized=self.prioritized is not None):
            yield Problem("agent.buffer_size", problem)
        yield from size_problems(config, spec)

    @property
    def numbers_kept(self) -> int:
        """For each parameter of one network, in all networks together."""
        return FOLLOWED

    def notes(self, spec: EnvSpec) -> Iterator[str]:
        """How much memory replay takes, where that is much; and gradient steps that are fewer than they seem."""
        need = required_bytes(self.buffer_size, spec, self.n_step, prioritized=self.prioritized is not None)
        if need > WORTH_TELLING:
            yield f"replay of {self.buffer_size:,} transitions takes {need / 2**30:.1f} GiB when it is full"
        if self.prioritized is not None and self.prioritized.alpha == 0:
            yield "agent.prioritized.alpha is 0: rows are drawn uniformly, and weighed alike"
        if spec.num_envs > self.train_freq and "gradient_steps" not in self.model_fields_set:
            yield (
                f"{spec.num_envs} environments step at once: one gradient step in {spec.num_envs} steps, not in "
                f"{self.train_freq} (agent.train_freq); agent.gradient_steps makes it more, -1 one for every step"
            )

    def gradient_steps_of(self, total_steps: int, num_envs: int) -> int:
        """About how many gradient steps a run takes."""
        every = max(self.train_freq, num_envs)
        blocks = max(total_steps - self.learning_starts, 0) // every
        return blocks * (every if self.gradient_steps == -1 else self.gradient_steps)


def _numbers(space: gym.Space[Any]) -> bool:
    return isinstance(space, gym.spaces.Box) and not is_image(space)


class OffPolicyAgent(ABC):
    """Keeps every step in replay and learns from batches of it, as soon as `learning_starts` steps are there."""

    Config: type[OffPolicySettings]
    learns_with: ClassVar[tuple[str, ...]] = ("replay",)
    replays: ClassVar[bool] = True

    def __init__(self, config: Any, spec: EnvSpec, *, rng: np.random.Generator) -> None:
        self._init_rng, self._replay_rng, self._rng = rng.spawn(3)
        self._config = config
        self._encode = self._encoder(spec.observation_space)
        self._spec = spec
        self._first = np.ones(spec.num_envs, bool)  # an episode begins here
        self.block = 32 if config.prioritized is None else 1  # gradient steps whose batches are drawn together, at most
        self._steps = 0  # environment steps observed
        self._trained_at = 0  # environment step at which gradient steps were last due

    def _encoder(self, space: gym.Space[Any]) -> Encoder:
        if not self._config.normalize_observation:
            return Encoder(space, images=self.Config.sees_images)
        assert isinstance(space, gym.spaces.Box)
        return NormalizingEncoder(space)

    @cached_property
    def replay(self) -> ReplayBuffer:
        """Made at its first use: a policy that only acts needs no memory for it."""
        config = self._config
        return ReplayBuffer(
            config.buffer_size,
            self._spec,
            gamma=config.gamma,
            n_step=config.n_step,
            prioritized=config.prioritized,
            rng=self._replay_rng,
        )

    def _sample(self, rows: int) -> Batch:
        """Rows from replay, drawn by their priorities where they have such."""
        prioritized = self._config.prioritized
        return self.replay.sample(rows, beta=1.0 if prioritized is None else prioritized.beta(self._steps))

    def _prioritize(self, batch: Batch, error: Tensor) -> None:
        """Remember how much the rows of a batch surprised, by their errors (B * K,) or (B, K), K for each row."""
        if self._config.prioritized is not None:
            self.replay.update_priorities(batch.indices, to_numpy(abs(error)).reshape(len(batch.indices), -1).mean(1))

    def observe(self, transition: Transition) -> None:
        """Store the step for replay."""
        self.replay.add(transition)
        if isinstance(self._encode, NormalizingEncoder):
            self._encode.update(np.concatenate((transition.obs[self._first], transition.next_obs)))
        self._first = transition.terminated | transition.truncated
        self._steps += len(transition.reward)

    def update(self) -> Metrics:
        """Gradient steps, when a multiple of `train_freq` steps has been reached since the last."""
        config, since = self._config, self._steps - self._trained_at
        if self._steps // config.train_freq == self._trained_at // config.train_freq:
            return {}
        self._trained_at = self._steps
        if self._steps < config.learning_starts or not len(self.replay):
            return {}  # what was only collected is not made up for
        left = since if config.gradient_steps == -1 else config.gradient_steps
        while left:
            block = min(left, self.block)
            metrics = self._gradient_steps(block)
            left -= block
        return metrics

    @abstractmethod
    def _gradient_steps(self, count: int) -> Metrics:
        """So many gradient steps, a batch each; the metrics of the last."""

    def abandon(self, env: int) -> None:
        """Give up the steps that wait for their n-step return."""
        self.replay.abandon(env)
        self._first[env] = True

    def state_dict(self) -> State:
        """Replay, counters and generator."""
        return {
            "replay": self.replay.state_dict(),
            "rng": self._rng.bit_generator.state,
            "first": self._first.copy(),
            "steps": self._steps,
            "trained_at": self._trained_at,
            **({"seen": self._encode.moments.state_dict()} if isinstance(self._encode, NormalizingEncoder) else {}),
        }

    def load_state_dict(self, state: State) -> None:
        """Restore the state."""
        if "replay" in state:
            self.replay.load_state_dict(state["replay"])
        self._rng.bit_generator.state = state["rng"]
        self._first = np.array(state["first"])
        self._steps = state["steps"]
        self._trained_at = state["trained_at"]
        if isinstance(self._encode, NormalizingEncoder):
            self._encode.moments.load_state_dict(state["seen"])
