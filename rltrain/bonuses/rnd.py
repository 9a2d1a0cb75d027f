"""A reward for what a network cannot predict yet: the features of a second, random network."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from pydantic import Field

from rltrain.core import Array, EnvSpec, Problem, State, Transition
from rltrain.encoding import vector_problem
from rltrain.intrinsic import Gathered, LearntBonus, LearntNetwork, LearntSettings, ReturnScale
from rltrain.nn.blueprint import blueprint
from rltrain.nn.fused import FusedMLP
from rltrain.nn.networks import load_network_state, network_state
from rltrain.schedules import Constant, ScheduleSetting


class RNDSettings(LearntSettings):
    """The two networks, and how the bonus is normalised."""

    scale: ScheduleSetting = Constant(value=1.0)
    """What the normalised error is multiplied by: a number, or a schedule of environment steps.

    The bonuses of about 1 / (1 - gamma) steps, together, differ by about 1: multiply by how much returns of the reward
    do, or bring that to 1 with the wrapper normalize_reward.
    """
    gamma: float = Field(default=0.99, ge=0, lt=1)
    """Discount of the sum of bonuses whose standard deviation divides them."""
    learning_rate: float = Field(default=1e-4, gt=0)
    """Step size of Adam, the paper's. With ten times as much, what novelty pays is over before a policy can use it."""

    def problems(self, config: Any, spec: EnvSpec) -> Iterator[Problem]:
        """Networks take vectors; the pixels of an image are one."""
        if problem := vector_problem("rnd", spec, images=True):
            yield Problem("bonuses", problem)


class RND(LearntBonus):
    """novelty = mean_i (f_i(s') - g_i(s'))^2 / std, with g random and fixed, and f learnt on what was seen.

    s' is whitened by the moments of everything seen so far, this step included, and cut to +-5. std is that of the
    discounted sum of the errors, which goes on across episodes. Every `batch_size` environment steps f takes one step
    of Adam on them. Here the moments begin with the first step, not with a random agent's.
    Source: Burda et al. 2018, "Exploration by Random Network Distillation". https://arxiv.org/abs/1810.12894
    """

    Config = RNDSettings

    def __init__(self, config: RNDSettings, spec: EnvSpec, *, rng: np.random.Generator) -> None:
        super().__init__(config, spec)
        sizes = (self.encode.size, *config.hidden_sizes, config.features)
        target, predictor = (blueprint(sizes, config.activation, rng, init="orthogonal") for _ in range(2))
        self.target = FusedMLP(target)
        self.predictor = LearntNetwork(predictor, config.learning_rate)
        self._gathered = Gathered(config.batch_size, self.encode.size)
        self._normal = ReturnScale(spec.num_envs, config.gamma)

    def novelty(self, transition: Transition) -> Array:
        """Normalised prediction errors (N,); learns from the observations afterwards."""
        encoded = self.encode(transition.next_obs)
        self.white.update(encoded)
        x = self.white(encoded)
        errors = self.errors(x)
        for (batch,) in self._gathered.add(x):
            self._learn(batch)
        return self._normal(errors)

    def errors(self, x: Array) -> Array:
        """mean_i (f_i(x) - g_i(x))^2 (N,) of whitened observations (N, D)."""
        difference = self.predictor.evaluate(x) - self.target.evaluate(x)
        return np.asarray((difference * difference).mean(1))

    def _learn(self, x: Array) -> None:
        """One step on the mean error of a batch (B, D)."""
        self.losses["loss"] = self.predictor.learn(_squared_error, x, self.target.evaluate(x))
        self.predictor.step(self.steps)

    def state_dict(self) -> State:
        """Networks, moments, the observations that wait, and the discounted sums."""
        return super().state_dict() | {
            "predictor": self.predictor.state_dict(),
            "target": network_state(self.target),
            "gathered": self._gathered.state_dict(),
            "normal": self._normal.state_dict(),
        }

    def load_state_dict(self, state: State) -> None:
        """Restore the state."""
        super().load_state_dict(state)
        self.predictor.load_state_dict(state["predictor"])
        load_network_state(self.target, state["target"])
        self._gathered.load_state_dict(state["gathered"])
        self._normal.load_state_dict(state["normal"])


def _squared_error(outputs: Array, target: Array) -> tuple[Array, float]:
    """Gradient at the outputs (B, F) of L = mean (outputs - target)^2, and L."""
    difference = outputs - target
    return difference * (2 / difference.size), float((difference * difference).mean())
