"""Value iteration: plans with the true model, and gives the exact values that the learners are measured by.

    V(s) = max_a sum_s' p(s', r | s, a) (r + gamma V(s'))      (0 beyond a terminal state)

One sweep over all states at each step of all environments together, until no value changes by more than `tolerance`.
What is experienced does not matter; acts greedily on what it has planned so far.
Source: Bellman 1957; Sutton and Barto 2018, section 4.4.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

import gymnasium as gym
import numpy as np
from pydantic import Field

from rltrain.core import ActionSelector, Array, EnvSpec, Metrics, Problem, State, Transition
from rltrain.mdp import backup
from rltrain.settings import Settings
from rltrain.tabular import table_problems


class PlannerSettings(Settings):
    """Settings of a planner."""

    explores_with: ClassVar[None] = None
    offers: ClassVar[tuple[str, ...]] = ()
    learns_from_reward: ClassVar[bool] = False

    gamma: float = Field(default=0.99, ge=0, le=1)
    """Discount per step."""
    tolerance: float = Field(default=1e-10, gt=0)
    """Planning is over when a sweep changes no value by more than this share of the greatest one (or of 1)."""

    def problems(self, config: Any, spec: EnvSpec) -> Iterator[Problem]:
        """A planner needs the model."""
        found = list(table_problems(config.agent.name, spec))
        yield from found
        if not found and spec.model is None:
            yield Problem(
                "agent.name",
                f"{config.agent.name} plans with the environment's model (env.unwrapped.P), which {spec.id} does not "
                "offer as it is configured: use a learner, such as q_learning or dyna_q",
            )


class ValueIteration:
    """Dynamic programming, one sweep a step."""

    Config = PlannerSettings
    networks = ()

    def __init__(
        self,
        config: PlannerSettings,
        spec: EnvSpec,
        *,
        exploration: ActionSelector | None,
        rng: np.random.Generator,
        device: str,
    ) -> None:
        assert spec.model is not None
        assert isinstance(spec.observation_space, gym.spaces.Discrete)
        assert isinstance(spec.action_space, gym.spaces.Discrete)
        self.config = config
        self.model = spec.model
        self.first_state, self.first_action = int(spec.observation_space.start), int(spec.action_space.start)
        self.q = np.zeros((self.model.states, self.model.actions))
        self.sweeps = 0
        self.residual = float("inf")  # greatest change of a value in the last sweep

    def act(self, obs: Array, *, explore: bool = True) -> Array:
        """Greedy actions (N,) for observations (N,), ties to the lowest index."""
        return np.asarray(self.q[obs - self.first_state].argmax(axis=1) + self.first_action)

    def values(self, obs: Array) -> Array:
        """Q(s, a), (N, A)."""
        return np.asarray(self.q[obs - self.first_state])

    def observe(self, transition: Transition) -> None:
        """Experience teaches nothing to who knows the model."""

    def update(self) -> Metrics:
        """One sweep, unless planning is over."""
        if self.residual <= self.config.tolerance * max(1.0, float(np.abs(self.q).max())):
            return {}
        before = self.q.max(axis=1)
        self.q = self.sweep()
        self.sweeps += 1
        self.residual = float(np.abs(self.q.max(axis=1) - before).max())
        return {"planning/sweeps": self.sweeps, "planning/residual": self.residual}

    def sweep(self) -> Array:
        """Q (S, A) after one more sweep."""
        return backup(self.model, self.q.max(axis=1), self.config.gamma)

    def abandon(self, env: int) -> None:
        """No episode matters."""

    def state_dict(self) -> State:
        """What was planned so far."""
        return {"q": self.q.copy(), "sweeps": self.sweeps, "residual": self.residual}

    def load_state_dict(self, state: State) -> None:
        """Restore the state."""
        self.q = np.array(state["q"])
        self.sweeps, self.residual = state["sweeps"], state["residual"]
