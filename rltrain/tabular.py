"""What every tabular agent is made of: a table, how it is acted on, and one update rule.

An agent's file gives the rule, a compilable function

    learn(memory, constants, step, policy, rng) -> None

which takes in one step and changes the arrays of `memory`. The class below calls it; the compiled loop
(`kernels/`) calls the very same function. Shapes: N environments, S states, A actions.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import cached_property
from typing import Any, ClassVar, NamedTuple

import gymnasium as gym
import numpy as np
from pydantic import Field, model_validator

from rltrain.compilable import compilable
from rltrain.core import ActionSelector, ActionValues, Array, EnvSpec, Metrics, Problem, State, Transition
from rltrain.encoding import in_words
from rltrain.mdp import reachable
from rltrain.schedules import Constant, ScheduleSetting
from rltrain.selection import RowSelector, greatest
from rltrain.settings import Settings

MAX_ENTRIES = 100_000_000
"""Entries of the greatest table that is allocated: 0.8 GB."""


class TabularSettings(Settings):
    """Settings that every learning table has; steps are environment steps."""

    explores_with: ClassVar[str] = "selector"
    offers: ClassVar[tuple[str, ...]] = ("visits", "moments")

    learning_rate: ScheduleSetting = Constant(value=0.1)
    """Step size alpha: a number, or a schedule of environment steps."""
    visit_power: float = Field(default=0.0, ge=0, le=1)
    """alpha is divided by n(s, a)**visit_power: 0 keeps it, 1 with learning_rate 1 makes averages.

    Above 0.5 and up to 1 the sum conditions of stochastic approximation hold for a constant learning_rate.
    """
    gamma: float = Field(default=0.99, ge=0, le=1)
    """Discount per step."""
    initial_value: float = 0.0
    """Every Q(s, a) at the beginning; above what can be had, it makes a greedy agent explore."""

    @model_validator(mode="after")
    def _step_size_within_bounds(self) -> TabularSettings:
        low, high = self.learning_rate.bounds
        if low < 0 or high > 1:
            raise ValueError(f"learning_rate must stay within 0 and 1, not {low:g} to {high:g}")
        return self

    def problems(self, config: Any, spec: EnvSpec) -> Iterator[Problem]:
        """A table needs states and actions that can be numbered."""
        yield from table_problems(config.agent.name, spec)


def table_problems(agent: str, spec: EnvSpec) -> Iterator[Problem]:
    """What keeps a table over this environment from being made."""
    states, actions = spec.observation_space, spec.action_space
    if not isinstance(actions, gym.spaces.Discrete):
        yield Problem("agent.name", f"{agent} needs Discrete actions, {spec.id} has {in_words(actions)}")
    elif not isinstance(states, gym.spaces.Discrete):
        yield Problem(
            "agent.name",
            f"{agent} needs Discrete observations, {spec.id} has {in_words(states)}: add the wrapper discretize",
        )
    elif int(states.n) * int(actions.n) > MAX_ENTRIES:
        yield Problem("agent.name", f"a table of {states.n:,} states and {actions.n} actions is too large: use dqn")


class Step(NamedTuple):
    """One step of one environment, as an update rule takes it in."""

    env: int
    obs: int
    action: int
    reward: float
    next_obs: int
    next_action: int  # the action that will be taken next; -1 where the rule does not ask for it, or none follows
    terminated: bool  # nothing comes after
    truncated: bool  # cut short: the episode ends here, and the value beyond still counts
    learning_rate: float  # of this environment step, before it is divided by visits


@compilable
def step_size(learning_rate: float, power: float, visits: int) -> float:
    """alpha = learning_rate / visits**power."""
    if power == 0.0:
        return learning_rate
    if power == 1.0:
        return learning_rate / visits
    if power == 0.5:
        return learning_rate / math.sqrt(visits)  # a tenth of the time of the general power
    return learning_rate / math.pow(visits, power)  # not **: NumPy, Python and Numba each have their own


@compilable
def note(memory: Any, obs: int, action: int, error: float, alpha: float) -> None:
    """Take in how far a target is from Q(s, a), which is about to move by alpha of it, where that is kept.

    n += 1;  M += (target - Q_old) (target - Q_new) = (1 - alpha) error^2

    Exact where alpha = 1/n: Welford 1962, https://doi.org/10.1080/00401706.1962.10490022
    """
    if len(memory.moments) > 0:
        memory.moments[obs, action, 0] += 1.0
        memory.moments[obs, action, 1] += (1.0 - alpha) * error * error


@compilable
def move(memory: Any, obs: int, action: int, target: float, alpha: float) -> None:
    """Q(s, a) += alpha (target - Q(s, a))."""
    error = target - memory.q[obs, action]
    note(memory, obs, action, error, alpha)
    memory.q[obs, action] += alpha * error


@compilable
def best_target(q: Any, gamma: float, reward: float, next_obs: int, terminated: bool) -> float:
    """r + gamma max_a' Q(s', a'); nothing follows a terminal state."""
    return float(reward) if terminated else float(reward + gamma * greatest(q[next_obs]))


