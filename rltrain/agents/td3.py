"""Twin delayed deterministic policy gradient: DDPG without its taste for values that are too high.

    a' = clip(mu_target(s') + clip(sigma N(0, 1), -c, c), -1, 1)       target policy smoothing
    y = r + gamma min(Q1_target(s', a'), Q2_target(s', a'))            twin critics; 0 beyond a terminal state
    both critics: minimise  (Q(s, a) - y)^2 / 2;   every `policy_delay` steps actor: maximise  Q1(s, mu(s)), and the
    targets move: target = tau * network + (1 - tau) * target

Source: Fujimoto, van Hoof and Meger 2018, algorithm 1. https://arxiv.org/abs/1802.09477

Differences from the paper: batches of 256 in place of 100, as in the authors' later code; actions are uniform until
learning starts, whose default of 100 steps is less than the authors' 1,000 or 10,000.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from pydantic import Field

from rltrain.agents.ddpg import DDPG, DDPGSettings
from rltrain.core import Array, EnvSpec
from rltrain.nn.arrays import Tensor


class TD3Settings(DDPGSettings):
    """Settings of the twin delayed deterministic policy gradient."""

    policy_delay: int = Field(default=2, ge=1)
    """Gradient steps of the critics for one of the actor and of the targets."""
    target_policy_noise: float = Field(default=0.2, ge=0)
    """Standard deviation of the noise on the target actor's actions; 1 is half the range of an action."""
    target_noise_clip: float = Field(default=0.5, ge=0)
    """Greatest size of that noise."""

    @property
    def critics(self) -> int:
        """Twins."""
        return 2

    def notes(self, spec: EnvSpec) -> Iterator[str]:
        """A limit of a noise that is not there, too."""
        yield from super().notes(spec)
        if self.target_policy_noise == 0 and any(self.changed("target_noise_clip")):
            yield "agent.target_noise_clip does nothing where target_policy_noise is 0"


class TD3(DDPG):
    """DDPG with twin critics, smoothed targets and an actor that learns less often."""

    Config = TD3Settings
    _config: Any

    @property
    def policy_delay(self) -> int:
        """Gradient steps of the critics for one of the actor and of the targets."""
        return int(self._config.policy_delay)

    def _noise(self, rows: int) -> Array:
        """Of the target actor's actions (rows, D)."""
        config = self._config
        noise = self._rng.standard_normal((rows, self.box.size), np.float32) * np.float32(config.target_policy_noise)
        return noise.clip(-config.target_noise_clip, config.target_noise_clip)

    def _next_action(self, next_obs: Tensor, noise: Tensor) -> Tensor:
        """The target actor's actions (B, D) for the states reached, with noise."""
        return (super()._next_action(next_obs, noise) + noise).clip(-1, 1)
