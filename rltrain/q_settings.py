"""Settings that every deep Q-network has, and what of them does not fit together."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar, Self

import gymnasium as gym
from pydantic import Field, model_validator

from rltrain.core import EnvSpec, Problem
from rltrain.encoding import in_words, is_image
from rltrain.hashing import HashSettings
from rltrain.nn.losses import LossKind
from rltrain.nn.size import FOLLOWED, LEARNT
from rltrain.nn.torso import EncoderName, encoder_problem, units_note
from rltrain.off_policy import OffPolicySettings
from rltrain.registry import find
from rltrain.settings import HiddenSizes, Settings


class MunchausenSettings(Settings):
    """Rewards for what the policy would do anyway, and a soft policy after; the defaults are the paper's."""

    alpha: float = Field(default=0.9, ge=0, le=1)
    """Share of the log-probability of the action taken that is added to the reward."""
    temperature: float = Field(default=0.03, gt=0)
    """Of the policy softmax(Q / temperature), in units of the return."""
    floor: float = Field(default=-1.0, lt=0)
    """The least that temperature * log-probability counts."""


class QSettings(Settings):
    """Settings of every deep Q-network: what it is, and how it explores."""

    hidden_sizes: HiddenSizes = (64, 64)
    """Units of each hidden layer."""
    encoder: EncoderName = "auto"
    """Images: the convolutions before the hidden layers, which all heads share; auto takes nature for screens."""
    layer_norm: bool = False
    """Layer normalisation, with neither gain nor bias, before every activation, of convolutions too."""
    dueling: bool = False
    """Learn V(s) and advantages apart."""
    loss: LossKind = "huber"
    """Of the TD error: huber is linear beyond 1, mse is half its square."""
    heads: int = Field(default=1, ge=1, le=100)
    """Networks of an ensemble, each with its own weights and targets; `thompson` follows one of them per episode."""
    prior_scale: float = Field(default=0.0, ge=0)
    """Weight of a random network that never learns, added to each head: where nothing was learnt, heads differ."""
    noisy: bool = False
    """Explore by noise in the weights, whose size is learnt, in place of an `exploration`.

    Actions are uniform during the first `learning_starts` steps, where an agent has such.
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

    explores_by: ClassVar[str] = "explores by its noisy weights"
    per_parameter: ClassVar[int] = LEARNT

    @property
    def explores_with(self) -> str | None:
        """A selector, unless the noise explores."""
        return None if self.noisy else "selector"

    @property
    def offers(self) -> tuple[str, ...]:
        """What a selector may know beside the mean."""
        return (("samples", "std") if self.heads > 1 else ()) + (() if self.visits is None else ("visits",))

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if not self.noisy and any(self.changed("noisy_std")):
            raise ValueError("noisy_std is for noisy: true: leave it out")
        if self.noisy and self.heads > 1:
            raise ValueError("heads are for a selector, and a noisy network takes none: leave one of them out")
        return self

    def problems(self, config: Any, spec: EnvSpec) -> Iterator[Problem]:
        """What does not fit the environment, the run's length or the machine."""
        if not isinstance(spec.action_space, gym.spaces.Discrete):
            yield Problem(
                "agent.name", f"{config.agent.name} needs Discrete actions, {spec.id} has {in_words(spec.action_space)}"
            )
            return
        yield from super().problems(config, spec)
        if problem := encoder_problem(self.encoder, spec):
            yield Problem("agent.encoder", problem)
        if self.layer_norm and not self.hidden_sizes and not is_image(spec.observation_space):
            yield Problem(
                "agent.layer_norm", "there is no hidden layer to normalise: set hidden_sizes, or this to false"
            )
        if self.visits is not None:
            yield from self._visit_problems(config, spec, self.visits)

    @property
    def numbers_kept(self) -> int:
        """For each parameter of one head, in all heads together; a noisy one has two in its place."""
        return self.heads * (self.per_parameter * (1 + self.noisy) + (self.prior_scale > 0))

    def notes(self, spec: EnvSpec) -> Iterator[str]:
        """What a user should know of memory, and of layers that were left as they are."""
        yield from super().notes(spec)
        if "hidden_sizes" not in self.model_fields_set and (note := units_note(self.encoder, self.hidden_sizes, spec)):
            yield note

    def _visit_problems(self, config: Any, spec: EnvSpec, visits: HashSettings) -> Iterator[Problem]:
        chosen = config.exploration
        needs = () if chosen is None else getattr(find("explorations", chosen.name), "needs", ())
        if "visits" not in needs:
            yield Problem("agent.visits", "nothing reads the visits: use the exploration ucb or leave this out")
        elif self.heads > 1 and "samples" in needs:
            yield Problem("agent.visits", f"with heads {chosen.name} follows one of them and no visits: leave one out")
        yield from visits.hash_problems(spec, "agent.visits", "the counts of visits")


class DQNSettings(QSettings, OffPolicySettings):
    """Settings of the deep Q-network; steps are environment steps, summed over all environments."""

    sees_images: ClassVar[bool] = True
    per_parameter: ClassVar[int] = FOLLOWED
    target_update_interval: int = Field(default=10_000, ge=1)
    """Steps between updates of the target network, which happen before a block of gradient steps."""
    double: bool = False
    """Choose a' by the network and value it by the target network."""
    munchausen: MunchausenSettings | None = None
    """Add a scaled log-policy to rewards, and value the next state by the policy; `{}` takes the paper's settings."""
    max_grad_norm: float | None = Field(default=10.0, gt=0)
    """Greatest norm of the whole gradient; null for no clipping."""

    def problems(self, config: Any, spec: EnvSpec) -> Iterator[Problem]:
        """What does not fit the environment, the run's length or the machine."""
        yield from super().problems(config, spec)
        total, interval = config.train.total_steps, self.target_update_interval
        if interval > total:
            yield Problem(
                "agent.target_update_interval",
                f"the target network would never change in {total:,} total steps: lower it",
            )
        elif interval > self.train_freq and interval / self.tau > total:
            yield Problem(
                "agent.target_update_interval",
                f"the target, which takes {self.tau:g} (tau) of the network every {interval:,} steps, would stay far "
                f"behind in {total:,} total steps: beside a tau below 1, {self.train_freq} (train_freq) is usual",
            )


class DistributionalSettings(DQNSettings):
    """Settings of a deep Q-network that learns the distribution of the return, and has a loss of its own."""

    @model_validator(mode="after")
    def _own_loss(self) -> DistributionalSettings:
        if any(self.changed("loss")):
            raise ValueError("the loss of a distribution is its own: leave `loss` out")
        return self