class Constants(NamedTuple):
    """The numbers of a rule that never change. An agent with more of them has a NamedTuple of its own."""

    gamma: float
    visit_power: float


class Memory(NamedTuple):
    """What a rule changes. An agent with more has a NamedTuple of its own, with these fields as well."""

    q: Array  # (S, A) float64: what is acted on
    visits: Array  # (S, A) int64: how often each pair was taken, the current step included
    moments: Array  # (S, A, 2) as `note` says; empty unless the exploration needs them


class TabularAgent:
    """Acts on a table of action values and learns by one rule, a step at a time."""

    Config: ClassVar[type[TabularSettings]]
    networks = ()
    learn: ClassVar[Callable[..., None]]
    """The rule: `learn(memory, constants, step, policy, rng)`."""
    draws_next = False
    """Whether the rule takes the next action. It is then drawn when a step is taken in, and is the one that follows."""
    averages_policy = False
    """Whether the rule takes the probabilities of the next action (A,)."""

    def __init__(
        self, config: Any, spec: EnvSpec, *, exploration: ActionSelector, rng: np.random.Generator, device: str
    ) -> None:
        states, actions = spec.observation_space, spec.action_space
        assert isinstance(states, gym.spaces.Discrete)
        assert isinstance(actions, gym.spaces.Discrete)
        self.config = config
        self.spec = spec
        self.exploration = exploration
        self.rng = rng
        self.first_state, self.first_action = int(states.start), int(actions.start)
        self.shape = (int(states.n), int(actions.n))
        self.memory: Any = self.make_memory()
        self.constants: Any = self.make_constants()
        self.pending = np.full(spec.num_envs, -1, np.int64)  # next actions that were drawn already
        self.policy = np.zeros(self.shape[1])
        self.steps = 0  # environment steps observed
        self._metrics = self._describe()

    def make_memory(self) -> Any:
        """The arrays that the rule changes."""
        return Memory(*self.tables())

    def tables(self) -> tuple[Array, Array, Array]:
        """A fresh `q`, `visits` and `moments`."""
        moments = np.zeros((*self.shape, 2) if "moments" in getattr(self.exploration, "needs", ()) else (0, 0, 2))
        return np.full(self.shape, self.config.initial_value), np.zeros(self.shape, np.int64), moments

    def make_constants(self) -> Any:
        """The numbers of the rule."""
        return Constants(self.config.gamma, self.config.visit_power)

    def act(self, obs: Array, *, explore: bool = True) -> Array:
        """Actions (N,) for observations (N,)."""
        rows = obs - self.first_state
        q = self.memory.q[rows]
        if not explore:
            return np.asarray(q.argmax(axis=1) + self.first_action)
        if not self.draws_next:
            return self._select(rows, self.steps) + self.first_action
        action = self.pending.copy()
        fresh = action < 0
        if fresh.any():
            action[fresh] = self._select(rows[fresh], self.steps, np.flatnonzero(fresh))
        return action + self.first_action

    def _select(self, rows: Array, step: int, envs: Array | None = None) -> Array:
        moments = self.memory.moments[rows] if len(self.memory.moments) else None
        values = ActionValues(self.memory.q[rows], visits=self.memory.visits[rows], moments=moments, envs=envs)
        return self.exploration.select(values, step, self.rng)

    def values(self, obs: Array) -> Array:
        """Q(s, a), (N, A)."""
        return np.asarray(self.memory.q[obs - self.first_state])

    def observe(self, transition: Transition) -> None:
        """Learn from the step, one environment after the other."""
        obs = (transition.obs - self.first_state).tolist()
        next_obs = (transition.next_obs - self.first_state).tolist()
        actions = (transition.action - self.first_action).tolist()
        rewards = transition.reward.tolist()
        terminated, truncated = transition.terminated.tolist(), transition.truncated.tolist()
        learning_rate = self.config.learning_rate(self.steps)
        after = self.steps + len(obs)
        learn = type(self).learn
        for env in range(len(obs)):
            self.memory.visits[obs[env], actions[env]] += 1
            next_action = self._look_ahead(env, next_obs[env], terminated[env], after)
            step = Step(env, obs[env], actions[env], rewards[env], next_obs[env], next_action,
                        terminated[env], truncated[env], learning_rate)  # fmt: skip
            learn(self.memory, self.constants, step, self.policy, self.rng)
            self.pending[env] = -1 if terminated[env] or truncated[env] else next_action
        self.steps = after

    def _look_ahead(self, env: int, next_obs: int, terminated: bool, step: int) -> int:
        """Draw the next action, or work out its probabilities, where the rule asks for it."""
        if terminated:
            return -1
        if self.averages_policy:
            assert isinstance(self.exploration, RowSelector)
            write = type(self.exploration).probabilities
            assert write is not None
            known = getattr(self.memory, self.exploration.reads)
            write(self.memory.q[next_obs], known[next_obs], self.exploration.levels_at(step), self.policy)
        if not self.draws_next:
            return -1
        return int(self._select(np.array([next_obs]), step, np.array([env]))[0])

    def update(self) -> Metrics:
        """Everything is learnt in `observe`; here is only what the log may ask for."""
        return self._metrics

    def _describe(self) -> Metrics:
        """Figures that are worked out when they are logged."""
        known = self.exploration.metrics(0)

        def current(name: str) -> Callable[[], Any]:
            return lambda: self.exploration.metrics(self.steps)[name]

        return {
            "train/q_value": lambda: float(self.memory.q.max(axis=1).mean()),
            "exploration/state_coverage": lambda: float((self.memory.visits.sum(axis=1) > 0).sum() / self._reachable),
            **{name: current(name) for name in known},
        }

    @cached_property
    def _reachable(self) -> int:
        """States in which an action can be taken, as far as is known."""
        return self.shape[0] if self.spec.model is None else int(reachable(self.spec.model).sum())

    def abandon(self, env: int) -> None:
        """Forget what was drawn or kept for the rest of an open episode."""
        self.pending[env] = -1
        self.forget(env)

    def forget(self, env: int) -> None:
        """Empty what the rule keeps of the open episode of an environment."""

    def state_dict(self) -> State:
        """Every array of the memory that is not empty, the next actions, and the generators."""
        return {
            "memory": {name: array.copy() for name, array in self.memory._asdict().items() if array.size},
            "pending": self.pending.copy(),
            "exploration": self.exploration.state_dict(),
            "rng": self.rng.bit_generator.state,
            "steps": self.steps,
        }

    def load_state_dict(self, state: State) -> None:
        """Restore the state."""
        for name, array in self.memory._asdict().items():
            if array.size:
                array[...] = state["memory"][name]
        self.pending[:] = state["pending"]
        self.exploration.load_state_dict(state["exploration"])
        self.rng.bit_generator.state = state["rng"]
        self.steps = state["steps"]
