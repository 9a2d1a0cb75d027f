"""SARSA: on-policy, learns the value of what it does, exploration included.

    Q(s, a) += alpha (r + gamma Q(s', a') - Q(s, a))      (0 beyond a terminal state)

a' is the action that is really taken next. At a time limit one is drawn to bootstrap from, and the next
episode draws its own.
Source: Rummery and Niranjan 1994; Sutton and Barto 2018, equation 6.7.
"""

from __future__ import annotations

from typing import Any

from rltrain.compilable import compilable
from rltrain.tabular import Step, TabularAgent, TabularSettings, move, step_size


@compilable
def learn(memory: Any, constants: Any, step: Step, policy: Any, rng: Any) -> None:
    """Move Q(s, a) towards the reward and the value of the next action."""
    q = memory.q
    target = step.reward
    if not step.terminated:
        target += constants.gamma * q[step.next_obs, step.next_action]
    alpha = step_size(step.learning_rate, constants.visit_power, memory.visits[step.obs, step.action])
    move(memory, step.obs, step.action, target, alpha)


class Sarsa(TabularAgent):
    """On-policy one-step control: bootstraps from the action taken next."""

    Config = TabularSettings
    draws_next = True
    learn = staticmethod(learn)
