"""Policy iteration: values the policy exactly, makes it greedy, and again, until it stays.

    V_pi = solution of  V(s) = sum_s' p(s', r | s, pi(s)) (r + gamma V(s'))
    pi(s) = argmax_a sum_s' p(s', r | s, a) (r + gamma V_pi(s'))

One round at each step of all environments together; few are needed. Begins with the lowest action everywhere.
Plans with the true model; experience does not matter.
Source: Howard 1960; Sutton and Barto 2018, section 4.3.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from rltrain.agents.value_iteration import PlannerSettings, ValueIteration
from rltrain.core import Array, EnvSpec, Problem
from rltrain.mdp import backup, greedy_policy, policy_value


class PolicyIterationSettings(PlannerSettings):
    """Settings of policy iteration."""

    def problems(self, config: Any, spec: EnvSpec) -> Iterator[Problem]:
        """Without a discount a policy that never ends has no value."""
        yield from super().problems(config, spec)
        if self.gamma == 1:
            yield Problem("agent.gamma", "policy_iteration solves for each policy's value, which needs gamma below 1")


class PolicyIteration(ValueIteration):
    """Dynamic programming, one policy a step."""

    Config = PolicyIterationSettings

    def sweep(self) -> Array:
        """Q (S, A) of the policy that is greedy now."""
        value = policy_value(self.model, greedy_policy(self.q), self.config.gamma)
        return backup(self.model, value, self.config.gamma)
