"""Q-learning: off-policy, learns the greedy policy while it explores.

    Q(s, a) += alpha (r + gamma max_a' Q(s', a') - Q(s, a))      (0 beyond a terminal state)

Source: Watkins and Dayan 1992, https://doi.org/10.1007/BF00992698; Sutton and Barto 2018, equation 6.8.
"""

from __future__ import annotations

from typing import Any

from rltrain.compilable import compilable
from rltrain.tabular import Step, TabularAgent, TabularSettings, best_target, move, step_size


@compilable
def learn(memory: Any, constants: Any, step: Step, policy: Any, rng: Any) -> None:
    """Move Q(s, a) towards the reward and the best that can follow."""
    target = best_target(memory.q, constants.gamma, step.reward, step.next_obs, step.terminated)
    alpha = step_size(step.learning_rate, constants.visit_power, memory.visits[step.obs, step.action])
    move(memory, step.obs, step.action, target, alpha)


class QLearning(TabularAgent):
    """Off-policy one-step control: bootstraps from the best next action."""

    Config = TabularSettings
    learn = staticmethod(learn)
