"""n-step SARSA: waits n steps before it trusts the table, and so carries a reward back n states at once.

    G = r_t + gamma r_(t+1) + ... + gamma**(n-1) r_(t+n-1) + gamma**n Q(s_(t+n), a_(t+n))
    Q(s_t, a_t) += alpha (G - Q(s_t, a_t))

At an episode's end the steps that still wait get the shorter sums that are left to them: without a last
term beyond a terminal state, with one at a time limit.
Source: Sutton and Barto 2018, section 7.2.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from pydantic import Field

from rltrain.compilable import compilable
from rltrain.core import Array
from rltrain.tabular import Step, TabularAgent, TabularSettings, move, step_size


class WaitingMemory(NamedTuple):
    """The table, and the last steps of the open episode of every environment, oldest first."""

    q: Array  # (S, A)
    visits: Array  # (S, A)
    moments: Array  # (S, A, 2)
    updates: Array  # (S, A) int64: sums that each pair has learnt from
    obs: Array  # (N, n) int64
    action: Array  # (N, n) int64
    reward: Array  # (N, n)
    waiting: Array  # (N,) int64: how many of them wait


class WaitingConstants(NamedTuple):
    """The numbers of the rule."""

    gamma: float
    visit_power: float
    n_step: int


@compilable
def learn_oldest(memory: Any, constants: Any, step: Step, beyond: float) -> None:
    """Give the oldest waiting pair its sum of rewards, and `beyond`, the value of what follows them."""
    env = step.env
    target = beyond
    for index in range(memory.waiting[env] - 1, -1, -1):
        target = memory.reward[env, index] + constants.gamma * target
    obs, action = memory.obs[env, 0], memory.action[env, 0]
    memory.updates[obs, action] += 1
    alpha = step_size(step.learning_rate, constants.visit_power, memory.updates[obs, action])
    move(memory, obs, action, target, alpha)
    memory.waiting[env] -= 1
    for index in range(memory.waiting[env]):
        memory.obs[env, index] = memory.obs[env, index + 1]
        memory.action[env, index] = memory.action[env, index + 1]
        memory.reward[env, index] = memory.reward[env, index + 1]


@compilable
def learn(memory: Any, constants: Any, step: Step, policy: Any, rng: Any) -> None:
    """Let the step wait; learn from the one n steps ago, or from all that wait when the episode ends."""
    env, newest = step.env, memory.waiting[step.env]
    memory.obs[env, newest] = step.obs
    memory.action[env, newest] = step.action
    memory.reward[env, newest] = step.reward
    memory.waiting[env] += 1
    beyond = 0.0 if step.terminated else memory.q[step.next_obs, step.next_action]
    if step.terminated or step.truncated:
        while memory.waiting[env] > 0:
            learn_oldest(memory, constants, step, beyond)
    elif memory.waiting[env] == constants.n_step:
        learn_oldest(memory, constants, step, beyond)


class NStepSarsaSettings(TabularSettings):
    """Settings of n-step SARSA."""

    n_step: int = Field(default=4, ge=1, le=10_000)
    """Rewards summed before the value of the pair reached is trusted."""


class NStepSarsa(TabularAgent):
    """On-policy control between one-step SARSA (n_step 1) and Monte Carlo (n_step beyond every episode)."""

    Config = NStepSarsaSettings
    draws_next = True
    learn = staticmethod(learn)

    def make_memory(self) -> WaitingMemory:
        """An empty table, and nothing that waits."""
        size = (self.spec.num_envs, self.config.n_step)
        obs, action = np.zeros(size, np.int64), np.zeros(size, np.int64)
        updates, waiting = np.zeros(self.shape, np.int64), np.zeros(size[0], np.int64)
        return WaitingMemory(*self.tables(), updates, obs, action, np.zeros(size), waiting)

    def make_constants(self) -> WaitingConstants:
        """Discount, power of the visits, and n."""
        return WaitingConstants(self.config.gamma, self.config.visit_power, self.config.n_step)

    def forget(self, env: int) -> None:
        """Nothing waits any more."""
        self.memory.waiting[env] = 0
