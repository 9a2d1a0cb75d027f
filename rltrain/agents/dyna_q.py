"""Dyna-Q: Q-learning that also learns a model, and learns again from what the model remembers.

    learn from (s, a, r, s') as Q-learning does, and remember it
    planning_steps times:  a random pair (s, a) seen before, an outcome (r, s') remembered of it, learn

With `prioritized`, the pairs whose value is most wrong go first, and every change is carried on to the
pairs that lead there (prioritised sweeping):

    P = |target(s, a) - Q(s, a)|;  if P > priority_threshold, queue (s, a) with P
    planning_steps times:  the pair of greatest priority:  Q += alpha (target - Q), and queue all that lead to s

The model of the book remembers one outcome of a pair, as fits a deterministic world. `model_size` keeps
the last so many: planning draws among them, and prioritised sweeping takes their mean as the target.
Sources: Sutton 1990; Moore and Atkeson 1993; Sutton and Barto 2018, sections 8.2 and 8.4.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar, NamedTuple

import numpy as np
from pydantic import Field, model_validator

from rltrain.agents.q_learning import learn as learn_directly
from rltrain.compilable import compilable, making_arrays
from rltrain.core import Array, EnvSpec, Problem
from rltrain.selection import random_action
from rltrain.tabular import MAX_ENTRIES, Step, TabularAgent, TabularSettings, best_target, note, step_size


class ModelMemory(NamedTuple):
    """The table and the model. Pairs are numbered s * A + a; M outcomes are remembered of each."""

    q: Array  # (S, A)
    visits: Array  # (S, A)
    moments: Array  # (S, A, 2)
    known: Array  # (S * A,) int64: the pairs seen, in the order in which they came
    seen: Array  # (1,) int64: how many they are
    next_obs: Array  # (S * A, M) int64
    reward: Array  # (S * A, M)
    terminated: Array  # (S * A, M) bool
    priority: Array  # (S * A,) 0 for not queued; empty unless prioritised
    leads: Array  # (S, S * A) bool: whether a pair was seen to lead to a state; empty unless prioritised


class ModelConstants(NamedTuple):
    """The numbers of the rule."""

    gamma: float
    visit_power: float
    planning_steps: int
    prioritized: bool
    priority_threshold: float


@compilable
def error_of(memory: Any, constants: Any, pair: Any) -> float:
    """Mean target over the remembered outcomes, minus Q(s, a)."""
    q, actions = memory.q, memory.q.shape[1]
    obs, action = pair // actions, pair % actions
    total, size = 0.0, min(memory.visits[obs, action], memory.next_obs.shape[1])
    for place in range(size):
        reward, next_obs = memory.reward[pair, place], memory.next_obs[pair, place]
        total += best_target(q, constants.gamma, reward, next_obs, memory.terminated[pair, place])
    return float(total / size - q[obs, action])


@compilable
def remember(memory: Any, step: Step) -> int:
    """Put the outcome into the model, in place of the oldest. Returns the number of the pair."""
    actions, size = memory.q.shape[1], memory.next_obs.shape[1]
    pair = step.obs * actions + step.action
    visits = memory.visits[step.obs, step.action]
    if visits == 1:
        memory.known[memory.seen[0]] = pair
        memory.seen[0] += 1
    place = (visits - 1) % size
    memory.next_obs[pair, place] = step.next_obs
    memory.reward[pair, place] = step.reward
    memory.terminated[pair, place] = step.terminated
    return int(pair)


@compilable
def queue(memory: Any, constants: Any, pair: Any) -> None:
    """Queue a pair whose value is wrong by more than the threshold."""
    urgency = abs(error_of(memory, constants, pair))
    if urgency > constants.priority_threshold:
        memory.priority[pair] = urgency


@compilable
def sweep(memory: Any, constants: Any, step: Step) -> None:
    """Up to planning_steps updates, the most urgent first."""
    actions = memory.q.shape[1]
    for _ in range(constants.planning_steps):
        pair = int(memory.priority.argmax())
        if memory.priority[pair] == 0.0:
            break
        memory.priority[pair] = 0.0
        obs, action = pair // actions, pair % actions
        alpha = step_size(step.learning_rate, constants.visit_power, memory.visits[obs, action])
        memory.q[obs, action] += alpha * error_of(memory, constants, pair)
        for other in np.flatnonzero(memory.leads[obs]):
            queue(memory, constants, other)


@making_arrays
def learn(memory: Any, constants: Any, step: Step, policy: Any, rng: Any) -> None:
    """Learn from the step, remember it, and plan."""
    if constants.prioritized:
        pair = remember(memory, step)
        if not step.terminated:
            memory.leads[step.next_obs, pair] = True
        target = best_target(memory.q, constants.gamma, step.reward, step.next_obs, step.terminated)
        alpha = step_size(step.learning_rate, constants.visit_power, memory.visits[step.obs, step.action])
        note(memory, step.obs, step.action, target - memory.q[step.obs, step.action], alpha)
        queue(memory, constants, pair)
        sweep(memory, constants, step)
        return
    learn_directly(memory, constants, step, policy, rng)
    remember(memory, step)
    q, visits, size, actions = memory.q, memory.visits, memory.next_obs.shape[1], memory.q.shape[1]
    for _ in range(constants.planning_steps):
        pair = memory.known[random_action(memory.seen[0], rng)]
        obs, action = pair // actions, pair % actions
        place = random_action(min(visits[obs, action], size), rng)
        reward, next_obs = memory.reward[pair, place], memory.next_obs[pair, place]
        target = best_target(q, constants.gamma, reward, next_obs, memory.terminated[pair, place])
        alpha = step_size(step.learning_rate, constants.visit_power, visits[obs, action])
        q[obs, action] += alpha * (target - q[obs, action])


class DynaQSettings(TabularSettings):
    """Settings of Dyna-Q."""

    planning_steps: int = Field(default=10, ge=0, le=100_000)
    """Updates from the model per environment step; 0 is Q-learning."""
    model_size: int = Field(default=1, ge=1, le=10_000)
    """Outcomes remembered of each state and action; 1 is enough where the world is deterministic."""
    prioritized: bool = False
    """Plan where the values are most wrong."""
    priority_threshold: float = Field(default=1e-4, ge=0)
    """Errors below this are not queued, in units of the return."""

    @model_validator(mode="after")
    def _planning_is_used(self) -> DynaQSettings:
        if self.prioritized and self.planning_steps == 0:
            raise ValueError("prioritized learns only while planning: planning_steps must be at least 1")
        if not self.prioritized and any(self.changed("priority_threshold")):
            raise ValueError("priority_threshold does nothing without prioritized: true")
        if self.planning_steps == 0 and any(self.changed("model_size")):
            raise ValueError("model_size does nothing without planning: set planning_steps to 1 or more")
        return self

    def problems(self, config: Any, spec: EnvSpec) -> Iterator[Problem]:
        """The model must fit into memory."""
        found = list(super().problems(config, spec))
        yield from found
        if not found:
            states, actions = int(spec.observation_space.n), int(spec.action_space.n)  # type: ignore[attr-defined]
            entries = states * actions * (states if self.prioritized else 0) + 2 * states * actions * self.model_size
            if entries > MAX_ENTRIES:
                yield Problem("agent.name", f"the model would have {entries:,} entries, at most {MAX_ENTRIES:,} fit")


class DynaQ(TabularAgent):
    """Q-learning with a learnt model: few steps in the environment, much thinking between them."""

    Config = DynaQSettings
    replays: ClassVar[bool] = True
    learn = staticmethod(learn)

    def make_memory(self) -> ModelMemory:
        """An empty table and an empty model."""
        states, actions = self.shape
        pairs, size = states * actions, (states * actions, self.config.model_size)
        queued, leads = (pairs, (states, pairs)) if self.config.prioritized else (0, (0, 0))
        model = (np.zeros(size, np.int64), np.zeros(size), np.zeros(size, bool))
        known, seen = np.zeros(pairs, np.int64), np.zeros(1, np.int64)
        return ModelMemory(*self.tables(), known, seen, *model, np.zeros(queued), np.zeros(leads, bool))

    def make_constants(self) -> ModelConstants:
        """Discount, power of the visits, and how to plan."""
        config = self.config
        return ModelConstants(
            config.gamma, config.visit_power, config.planning_steps, config.prioritized, config.priority_threshold
        )
