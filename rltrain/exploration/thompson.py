"""Each action with the probability that it is the best: act on a draw from what is believed of the values."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any, Literal

import numpy as np
from pydantic import Field, field_validator, model_validator

from rltrain.compilable import compilable
from rltrain.core import ActionValues, Array, EnvSpec, Problem, State
from rltrain.schedules import Constant, ScheduleSetting
from rltrain.selection import RowSelector, random_best
from rltrain.settings import Settings


@compilable
def choose(q: Any, visits: Any, levels: Any, scratch: Any, rng: Any) -> int:
    """argmax_a of one draw from the Gaussian posterior of each action's value."""
    prior_mean = levels[0]
    prior_precision, noise_precision = 1.0 / (levels[1] * levels[1]), 1.0 / (levels[2] * levels[2])
    for action in range(len(q)):
        precision = prior_precision + visits[action] * noise_precision
        mean = (prior_precision * prior_mean + visits[action] * noise_precision * q[action]) / precision
        scratch[action] = mean + rng.standard_normal() / math.sqrt(precision)
    return random_best(scratch, rng)


@compilable
def posterior(mean: float, count: float, squares: float, levels: Any) -> tuple[float, float, float, float]:
    """(m, k, a, b) of the normal-inverse-gamma posterior after `count` targets with this mean and sum of squares."""
    prior_mean, spread = levels[0], levels[2] / levels[1]
    prior_count = spread * spread
    total = prior_count + count
    away = mean - prior_mean
    squares += prior_count * count / total * away * away
    rate = levels[3] * levels[2] * levels[2] + squares / 2.0
    return (prior_count * prior_mean + count * mean) / total, total, levels[3] + count / 2.0, rate


@compilable
def choose_by_moments(q: Any, moments: Any, levels: Any, scratch: Any, rng: Any) -> int:
    """argmax_a of one draw from the normal-inverse-gamma posterior of each action's value."""
    for action in range(len(q)):
        mean, count, shape, rate = posterior(q[action], moments[action][0], moments[action][1], levels)
        variance = rate / rng.standard_gamma(shape)
        scratch[action] = mean + math.sqrt(variance / count) * rng.standard_normal()
    return random_best(scratch, rng)


class Thompson(RowSelector):
    """a = argmax_a of a draw theta_a from the posterior of the mean.

    Prior N(m, p^2), observations with noise of standard deviation w, of which n(s, a) were seen and
    average to Q(s, a). `posterior: gaussian` takes w as known:

        precision = 1 / p^2 + n / w^2
        theta_a ~ N((m / p^2 + n Q / w^2) / precision, 1 / precision)

    `posterior: normal_inverse_gamma` learns w from the squared deviations M of the observations as well; w is then
    what is believed of it before, and `noise_shape` how firmly. With k = w^2 / p^2 and c = noise_shape:

        sigma^2 ~ InvGamma(c + n / 2, c w^2 + M / 2 + k n / (k + n) (Q - m)^2 / 2)
        theta_a ~ N((k m + n Q) / (k + n), sigma^2 / (k + n))

    which is the Gaussian posterior as c goes to infinity. An action without observations has Student's distribution
    with 2 c degrees of freedom around m, of scale p.

    That the table's entry is the average of n equal observations is exact for a bandit with step size 1/n
    and an approximation where Q bootstraps.

    Where the agent has an ensemble of values (`heads` of dqn), each head is a draw: one is followed for a whole
    episode, and prior and noise are not used. Source: Osband et al. 2016, https://arxiv.org/abs/1602.04621
    Source: Agrawal and Goyal 2013, https://proceedings.mlr.press/v31/agrawal13a.html; the conjugate
    posteriors: Murphy 2007, "Conjugate Bayesian analysis of the Gaussian distribution", sections 2 and 6,
    https://www.cs.ubc.ca/~murphyk/Papers/bayesGauss.pdf; over the targets of a table: Dearden, Friedman and Russell
    1998, "Bayesian Q-learning".
    """

    class Config(Settings):
        """Prior and noise, all in units of the return; numbers or schedules of environment steps."""

        posterior: Literal["gaussian", "normal_inverse_gamma"] = "gaussian"
        """gaussian: the noise is known; normal_inverse_gamma: it is learnt, for each state and action by itself."""
        prior_mean: ScheduleSetting = Constant(value=0.0)
        """What is believed of an action before it was taken."""
        prior_std: ScheduleSetting = Constant(value=1.0)
        """How uncertain that belief is."""
        noise_std: ScheduleSetting = Constant(value=1.0)
        """Standard deviation of one observation of the value; for normal_inverse_gamma what is believed of it."""
        noise_shape: float = Field(default=2.0, ge=0.5)
        """normal_inverse_gamma: how firmly noise_std is believed, as if from twice as many observations."""

        @field_validator("prior_std", "noise_std")
        @classmethod
        def _positive(cls, value: ScheduleSetting) -> ScheduleSetting:
            if value.bounds[0] <= 0:
                raise ValueError("a standard deviation must be above 0")
            return value

        @model_validator(mode="after")
        def _nothing_without_effect(self) -> Thompson.Config:
            if self.posterior == "gaussian" and any(self.changed("noise_shape")):
                raise ValueError("noise_shape is for posterior normal_inverse_gamma: leave it out")
            return self

        def problems(self, config: Any, spec: EnvSpec) -> Iterator[Problem]:
            """A posterior beside an ensemble, which is followed in its place."""
            if "samples" in config.agent.offers:
                for name in self.changed("prior_mean", "prior_std", "noise_std"):
                    yield Problem(
                        f"exploration.{name}",
                        "does nothing where the agent has heads, of which one is followed: leave it out",
                    )

    levels = ("prior_mean", "prior_std", "noise_std", "noise_shape")
    needs: tuple[str, ...] = ("visits", "samples")
    choose: Callable[..., int] = staticmethod(choose)

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        if config.posterior == "normal_inverse_gamma":
            self.needs, self.reads, self.choose = ("moments",), "moments", choose_by_moments
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
