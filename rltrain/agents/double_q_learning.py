"""Double Q-learning: two tables, one to choose the best next action and the other to value it.

A fair coin decides which of the two learns:

    Q1(s, a) += alpha (r + gamma Q2(s', argmax_a' Q1(s', a')) - Q1(s, a))      or the same with 1 and 2 exchanged

The maximum of noisy values is too high on average; that of one table valued by another is not. Acts on
the mean (Q1 + Q2) / 2. Ties of the inner argmax go to the lowest index. Where alpha is divided by visits, each
table counts its own updates, as in the paper.
Source: van Hasselt 2010, https://papers.nips.cc/paper/3964-double-q-learning; Sutton and Barto 2018, section 6.7.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from rltrain.compilable import compilable
from rltrain.core import Array
from rltrain.selection import first_best
from rltrain.tabular import Step, TabularAgent, TabularSettings, note, step_size


class DoubleMemory(NamedTuple):
    """Two tables beside their mean."""

    q: Array  # (S, A) mean of the two
    visits: Array  # (S, A)
    moments: Array  # (S, A, 2)
    pair: Array  # (2, S, A)
    updates: Array  # (2, S, A) int64: of each table


@compilable
def learn(memory: Any, constants: Any, step: Step, policy: Any, rng: Any) -> None:
    """Move one of the tables, chosen by a coin, towards what the other says of its best next action."""
    learner = 0 if rng.random() < 0.5 else 1
    chooser, judge = memory.pair[learner], memory.pair[1 - learner]
    target = step.reward
    if not step.terminated:
        target += constants.gamma * judge[step.next_obs, first_best(chooser[step.next_obs])]
    memory.updates[learner, step.obs, step.action] += 1
    alpha = step_size(step.learning_rate, constants.visit_power, memory.updates[learner, step.obs, step.action])
    error = target - chooser[step.obs, step.action]
    note(memory, step.obs, step.action, error, alpha)
    chooser[step.obs, step.action] += alpha * error
    memory.q[step.obs, step.action] = (chooser[step.obs, step.action] + judge[step.obs, step.action]) / 2


class DoubleQLearning(TabularAgent):
    """Off-policy one-step control without the bias of the maximum."""

    Config = TabularSettings
    learn = staticmethod(learn)

    def make_memory(self) -> DoubleMemory:
        """Two equal tables and their mean."""
        q, visits, moments = self.tables()
        return DoubleMemory(q, visits, moments, q[None].repeat(2, axis=0), visits[None].repeat(2, axis=0))
