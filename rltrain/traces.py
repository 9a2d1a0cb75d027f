"""Eligibility traces over a table, kept for the pairs that still have one.

A dense trace would touch every state and action at each step. Here the pairs with a trace stand in a
list; a trace that has decayed below `TRACE_CUTOFF` of its start is dropped, which changes a value by
less than rounding does. Shapes: N environments, S states, A actions, pairs numbered s * A + a.
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import numpy as np
from pydantic import Field

from rltrain.compilable import compilable
from rltrain.core import Array
from rltrain.tabular import TabularSettings, step_size

TRACE_CUTOFF = 1e-12
ACCUMULATING, REPLACING, DUTCH = 0, 1, 2
KINDS = {"accumulating": ACCUMULATING, "replacing": REPLACING, "dutch": DUTCH}


class TraceSettings(TabularSettings):
    """Settings of an agent with eligibility traces."""

    trace_decay: float = Field(default=0.9, ge=0, le=1)
    """lambda: 0 is the one-step method, 1 looks back over the whole episode."""
    traces: Literal["accumulating", "replacing", "dutch"] = "replacing"
    """What a visit does to its trace: + 1, = 1, or * (1 - alpha) + 1."""


class TraceMemory(NamedTuple):
    """The table and the traces of the open episode of every environment."""

    q: Array  # (S, A)
    visits: Array  # (S, A)
    trace: Array  # (N, S * A)
    active: Array  # (N, S * A) int64: the pairs with a trace, in the first `alive` places
    alive: Array  # (N,) int64: how many they are
    previous: Array  # (N,) the value that the last step gave to the pair taken now


class TraceConstants(NamedTuple):
    """The numbers of the rule."""

    gamma: float
    visit_power: float
    trace_decay: float
    kind: int


def trace_memory(tables: tuple[Array, Array], envs: int) -> TraceMemory:
    """Tables without any trace."""
    size = (envs, tables[0].size)
    trace, active = np.zeros(size), np.zeros(size, np.int64)
    return TraceMemory(*tables, trace, active, np.zeros(envs, np.int64), np.zeros(envs))


def trace_constants(config: TraceSettings) -> TraceConstants:
    """The numbers of the rule."""
    return TraceConstants(config.gamma, config.visit_power, config.trace_decay, KINDS[config.traces])


@compilable
def mark(memory: Any, env: int, pair: int, kind: int, alpha: float) -> None:
    """The trace of a pair that is visited now; older traces have decayed already."""
    trace = memory.trace[env]
    if trace[pair] == 0.0:
        memory.active[env, memory.alive[env]] = pair
        memory.alive[env] += 1
    if kind == ACCUMULATING:
        trace[pair] += 1.0
    elif kind == REPLACING:
        trace[pair] = 1.0
    else:
        trace[pair] += 1.0 - alpha * trace[pair]


@compilable
def spread(memory: Any, constants: Any, step: Any, error: float) -> None:
    """Q(s, a) += alpha error z(s, a) for every pair with a trace, then z *= gamma lambda."""
    env, actions = step.env, memory.q.shape[1]
    trace, active = memory.trace[env], memory.active[env]
    decay = constants.gamma * constants.trace_decay
    index = 0
    while index < memory.alive[env]:
        pair = active[index]
        obs, action = pair // actions, pair % actions
        alpha = step_size(step.learning_rate, constants.visit_power, memory.visits[obs, action])
        memory.q[obs, action] += alpha * error * trace[pair]
        trace[pair] *= decay
        if trace[pair] < TRACE_CUTOFF:
            trace[pair] = 0.0
            memory.alive[env] -= 1
            active[index] = active[memory.alive[env]]
        else:
            index += 1


@compilable
def forget(memory: Any, env: int) -> None:
    """All traces of an environment end."""
    for index in range(memory.alive[env]):
        memory.trace[env, memory.active[env, index]] = 0.0
    memory.alive[env] = 0
    memory.previous[env] = 0.0
