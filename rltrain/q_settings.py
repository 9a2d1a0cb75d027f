"""Settings that every deep Q-network has, and what of them does not fit together."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

import gymnasium as gym
from pydantic import Field, model_validator

from rltrain.core import EnvSpec, Problem
from rltrain.encoding import vector_problem
from rltrain.hashing import HashSettings
from rltrain.nn.losses import LossKind
from rltrain.nn.networks import Activation
from rltrain.registry import find
from rltrain.replay import memory_problem
from rltrain.schedules import Constant, ScheduleSetting
from rltrain.settings import Settings


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

    noisy: bool = False
    """Explore by noise in the weights, whose size is learnt, in place of an `exploration`.

    The first `learning_starts` actions are uniform.
    """
    noisy_std: float = Field(default=0.5, gt=0)
    """noisy: how large the noise begins, times 1 / sqrt(inputs of the layer); 0.5 is the paper's."""
    visits: HashSettings | None = None
    """Count how often each action was taken in observations of the same hash, for `ucb` and `thompson`."""

    remedies: ClassVar[dict[str, dict[str, Any]]] = {
        "visits": {"visits": "{hash: simhash}"},
        "samples": {"heads": 10},
        "std": {"heads": 10},
    }

    @property
    def explores_with(self) -> str | None:
        """A selector, unless the noise explores."""
        return None if self.noisy else "selector"

    @property
    def offers(self) -> tuple[str, ...]:
        """What a selector may know beside the mean."""
        return (("samples", "std") if self.heads > 1 else ()) + (() if self.visits is None else ("visits",))

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
        if not self.noisy and self.noisy_std != type(self).model_fields["noisy_std"].default:
            raise ValueError("noisy_std is for noisy: true: leave it out")
        if self.noisy and self.heads > 1:
            raise ValueError("heads are for a selector, and a noisy network takes none: leave one of them out")
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
        if self.visits is not None:
            yield from self._visit_problems(config, spec, self.visits)

    def _visit_problems(self, config: Any, spec: EnvSpec, visits: HashSettings) -> Iterator[Problem]:
        chosen = config.exploration
        if chosen is None or "visits" not in getattr(find("explorations", chosen.name), "needs", ()):
            yield Problem("agent.visits", "nothing reads the visits: use the exploration ucb or leave this out")
        yield from visits.hash_problems(spec, "agent.visits", "the counts of visits")

    def gradient_steps_of(self, total_steps: int, num_envs: int) -> int:
        """About how many gradient steps a run takes."""
        blocks = max(total_steps - self.learning_starts, 0) // max(self.train_freq, num_envs)
        return blocks * (max(self.train_freq, num_envs) if self.gradient_steps == -1 else self.gradient_steps)
