"""Always the action of the greatest value."""

from __future__ import annotations

import numpy as np

from rltrain.core import ActionValues, Array, Metrics, State
from rltrain.settings import Settings


class Greedy:
    """a = argmax_a Q(s, a); ties go to the lowest index. Explores only through optimistic values."""

    class Config(Settings):
        """No settings."""

    kind = "selector"

    def __init__(self, config: Config) -> None:
        self.config = config

    def select(self, values: ActionValues, step: int, rng: np.random.Generator) -> Array:
        """Actions (N,)."""
        return np.asarray(values.mean.argmax(axis=1))

    def metrics(self, step: int) -> Metrics:
        """Nothing changes."""
        return {}

    def state_dict(self) -> State:
        """No state."""
        return {}

    def load_state_dict(self, state: State) -> None:
        """No state."""
