"""Generalised state-dependent exploration (gSDE): noise that is a function of the state, and the same for a while.

Independent noise shakes; this goes somewhere, since equal states get equal noise until it is drawn anew. The
distribution stands in `nn/distributions.py`; here are the settings, and the noise that each environment holds.
Source: Raffin, Kober and Stulp 2022, https://arxiv.org/abs/2005.05719
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import gymnasium as gym
import numpy as np
from pydantic import Field, model_validator

from rltrain.core import Array, EnvSpec, Problem, State
from rltrain.encoding import in_words
from rltrain.nn.distributions import Distribution, StateDependentGaussian
from rltrain.rollout_agent import RolloutAgent, RolloutSettings


class SDESettings(RolloutSettings):
    """What a policy with a rollout may have beside its own settings."""

    sde: bool = False
    """Continuous actions: noise that is linear in the last hidden layer, by a matrix that is held; `log_std_init` is
    then of the matrix's elements."""
    sde_sample_freq: int = Field(default=-1, ge=-1)
    """Vector steps between draws of the matrix, counted from the beginning of a rollout; -1 for one draw a rollout."""

    @model_validator(mode="after")
    def _sde_is_complete(self) -> SDESettings:
        if self.sde_sample_freq == 0:
            raise ValueError("sde_sample_freq 0 would never draw: use 1 or more, or -1")
        if not self.sde and any(self.changed("sde_sample_freq")):
            raise ValueError("sde_sample_freq does nothing without sde: true")
        if self.sde and not self.hidden_sizes:
            raise ValueError("sde takes its noise from the last hidden layer: hidden_sizes needs one")
        if self.sde and self.state_dependent_std:
            raise ValueError("sde has a standard deviation of its own: leave state_dependent_std out")
        return self

    def problems(self, config: Any, spec: EnvSpec) -> Iterator[Problem]:
        """What does not fit the environment."""
        yield from super().problems(config, spec)
        if self.sde and not isinstance(spec.action_space, gym.spaces.Box):
            yield Problem(
                "agent.sde", f"sde is for continuous actions, not for {in_words(spec.action_space)}: leave it out"
            )

    def distribution(self, space: gym.Space[Any]) -> Distribution:
        """The family of distributions over this action space."""
        if not self.sde:
            return super().distribution(space)
        assert isinstance(space, gym.spaces.Box)
        features = self.hidden_sizes[-1]
        return StateDependentGaussian(space, log_std=self.log_std_init, features=features, squash=self.squash)


class SDERolloutAgent(RolloutAgent):
    """Learns from rollouts, and may hold its noise while it collects them."""

    Config: type[SDESettings]

    def __init__(self, config: Any, spec: EnvSpec, *, exploration: None, rng: np.random.Generator, device: str) -> None:
        super().__init__(config, spec, exploration=exploration, rng=rng, device=device)
        self._noise = np.zeros((spec.num_envs, 0, 0), np.float32)  # (N, F, D) the matrix of every environment

    def _draw(self, outputs: Array) -> Array:
        """Choices (N, C) for the policy's outputs."""
        policy, every = self.policy, self._config.sde_sample_freq
        if not isinstance(policy, StateDependentGaussian):
            return super()._draw(outputs)
        if self.rollout.steps % (self.rollout_steps if every == -1 else every) == 0:
            self._noise = self._team.part(policy.draw(self._team.spread(outputs), self._rng))
        return policy.held(outputs, self._noise)

    def state_dict(self) -> State:
        """As every agent's with a rollout, and the noise that is held; how old it is follows from the rollout."""
        return super().state_dict() | {"noise": self._noise.copy()}

    def load_state_dict(self, state: State) -> None:
        """Restore the state."""
        super().load_state_dict(state)
        self._noise = np.array(state["noise"], np.float32)
