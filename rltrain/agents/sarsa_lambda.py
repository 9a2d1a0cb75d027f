"""SARSA(lambda): every step teaches all pairs that led to it, the recent ones most.

    delta = r + gamma Q(s', a') - Q(s, a)      (0 beyond a terminal state)
    z(s, a) += 1   (accumulating)    or   z(s, a) = 1   (replacing)
    for every pair:  Q += alpha delta z,  z *= gamma lambda

With dutch traces it is the true online SARSA(lambda), which equals the online forward view exactly:

    z(s, a) += 1 - alpha z(s, a)
    for every pair:  Q += alpha (delta + Q(s, a) - Q_old) z;   Q(s, a) -= alpha (Q(s, a) - Q_old)
    Q_old = Q(s', a') as it was before the update

Sources: Sutton and Barto 2018, sections 12.7 and 12.5; Singh and Sutton 1996 (replacing traces);
van Seijen et al. 2016, https://jmlr.org/papers/v17/15-599.html (true online, dutch traces).
"""

from __future__ import annotations

from typing import Any, ClassVar

from rltrain.compilable import compilable
from rltrain.tabular import Step, TabularAgent, TabularSettings, note, step_size
from rltrain.traces import (
    DUTCH,
    TraceConstants,
    TraceMemory,
    TraceSettings,
    carry_back,
    trace_constants,
    trace_memory,
)


@compilable
def learn(memory: Any, constants: Any, step: Step, policy: Any, rng: Any) -> None:
    """Carry the error of this step back along the traces."""
    q, over = memory.q, step.terminated or step.truncated
    value = q[step.obs, step.action]
    beyond = 0.0 if step.terminated else q[step.next_obs, step.next_action]
    error = step.reward + constants.gamma * beyond - value
    alpha = step_size(step.learning_rate, constants.visit_power, memory.visits[step.obs, step.action])
    note(memory, step.obs, step.action, error, alpha)
    if constants.kind != DUTCH:
        carry_back(memory, constants, step, error, over)
        return
    drift = value - memory.previous[step.env]
    carry_back(memory, constants, step, error + drift, over)
    q[step.obs, step.action] -= alpha * drift
    memory.previous[step.env] = 0.0 if over else beyond


class SarsaLambda(TabularAgent):
    """On-policy control with eligibility traces."""

    Config: ClassVar[type[TabularSettings]] = TraceSettings
    draws_next = True
    learn = staticmethod(learn)

    def make_memory(self) -> TraceMemory:
        """An empty table without traces."""
        return trace_memory(self.tables(), self.spec.num_envs)

    def make_constants(self) -> TraceConstants:
        """Discount, power of the visits, lambda and the kind of trace."""
        return trace_constants(self.config)

    def forget(self, env: int) -> None:
        """All traces end."""
        self.memory.trace[env] = 0.0
        self.memory.alive[env] = 0
        self.memory.previous[env] = 0.0
