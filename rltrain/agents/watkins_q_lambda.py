"""Watkins's Q(lambda): Q-learning with eligibility traces, which end where an exploring action begins.

    delta = r + gamma max_b Q(s', b) - Q(s, a)      (0 beyond a terminal state)
    for every pair:  Q += alpha delta z
    z *= gamma lambda  if a' is greedy in s',  else  z = 0

Beyond an exploring action the return is no longer that of the greedy policy, so nothing is carried back
over it. A tie with the greatest value counts as greedy.
Source: Watkins 1989; Sutton and Barto 2018, section 12.10.
"""

from __future__ import annotations

from typing import Any, Literal

from rltrain.agents.sarsa_lambda import SarsaLambda
from rltrain.compilable import compilable
from rltrain.selection import greatest
from rltrain.tabular import Step, note, step_size
from rltrain.traces import TraceSettings, carry_back


@compilable
def learn(memory: Any, constants: Any, step: Step, policy: Any, rng: Any) -> None:
    """Carry the error of this step back along the traces, and cut them if the next action explores."""
    q = memory.q
    beyond = 0.0 if step.terminated else greatest(q[step.next_obs])
    cut = step.terminated or step.truncated or q[step.next_obs, step.next_action] < beyond
    error = step.reward + constants.gamma * beyond - q[step.obs, step.action]
    alpha = step_size(step.learning_rate, constants.visit_power, memory.visits[step.obs, step.action])
    note(memory, step.obs, step.action, error, alpha)
    carry_back(memory, constants, step, error, cut)


class WatkinsSettings(TraceSettings):
    """Settings of Watkins's Q(lambda)."""

    traces: Literal["accumulating", "replacing"] = "replacing"  # type: ignore[assignment] # dutch is for true online SARSA
    """What a visit does to its trace: + 1 or = 1."""


class WatkinsQLambda(SarsaLambda):
    """Off-policy control with eligibility traces."""

    Config = WatkinsSettings
    learn = staticmethod(learn)
