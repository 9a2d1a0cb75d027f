"""Each action as often as it may be the best: act on a draw from what is believed of the values."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from pydantic import field_validator

from rltrain.compilable import compilable
from rltrain.core import ActionValues, Array, State
from rltrain.schedules import Constant, ScheduleSetting
from rltrain.selection import RowSelector, random_best
from rltrain.settings import Settings


@compilable
def choose(q: Any, visits: Any, levels: Any, scratch: Any, rng: Any) -> int:
    """argmax_a of one draw from the posterior of each action's value."""
    prior_mean = levels[0]
    prior_precision, noise_precision = 1.0 / (levels[1] * levels[1]), 1.0 / (levels[2] * levels[2])
    for action in range(len(q)):
        precision = prior_precision + visits[action] * noise_precision
        mean = (prior_precision * prior_mean + visits[action] * noise_precision * q[action]) / precision
        scratch[action] = mean + rng.standard_normal() / math.sqrt(precision)
    return random_best(scratch, rng)


class Thompson(RowSelector):
    """a = argmax_a of a draw theta_a from the Gaussian posterior of the mean.

    Prior N(m, p^2), observations with noise of standard deviation w, of which n(s, a) were seen and
    average to Q(s, a):

        precision = 1 / p^2 + n / w^2
        theta_a ~ N((m / p^2 + n Q / w^2) / precision, 1 / precision)

    That the table's entry is the average of n equal observations is exact for a bandit with step size 1/n
    and an approximation where Q bootstraps.

    Where the agent has an ensemble of values (`heads` of dqn), each head is a draw: one is followed for a whole
    episode, and prior and noise are not used. Source: Osband et al. 2016, https://arxiv.org/abs/1602.04621
    Source: Agrawal and Goyal 2013, https://proceedings.mlr.press/v31/agrawal13a.html; the conjugate
    posterior: Murphy 2007, section 2.
    """

    class Config(Settings):
        """Prior and noise, all in units of the return; numbers or schedules of environment steps."""

        prior_mean: ScheduleSetting = Constant(value=0.0)
        """What is believed of an action before it was taken."""
        prior_std: ScheduleSetting = Constant(value=1.0)
        """How uncertain that belief is."""
        noise_std: ScheduleSetting = Constant(value=1.0)
        """Standard deviation of one observation of the value."""

        @field_validator("prior_std", "noise_std")
        @classmethod
        def _positive(cls, value: ScheduleSetting) -> ScheduleSetting:
            if value.bounds[0] <= 0:
                raise ValueError("a standard deviation must be above 0")
            return value

    levels = ("prior_mean", "prior_std", "noise_std")
    needs = ("visits", "samples")
    choose = staticmethod(choose)

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self._head = np.zeros(0, np.int64)  # (N,) the head that each environment follows

    def pick(self, values: ActionValues, step: int, rng: np.random.Generator) -> Array:
        """Actions (N,): by draws from the posterior, or the best of the head that an environment follows."""
        samples = values.samples
        if samples is None:
            return super().pick(values, step, rng)
        heads, envs, _ = samples.shape
        if len(self._head) != envs:
            self._head = rng.integers(heads, size=envs)
        elif values.first is None or values.first.any():
            fresh = rng.integers(heads, size=envs)
            self._head = fresh if values.first is None else np.where(values.first, fresh, self._head)
        return np.asarray(samples[self._head, np.arange(envs)].argmax(axis=1))

    def state_dict(self) -> State:
        """The head that each environment follows."""
        return {"head": self._head.copy()}

    def load_state_dict(self, state: State) -> None:
        """Restore the state."""
        self._head = np.array(state["head"])
