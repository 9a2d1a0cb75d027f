"""Exact evaluation: what a policy is worth where the environment is known completely, without sampling."""

from __future__ import annotations

from dataclasses import fields
from functools import lru_cache

import numpy as np

from rltrain.core import Array
from rltrain.mdp import (
    Model,
    finite_horizon_optimum,
    finite_horizon_value,
    greedy_policy,
    one_hot,
    policy_iteration,
    reachable,
    uniform_policy,
    value_iteration,
)

GAMMAS = (0.9, 0.95, 0.99, 0.999)
"""Discounts whose greedy policies compete, beside the agent's own, for the best stationary policy."""
TIE = 1e-9
"""Actions whose values differ by less than this share of the best value above 1 are equally good."""
MAX_SWEEPS = 100_000
"""Sweeps after which value iteration is taken not to converge, as it may with gamma 1."""


class ExactEvaluator:
    """Figures of a greedy policy, computed from the model.

    Returns are undiscounted sums of what the environment pays, in expectation over the first state and all that
    follows, and are cut off at the step limit of an evaluation episode:

    * `exact_return`: of the policy.
    * `optimal_return`: of the best among the greedy policies of value iteration with the agent's gamma (if below 1)
      and with 0.9, 0.95, 0.99 and 0.999. Discounting finds good policies for a step limit but not always the best.
    * `time_aware_return`: of the best policy that sees how many steps are left. No agent that does not can beat it.
    * `random_return`: of actions chosen uniformly.
    * `percent_of_optimal`: 0 is random, 100 is `optimal_return`; 100 where the latter is no better than random.
    * `regret`: `optimal_return - exact_return`.

    With the agent's gamma and no step limit, over the states in which an action can ever be taken:

    * `optimal_action_share`: share of them in which the policy's action is optimal; of equally good ones all are.
    * `value_error`: max |max_a q(s, a) - V*(s)| for the agent's q.

    These two are left out where gamma is 1 and the optimum is not finite, and `value_error` where there is no q.
    """

    def __init__(self, model: Model, *, gamma: float, horizon: int) -> None:
        """Compute all that does not depend on the policy.

        Args:
            model: The environment.
            gamma: The agent's discount.
            horizon: Step limit of an evaluation episode.
        """
        same = _Same(model)
        self._model, self._horizon = model, horizon
        self._reachable = reachable(model)
        self._q = _optimal_q(model, gamma)
        self._random = self._value(uniform_policy(model))
        competing = dict.fromkeys((*GAMMAS, gamma) if gamma < 1 else GAMMAS)
        self._optimal = max(_greedy_return(same, each, horizon) for each in competing)
        self._time_aware = _time_aware_return(same, horizon)

    def __call__(self, policy: Array, q: Array | None = None) -> dict[str, float]:
        """Figures of a policy.

        Args:
            policy: (S,) the action in each state.
            q: (S, A) the agent's action values, if it has any.
        """
        exact = self._value(one_hot(policy, self._model.actions))
        figures = {
            "exact_return": exact,
            "optimal_return": self._optimal,
            "time_aware_return": self._time_aware,
            "random_return": self._random,
            "percent_of_optimal": self._percent(exact),
            "regret": self._optimal - exact,
        }
        return figures if self._q is None else figures | self._against(self._q, policy, q)

    def _value(self, policy: Array) -> float:
        return _return(self._model, policy, self._horizon)

    def _percent(self, exact: float) -> float:
        span = self._optimal - self._random
        if span <= TIE * max(1.0, abs(self._optimal)):  # a difference of rounding is none
            return 100.0
        return 100 * ((exact - self._random) / span)

    def _against(self, best_q: Array, policy: Array, q: Array | None) -> dict[str, float]:
        """Comparison with Q* (S, A)."""
        best = best_q.max(1)
        chosen = best_q[np.arange(len(policy)), policy]
        optimal = best - chosen <= TIE * np.maximum(1, np.abs(best))
        figures = {"optimal_action_share": float(optimal[self._reachable].mean())}
        if q is not None:
            figures["value_error"] = float(np.abs(q.max(1) - best)[self._reachable].max())
        return figures


class _Same:
    """A model as a key: equal to another where every number is. A process that trains many runs solves it once."""

    def __init__(self, model: Model) -> None:
        self.model = model
        arrays = [getattr(model, field.name) for field in fields(model)]
        self._content = tuple((array.shape, array.dtype.str, array.tobytes()) for array in arrays)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and self._content == other._content

    def __hash__(self) -> int:
        return hash(self._content)


def _return(model: Model, policy: Array, horizon: int) -> float:
    return float(model.start @ finite_horizon_value(model, policy, horizon))


@lru_cache(maxsize=16)
def _greedy_return(same: _Same, gamma: float, horizon: int) -> float:
    """Of the greedy policy of value iteration with a discount."""
    policy = greedy_policy(value_iteration(same.model, gamma, max_sweeps=MAX_SWEEPS)[0])
    return _return(same.model, policy, horizon)


@lru_cache(maxsize=16)
def _time_aware_return(same: _Same, horizon: int) -> float:
    return float(same.model.start @ finite_horizon_optimum(same.model, horizon))


def _optimal_q(model: Model, gamma: float) -> Array | None:
    """Q* (S, A), closer than `TIE`; None where it is not finite."""
    if gamma < 1:
        return policy_iteration(model, gamma)[0]
    # far below TIE, because without discount the error left may be many times the last change
    q, sweeps = value_iteration(model, 1.0, tolerance=1e-13, max_sweeps=MAX_SWEEPS)
    return q if sweeps < MAX_SWEEPS else None
