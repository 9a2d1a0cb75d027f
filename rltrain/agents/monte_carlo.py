"""First-visit Monte Carlo control: learns from whole episodes, and trusts no estimate but returns.

When the episode is over, for the first visit of every pair in it,

    G_t = r_t + gamma r_(t+1) + ... + gamma**(T-t-1) r_(T-1)
    Q(s_t, a_t) += alpha (G_t - Q(s_t, a_t)),     alpha = learning_rate / (returns of the pair so far)**visit_power

With `learning_rate: 1, visit_power: 1`, Q is the average of the returns, as in the book. A time limit
cuts a return short: what is beyond is then worth Q(s_T, a_T), with a_T drawn from the policy, so that a
limit does not teach that the world ends there.
Source: Sutton and Barto 2018, section 5.4 (on-policy first-visit Monte Carlo control).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from rltrain.compilable import compilable
from rltrain.core import Array, EnvSpec, Problem
from rltrain.tabular import MAX_ENTRIES, Constants, Step, TabularAgent, TabularSettings, move, step_size


class EpisodeMemory(NamedTuple):
    """The table, and the open episode of every environment. T is the time limit."""

    q: Array  # (S, A)
    visits: Array  # (S, A)
    moments: Array  # (S, A, 2)
    returns: Array  # (S, A) int64: returns that each pair has learnt from
    first: Array  # (N, S, A) int64: step of the open episode at which a pair came first, -1 for not yet
    obs: Array  # (N, T) int64
    action: Array  # (N, T) int64
    reward: Array  # (N, T)
    length: Array  # (N,) int64


@compilable
def learn(memory: Any, constants: Constants, step: Step, policy: Any, rng: Any) -> None:
    """Write the step down; at the episode's end go through it backwards."""
    env, now = step.env, memory.length[step.env]
    memory.obs[env, now] = step.obs
    memory.action[env, now] = step.action
    memory.reward[env, now] = step.reward
    memory.length[env] += 1
    if memory.first[env, step.obs, step.action] < 0:
        memory.first[env, step.obs, step.action] = now
    if not (step.terminated or step.truncated):
        return
    total = 0.0 if step.terminated else memory.q[step.next_obs, step.next_action]
    for time in range(now, -1, -1):
        obs, action = memory.obs[env, time], memory.action[env, time]
        total = memory.reward[env, time] + constants.gamma * total
        if memory.first[env, obs, action] == time:
            memory.first[env, obs, action] = -1
            memory.returns[obs, action] += 1
            alpha = step_size(step.learning_rate, constants.visit_power, memory.returns[obs, action])
            move(memory, obs, action, total, alpha)
    memory.length[env] = 0


class MonteCarloSettings(TabularSettings):
    """Settings of Monte Carlo control."""

    def problems(self, config: Any, spec: EnvSpec) -> Iterator[Problem]:
        """Episodes must end, and fit into memory."""
        found = list(super().problems(config, spec))
        yield from found
        if spec.max_episode_steps is None:
            yield Problem(
                "agent.name",
                f"monte_carlo learns when an episode ends, and {spec.id} has no step limit: set env.max_episode_steps",
            )
        elif not found and spec.num_envs * (spec.max_episode_steps + _entries(spec)) > MAX_ENTRIES:
            yield Problem("agent.name", "open episodes would not fit into memory: use fewer environments")


def _entries(spec: EnvSpec) -> int:
    return int(spec.observation_space.n) * int(spec.action_space.n)  # type: ignore[attr-defined]


class MonteCarlo(TabularAgent):
    """On-policy control from whole returns: no bootstrapping, so no bias, and much variance."""

    Config = MonteCarloSettings
    draws_next = True
    learn = staticmethod(learn)

    def make_memory(self) -> EpisodeMemory:
        """An empty table and empty episodes."""
        envs, limit = self.spec.num_envs, self.spec.max_episode_steps
        assert limit is not None
        tables = self.tables()
        steps = (np.zeros((envs, limit), np.int64), np.zeros((envs, limit), np.int64), np.zeros((envs, limit)))
        first = np.full((envs, *self.shape), -1, np.int64)
        return EpisodeMemory(*tables, np.zeros(self.shape, np.int64), first, *steps, np.zeros(envs, np.int64))

    def forget(self, env: int) -> None:
        """The open episode is empty."""
        self.memory.first[env] = -1
        self.memory.length[env] = 0
