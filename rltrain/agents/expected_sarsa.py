"""Expected SARSA: as SARSA, with the average over the next action in place of the one that is taken.

    Q(s, a) += alpha (r + gamma sum_a' pi(a' | s') Q(s', a') - Q(s, a))      (0 beyond a terminal state)

pi is the exploring policy, so it needs an exploration whose probabilities have a closed form.
Source: van Seijen et al. 2009, https://doi.org/10.1109/ADPRL.2009.4927542; Sutton and Barto 2018, equation 6.9.
"""

from __future__ import annotations

from typing import Any, ClassVar

from rltrain.compilable import compilable
from rltrain.tabular import Step, TabularAgent, TabularSettings, move, step_size


@compilable
def learn(memory: Any, constants: Any, step: Step, policy: Any, rng: Any) -> None:
    """Move Q(s, a) towards the reward and the expected value of the next action."""
    q = memory.q
    target = step.reward
    if not step.terminated:
        expected = 0.0
        for action in range(len(policy)):
            expected += policy[action] * q[step.next_obs, action]
        target += constants.gamma * expected
    alpha = step_size(step.learning_rate, constants.visit_power, memory.visits[step.obs, step.action])
    move(memory, step.obs, step.action, target, alpha)


class ExpectedSarsaSettings(TabularSettings):
    """Settings of expected SARSA."""

    requires: ClassVar[tuple[str, ...]] = ("probabilities",)


class ExpectedSarsa(TabularAgent):
    """On-policy one-step control without the variance of the next action."""

    Config = ExpectedSarsaSettings
    averages_policy = True
    learn = staticmethod(learn)
