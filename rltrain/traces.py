"""Eligibility traces over a table, kept for the pairs that still have one.

A dense trace would touch every state and action at each step. Here the pairs with a trace stand in a
list; a trace that has decayed below `TRACE_CUTOFF` of its start is dropped, which changes a value by
less than rounding does. Shapes: N environments, S states, A actions, pairs numbered s * A + a.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal, NamedTuple

import numpy as np
from pydantic import Field

from rltrain.compilable import compilable
from rltrain.core import Array, EnvSpec, Problem
from rltrain.tabular import MAX_ENTRIES, TabularSettings, step_size

TRACE_CUTOFF = 1e-12
ACCUMULATING, REPLACING, DUTCH = 0, 1, 2
KINDS = {"accumulating": ACCUMULATING, "replacing": REPLACING, "dutch": DUTCH}


class TraceSettings(TabularSettings):
    """Settings of an agent with eligibility traces."""

    trace_decay: float = Field(default=0.9, ge=0, le=1)
    """lambda: 0 is the one-step method, 1 looks back over the whole episode."""
    traces: Literal["accumulating", "replacing", "dutch"] = "replacing"
    """What a visit does to its trace: + 1, = 1, or * (1 - alpha) + 1."""

    def problems(self, config: Any, spec: EnvSpec) -> Iterator[Problem]:
        """Every environment has traces of its own."""
        found = list(super().problems(config, spec))
        yield from found
        if not found:
            entries = spec.num_envs * int(spec.observation_space.n) * int(spec.action_space.n)  # type: ignore[attr-defined]
            if entries > MAX_ENTRIES:
                yield Problem("env.num_envs", f"traces would have {entries:,} entries, at most {MAX_ENTRIES:,} fit")


class TraceMemory(NamedTuple):
    """The table and the traces of the open episode of every environment."""

    q: Array  # (S, A)
    visits: Array  # (S, A)
    moments: Array  # (S, A, 2)
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


def trace_memory(tables: tuple[Array, Array, Array], envs: int) -> TraceMemory:
    """Tables without any trace."""
    size = (envs, tables[0].size)
    trace, active = np.zeros(size), np.zeros(size, np.int64)
    return TraceMemory(*tables, trace, active, np.zeros(envs, np.int64), np.zeros(envs))


def trace_constants(config: TraceSettings) -> TraceConstants:
    """The numbers of the rule."""
    return TraceConstants(config.gamma, config.visit_power, config.trace_decay, KINDS[config.traces])


@compilable
def carry_back(memory: Any, constants: Any, step: Any, error: float, cut: bool) -> None:
    """Mark the pair of this step, give every pair with a trace its share of the error, and let the traces decay.

    z(s, a) of the step + 1, = 1 or * (1 - alpha) + 1; then Q += alpha error z and z *= gamma lambda for all
    pairs; with `cut` all traces end instead. One function, since handing the memory on costs more than the work.
    """
    q, trace, active, env, actions = memory.q, memory.trace, memory.active, step.env, memory.q.shape[1]
    alive = memory.alive[env]
    pair = step.obs * actions + step.action
    if trace[env, pair] == 0.0:
        active[env, alive] = pair
        alive += 1
    if constants.kind == ACCUMULATING:
        trace[env, pair] += 1.0
    elif constants.kind == REPLACING:
        trace[env, pair] = 1.0
    else:
        alpha = step_size(step.learning_rate, constants.visit_power, memory.visits[step.obs, step.action])
        trace[env, pair] += 1.0 - alpha * trace[env, pair]
    decay = 0.0 if cut else constants.gamma * constants.trace_decay
    index = 0
    while index < alive:
        pair = active[env, index]
        obs, action = pair // actions, pair % actions
        alpha = step_size(step.learning_rate, constants.visit_power, memory.visits[obs, action])
        q[obs, action] += alpha * error * trace[env, pair]
        trace[env, pair] *= decay
        if trace[env, pair] < TRACE_CUTOFF:
            trace[env, pair] = 0.0
            alive -= 1
            active[env, index] = active[env, alive]
        else:
            index += 1
    memory.alive[env] = alive
