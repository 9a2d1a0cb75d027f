"""Finite Markov decision processes as arrays, and the exact answers that dynamic programming gives.

Legend for shapes: S states, A actions, K the most outcomes that any state and action have.
Source: Sutton and Barto 2018, "Reinforcement Learning: An Introduction", chapters 3 and 4
(http://incompleteideas.net/book/the-book-2nd.html); Puterman 1994, "Markov Decision Processes".
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from rltrain.core import Array

SUM_TOLERANCE = 1e-6
"""How far from 1 the probabilities of one distribution may sum."""
DENSE_STATES = 1_000
"""Up to here a linear system is solved dense: loading the sparse solver takes longer than that."""
IMPROVEMENT = 1e-12
"""Policy iteration changes an action only for a gain above this share of the value: less is rounding."""


@dataclass(frozen=True, eq=False)
class Model:
    """A finite Markov decision process whose every probability is known.

    Outcomes keep the order of their source, duplicates included; beyond `outcomes` everything is padding
    of probability 0. The value beyond a terminated outcome is zero, whatever its next state is.
    """

    probability: Array  # (S, A, K) float64
    next_state: Array  # (S, A, K) int64
    reward: Array  # (S, A, K) float64
    terminated: Array  # (S, A, K) bool
    outcomes: Array  # (S, A) int64: how many outcomes are real
    start: Array  # (S,) float64: distribution of the first state

    @property
    def states(self) -> int:
        """S, the number of states."""
        return int(self.probability.shape[0])

    @property
    def actions(self) -> int:
        """A, the number of actions, the same in every state."""
        return int(self.probability.shape[1])

    @cached_property
    def continuing(self) -> Array:
        """Probability (S, A, K) that an outcome happens and the task goes on after it."""
        return self.probability * ~self.terminated

    @classmethod
    def from_table(cls, table: Any, start: Any) -> Model:
        """Take over Gymnasium's toy-text form `table[s][a] = [(probability, next, reward, terminated), ...]`.

        Args:
            table: dict or list over states 0..S-1 of dicts or lists over actions 0..A-1.
            start: (S,) distribution of the first state.

        Raises:
            ValueError: a state or action is missing, states differ in their number of actions, a number is
                no number, a next state is out of range, or a distribution does not sum to 1.
        """
        states = len(table)
        actions = len(_entry(table, 0, "state 0"))
        rows = []
        for s in range(states):
            row = _entry(table, s, f"state {s}")
            if len(row) != actions:
                raise ValueError(f"state {s} has {len(row)} actions, state 0 has {actions}")
            rows += [_entry(row, a, f"action {a} of state {s}") for a in range(actions)]
        outcomes = np.array([len(row) for row in rows], np.int64)
        fields = np.zeros((len(rows), max(1, int(outcomes.max(initial=0))), 4))
        for fill, row in zip(fields, rows, strict=True):
            if row:
                fill[: len(row)] = [_numbers(outcome) for outcome in row]
        probability, following, reward, terminated = np.moveaxis(fields.reshape(states, actions, -1, 4), -1, 0).copy()
        _check(probability, following, reward)
        first = np.array(start, np.float64)
        if first.shape != (states,):
            raise ValueError(f"the start distribution has shape {first.shape}, not ({states},)")
        _check_distribution(first, "the start distribution")
        whole = following.astype(np.int64)
        return cls(probability, whole, reward, terminated != 0, outcomes.reshape(states, actions), first)


def _entry(table: Any, index: int, what: str) -> Any:
    try:
        return table[index]
    except LookupError:
        raise ValueError(f"{what} is missing") from None


def _numbers(outcome: Any) -> tuple[float, float, float, float]:
    probability, following, reward, terminated = outcome
    return float(probability), float(following), float(reward), float(terminated)


def _check_distribution(probability: Array, what: str) -> None:
    """The last axis must be a distribution; written so that NaN fails too."""
    if not (probability >= 0).all() or not (np.abs(probability.sum(-1) - 1) <= SUM_TOLERANCE).all():
        raise ValueError(f"{what} must be at least 0 everywhere and sum to 1")


def _check(probability: Array, following: Array, reward: Array) -> None:
    _check_distribution(probability, "the probabilities of every state and action")
    if not ((following >= 0) & (following < len(probability)) & (following == np.floor(following))).all():
        raise ValueError(f"a next state is not one of 0..{len(probability) - 1}")
    if not np.isfinite(reward).all():
        raise ValueError("a reward is not finite")


def expected_reward(model: Model) -> Array:
    """Mean reward (S, A) of one step: r(s, a) = sum_k p_k r_k. Source: Sutton and Barto 2018, equation 3.5."""
    return np.asarray((model.probability * model.reward).sum(-1))


def _ahead(model: Model, values: Array) -> Array:
    """Mean value (S, A) of what follows; `values` is (S,)."""
    return np.asarray(np.einsum("sak,sak->sa", model.continuing, values[model.next_state]))


def backup(model: Model, values: Array, gamma: float) -> Array:
    """Action values (S, A) of one step and state values (S,) after it.

    q(s, a) = sum_k p_k (r_k + gamma * (not terminated_k) * V(s'_k)). Source: Sutton and Barto 2018, equation 4.6.
    """
    return expected_reward(model) + gamma * _ahead(model, values)


def value_iteration(
    model: Model, gamma: float, *, tolerance: float = 1e-10, max_sweeps: int = 1_000_000
) -> tuple[Array, int]:
    """Optimal action values by repeated backups: V <- max_a q(s, a). Source: Sutton and Barto 2018, section 4.4.

    Args:
        model: What is to be solved.
        gamma: Discount. With 1 it converges only where the task ends, or rewards cease, under good policies.
        tolerance: It stops when no value changes by more than this, relative to the largest value above 1.
        max_sweeps: It stops here in any case; sweeps equal to this mean that it may not have converged.

    Returns:
        q (S, A), and the number of sweeps over all states.
    """
    reward = expected_reward(model)
    q = reward  # a backup of V = 0
    values = q.max(1)
    for sweep in range(2, max_sweeps + 1):
        q = reward + gamma * _ahead(model, values)
        before, values = values, q.max(1)
        change = float(np.abs(values - before).max())
        if change <= tolerance * max(1.0, float(np.abs(values).max())):
            return q, sweep
    return q, max_sweeps


def greedy_policy(q: Array) -> Array:
    """The policy (S, A) that takes the best action of `q` (S, A), the lowest-numbered of equals."""
    return one_hot(q.argmax(1), q.shape[1])


def one_hot(actions: Array, count: int) -> Array:
    """The policy (S, count) that takes `actions` (S,)."""
    return np.asarray(np.eye(count)[actions])


def uniform_policy(model: Model) -> Array:
    """The policy (S, A) that takes every action equally often."""
    return np.full((model.states, model.actions), 1 / model.actions)


def _chain(model: Model, policy: Array) -> tuple[Array, Any]:
    """Mean reward (S,) and transitions (S, S) under a policy; rows lack what ends the task. Sparse where S is large."""
    reward = (policy * expected_reward(model)).sum(1)
    weight = policy[:, :, None] * model.continuing
    state, action, outcome = np.nonzero(weight)
    columns = model.next_state[state, action, outcome]
    size = (model.states, model.states)
    if model.states <= DENSE_STATES:
        dense = np.zeros(size)
        np.add.at(dense, (state, columns), weight[state, action, outcome])
        return reward, dense
    from scipy.sparse import csr_array

    return reward, csr_array((weight[state, action, outcome], (state, columns)), shape=size)


def _never_ends(model: Model, policy: Array, transitions: Any) -> Array:
    """States (S,) bool from which the policy cannot reach an end of the task."""
    ending: Array = (policy[:, :, None] * model.probability * model.terminated).sum((1, 2)) > 0
    while True:
        more = ending | (transitions @ ending.astype(np.float64) > 0)
        if (more == ending).all():
            return ~ending
        ending = more


def _solve(transitions: Any, gamma: float, reward: Array) -> Array:
    """V = r + gamma P V; not finite where the system is singular."""
    states = len(reward)
    if isinstance(transitions, np.ndarray):
        try:
            return np.asarray(np.linalg.solve(np.eye(states) - gamma * transitions, reward))
        except np.linalg.LinAlgError:
            return np.full(states, np.nan)
    from scipy.sparse import eye_array
    from scipy.sparse.linalg import spsolve

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a singular system is told by its solution
        return np.asarray(spsolve(eye_array(states, format="csc") - gamma * transitions.tocsc(), reward))


def policy_value(model: Model, policy: Array, gamma: float) -> Array:
    """Values (S,) of a policy (S, A) of probabilities: the solution of V = r + gamma * P V.

    Source: Sutton and Barto 2018, equation 4.4, solved as one linear system (Puterman 1994, section 6.4).

    Raises:
        ValueError: gamma is 1 and the policy never ends the task from some state, whose value is then not defined.
    """
    reward, transitions = _chain(model, policy)
    if gamma == 1 and (lost := _never_ends(model, policy, transitions)).any():
        raise ValueError(f"improper policy: with gamma 1 it never ends the task from state {int(lost.argmax())}")
    values = _solve(transitions, gamma, reward)
    if not np.isfinite(values).all():
        raise ValueError("improper policy: with gamma 1 the task ends too rarely for its value to be computed")
    return values


def policy_iteration(model: Model, gamma: float) -> tuple[Array, Array, int]:
    """Optimal action values by alternating evaluation and greedy improvement, from the uniform policy.

    Source: Sutton and Barto 2018, section 4.3; Puterman 1994, section 6.4.

    Returns:
        q (S, A), the optimal action of every state (S,), and the number of policies that were evaluated.

    Raises:
        ValueError: as `policy_value`, with gamma 1.
    """
    q = backup(model, policy_value(model, uniform_policy(model), gamma), gamma)
    policy, seen = q.argmax(1), set[bytes]()
    while True:
        q = backup(model, policy_value(model, one_hot(policy, model.actions), gamma), gamma)
        seen.add(policy.tobytes())
        current = q[np.arange(model.states), policy]
        better = q.max(1) > current + IMPROVEMENT * np.maximum(1, np.abs(current))
        improved = np.where(better, q.argmax(1), policy)
        if improved.tobytes() in seen:  # itself, or by rounding an equal one
            return q, policy, 1 + len(seen)
        policy = improved


def finite_horizon_value(model: Model, policy: Array, horizon: int) -> Array:
    """Undiscounted values (S,) of a policy (S, A) that is cut off after `horizon` steps.

    V_h = r + P V_{h-1}, V_0 = 0. Source: Puterman 1994, section 4.2.
    """
    reward, transitions = _chain(model, policy)
    return _repeated(lambda values: reward + transitions @ values, model.states, horizon)


def finite_horizon_optimum(model: Model, horizon: int) -> Array:
    """Undiscounted values (S,) of the best policy that knows how many of `horizon` steps are left.

    V_h = max_a (r + P V_{h-1}), V_0 = 0. Source: Puterman 1994, section 4.3 (backward induction).
    """
    reward = expected_reward(model)
    return _repeated(lambda values: (reward + _ahead(model, values)).max(1), model.states, horizon)


def _repeated(step: Callable[[Array], Array], states: int, times: int) -> Array:
    """Values (S,) after so many steps from 0; once a step changes nothing, no later one does."""
    before, values = np.full(states, np.nan), np.zeros(states)
    while times and not np.array_equal(before, values):
        before, values, times = values, step(values), times - 1
    return values


def reachable(model: Model) -> Array:
    """States (S,) bool in which an action can ever be taken: breadth first from the start.

    A state that is only ever entered as the task ends is not one of them.
    """
    found: Array = model.start > 0
    fresh = np.flatnonzero(found)
    while len(fresh):
        entered = np.zeros_like(found)
        entered[model.next_state[fresh][model.continuing[fresh] > 0]] = True
        fresh = np.flatnonzero(entered & ~found)
        found = found | entered
    return found
