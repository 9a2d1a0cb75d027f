"""Rainbow: six improvements of the deep Q-network in one agent.

Double learning, prioritised replay, dueling networks, 3-step returns, a categorical distribution of the return (c51)
and noisy weights, as settings of which each can be changed or left out. The defaults are those of the paper for Atari,
in steps of the environment (four frames each), but for hidden_sizes, which are [512] there, and for max_grad_norm, of
which its table says nothing. Its beta goes from 0.4 to 1 within a run: set
`prioritized: {alpha: 0.5, beta: {schedule: linear, start: 0.4, end: 1.0, steps: ...}}` to the length of yours.
Source: Hessel et al. 2018, table 1, https://arxiv.org/abs/1710.02298

Difference from the paper: the two dueling streams share all hidden layers, as in dqn.
"""

from __future__ import annotations

from rltrain.agents.c51 import C51, C51Settings
from rltrain.priorities import PrioritySettings
from rltrain.settings import defaults


@defaults(
    learning_rate=6.25e-5,
    adam_eps=1.5e-4,
    buffer_size=1_000_000,
    learning_starts=20_000,
    n_step=3,
    target_update_interval=8_000,
    double=True,
    dueling=True,
    noisy=True,
    prioritized=PrioritySettings(alpha=0.5),
)
class RainbowSettings(C51Settings):
    """Settings of Rainbow."""


class Rainbow(C51):
    """C51 with every other improvement switched on."""

    Config = RainbowSettings
