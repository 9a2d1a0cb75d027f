"""Normal noise on continuous actions, drawn anew at every step."""

from __future__ import annotations

import numpy as np
from pydantic import field_validator

from rltrain.core import Array, Metrics, State
from rltrain.schedules import Constant, ScheduleSetting
from rltrain.settings import Settings


class NoiseSettings(Settings):
    """How strong the noise is."""

    sigma: ScheduleSetting = Constant(value=0.1)
    """Standard deviation: a number, or a schedule of environment steps; 1 is half the range of an action."""

    @field_validator("sigma")
    @classmethod
    def _not_negative(cls, value: ScheduleSetting) -> ScheduleSetting:
        if value.bounds[0] < 0:
            raise ValueError(f"sigma is a standard deviation, not {value.bounds[0]:g}")
        return value


class GaussianNoise:
    """a + sigma(t) * N(0, 1), each dimension and step by itself, cut to the box.

    Source: Fujimoto et al. 2018, algorithm 1. https://arxiv.org/abs/1802.09477
    """

    Config = NoiseSettings
    kind = "noise"

    def __init__(self, config: NoiseSettings) -> None:
        self._config = config

    def perturb(self, action: Array, first: Array, step: int, rng: np.random.Generator) -> Array:
        """Actions (N, D) within -1 and 1: those given, with noise."""
        return np.asarray((action + self._noise(action.shape, first, self._config.sigma(step), rng)).clip(-1, 1))

    def _noise(self, shape: tuple[int, ...], first: Array, sigma: float, rng: np.random.Generator) -> Array:
        """Noise (N, D) float32 of the next step."""
        return np.float32(sigma) * rng.standard_normal(shape, np.float32)

    def metrics(self, step: int) -> Metrics:
        """sigma."""
        return {"exploration/sigma": self._config.sigma(step)}

    def state_dict(self) -> State:
        """Nothing: it depends on the step alone."""
        return {}

    def load_state_dict(self, state: State) -> None:
        """Restore the state."""
