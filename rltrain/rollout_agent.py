"""What agents share that learn from rollouts: settings, collection, advantages of every value head.

Legend: T steps, N environments, B batch, I numbers of an observation, C numbers of a choice, H value heads.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from rltrain.core import Array, EnvSpec, Metrics, Problem, State, Transition
from rltrain.nn.arrays import Tensor, to_device
from rltrain.on_policy import OnPolicyAgent, OnPolicySettings
from rltrain.rollout import IntrinsicSettings, Rollout


class RolloutSettings(OnPolicySettings):
    """Settings of the agents that learn from rollouts."""

    intrinsic: IntrinsicSettings | None = None
    """Learn the value of what bonuses pay apart from that of the rewards; null adds bonuses to the reward."""

    def problems(self, config: Any, spec: EnvSpec) -> Iterator[Problem]:
        """What does not fit the environment, or the bonuses."""
        yield from super().problems(config, spec)
        if self.intrinsic is not None and not config.bonuses:
            yield Problem(
                "agent.intrinsic", "there is no bonus to be valued: add bonuses: [{name: rnd}], or leave it out"
            )


class Batch(NamedTuple):
    """What a gradient step sees, each (B, ...)."""

    obs: Tensor  # (B, I)
    choice: Tensor  # (B, C)
    advantage: Tensor  # (B,)
    target: Tensor  # (B, H) of the values
    old_log_prob: Tensor  # (B,)
    old_value: Tensor  # (B, H)

    def take(self, rows: Any) -> Batch:
        """Some rows."""
        return Batch(*(column[rows] for column in self))


class RolloutAgent(OnPolicyAgent):
    """Learns whenever `n_steps` vector steps are collected."""

    def __init__(self, config: Any, spec: EnvSpec, *, exploration: None, rng: np.random.Generator, device: str) -> None:
        super().__init__(config, spec, exploration=exploration, rng=rng, device=device)
        self.rollout = Rollout(self.rollout_steps, spec.num_envs, self._encode.shape, self.policy, self._encode.dtype)

    @property
    def value_heads(self) -> int:
        """One value of what is learnt from, or one of the rewards and one of the bonuses."""
        return 1 if self._config.intrinsic is None else 2

    @property
    def rollout_steps(self) -> int:
        """Vector steps between updates."""
        return int(self._config.n_steps)

    def observe(self, transition: Transition) -> None:
        """Append to the rollout."""
        super().observe(transition)
        _, _, reward, next_obs, terminated, truncated, paid = transition
        bonus: Array | float = 0.0
        if self._config.intrinsic is not None:
            assert paid is not None, "agent.intrinsic without bonuses"
            reward, bonus = reward - paid, paid
        self.rollout.add(self._seen, self._choice, reward, self._encode(next_obs), terminated, truncated, bonus)

    def update(self) -> Metrics:
        """Learn from a full rollout and forget it."""
        if not self.rollout.full:
            return {}
        metrics = self._learn()
        self.rollout.clear()
        return metrics

    @abstractmethod
    def _learn(self) -> Metrics:
        """Learn from the full rollout."""

    def _collected(self, gamma: float, lam: float) -> Batch:
        """The rollout's rows (T * N), with advantages and value targets, under the policy that acted."""
        rollout, device = self.rollout, self.network.device
        seen = to_device(rollout.everything_seen(), device)  # once: images are large
        count = rollout.over.size
        outputs = self.network.evaluate(seen)
        choice = rollout.choice.reshape(count, self.policy.choice_size)
        log_prob = self.policy.evaluate(outputs[:count, self._policy], to_device(choice, device)).log_prob
        values = outputs[:, self._value].copy() if device is None else outputs[:, self._value].cpu().numpy()
        advantages = rollout.advantages(values, gamma, lam, intrinsic := self._config.intrinsic)
        advantage, target = advantages[:, 0], advantages + values[:count]
        if intrinsic is not None:
            advantage = intrinsic.extrinsic_coef * advantage + intrinsic.coef * advantages[:, 1]
        batch = Batch(seen[:count], choice, advantage, target, log_prob, values[:count])
        return Batch(*(to_device(column, device) for column in batch))

    def abandon(self, env: int) -> None:
        """The steps of the open episode stay, as of one that was cut short."""
        self.rollout.abandon(env)

    def state_dict(self) -> State:
        """As every agent's, and the steps since the last update."""
        return super().state_dict() | {"rollout": self.rollout.state_dict()}

    def load_state_dict(self, state: State) -> None:
        """Restore the state."""
        super().load_state_dict(state)
        self.rollout.load_state_dict(state["rollout"])


def never_full(rollout: int, config: Any) -> Iterator[Problem]:
    """What is wrong where a run is shorter than one rollout."""
    if rollout > config.train.total_steps:
        yield Problem(
            "agent.n_steps",
            f"a rollout of {rollout:,} steps is never full in {config.train.total_steps:,} total steps",
        )
