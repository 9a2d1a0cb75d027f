"""Noise on continuous actions that goes on in its direction for a while: an Ornstein-Uhlenbeck process."""

from __future__ import annotations

import numpy as np
from pydantic import Field, model_validator

from rltrain.core import Array, State
from rltrain.exploration.gaussian_noise import GaussianNoise, NoiseSettings
from rltrain.schedules import Constant, ScheduleSetting


class OUNoiseSettings(NoiseSettings):
    """The process: how strong, how fast it returns to 0, and how much of its time is one step."""

    sigma: ScheduleSetting = Constant(value=0.2)
    """Strength: a number, or a schedule of environment steps. The process wanders to about sigma / sqrt(2 theta)."""
    theta: float = Field(default=0.15, ge=0)
    """How fast it returns to 0, per unit of its time; 0 for Brownian motion."""
    dt: float = Field(default=0.01, gt=0)
    """Units of its time per step: what it is now is forgotten after about 1 / (theta dt) steps."""

    @model_validator(mode="after")
    def _returns(self) -> OUNoiseSettings:
        if self.theta * self.dt > 1:
            raise ValueError(f"theta * dt is {self.theta * self.dt:g}: above 1 every step leaps beyond 0")
        return self


class OUNoise(GaussianNoise):
    """a + x, cut to the box; x <- x - theta x dt + sigma(t) sqrt(dt) N(0, 1), from 0 at an episode's start.

    Each environment and dimension has an x of its own. After many steps its variance is sigma^2 dt / (1 - (1 - theta
    dt)^2), and the correlation of two that are k steps apart (1 - theta dt)^k.
    Source: Uhlenbeck and Ornstein 1930, https://doi.org/10.1103/PhysRev.36.823, by Euler's method; as exploration:
    Lillicrap et al. 2016, section 7, theta 0.15 and sigma 0.2. https://arxiv.org/abs/1509.02971
    """

    Config = OUNoiseSettings
    _config: OUNoiseSettings

    def __init__(self, config: OUNoiseSettings) -> None:
        super().__init__(config)
        self._x = np.zeros((0, 0), np.float32)  # (N, D)

    def _noise(self, shape: tuple[int, ...], first: Array, sigma: float, rng: np.random.Generator) -> Array:
        if self._x.shape != shape:
            self._x = np.zeros(shape, np.float32)
        theta, dt = self._config.theta, self._config.dt
        self._x[first] = 0
        self._x *= np.float32(1 - theta * dt)
        self._x += np.float32(sigma * dt**0.5) * rng.standard_normal(shape, np.float32)
        return self._x

    def state_dict(self) -> State:
        """Where every process is."""
        return {"x": self._x.copy()}

    def load_state_dict(self, state: State) -> None:
        """Restore the state."""
        self._x = np.array(state["x"], np.float32)
