"""What agents share that learn from rollouts: settings, collection, advantages of every value head.

Legend: T steps, N environments, B batch, I numbers of an observation, C numbers of a choice, H value heads.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from typing import Any, ClassVar, NamedTuple

import numpy as np

from rltrain.core import Array, EnvSpec, Metrics, Problem, State, Transition
from rltrain.nn.arrays import Tensor, to_device
from rltrain.on_policy import OnPolicyAgent, OnPolicySettings
from rltrain.rollout import IntrinsicSettings, Rollout


class RolloutSettings(OnPolicySettings):
    """Settings of the agents that learn from rollouts."""

    averages_gradients: ClassVar[bool] = True

    intrinsic: IntrinsicSettings | None = None
    """Learn the value of what bonuses pay apart from that of the rewards; null adds bonuses to the reward."""

    def problems(self, config: Any, spec: EnvSpec) -> Iterator[Problem]:
        """What does not fit the environment, or the bonuses."""
        yield from super().problems(config, spec)
        if self.intrinsic is not None and not config.bonuses:
            yield Problem(
                "agent.intrinsic", "there is no bonus to be valued: add bonuses: [{name: rnd}], or leave it out"
            )


class RolloutBatch(NamedTuple):
    """What a gradient step sees, each (B, ...)."""

    obs: Tensor  # (B, I)
    choice: Tensor  # (B, C)
    advantage: Tensor  # (B,)
    target: Tensor  # (B, H) of the values
    old_log_prob: Tensor  # (B,)
    old_value: Tensor  # (B, H)

    def take(self, rows: Any) -> RolloutBatch:
        """Some rows."""
        return RolloutBatch(*(column[rows] for column in self))


class Minibatch(NamedTuple):
    """Some rows of the rollouts of all ranks."""

    own: RolloutBatch  # (B', ...) those of this rank
    among: Tensor  # (B,) the advantages of all
    share: float  # B' / B


class RolloutAgent(OnPolicyAgent):
    """Learns whenever `n_steps` vector steps are collected.

    In a team the rollout is what all ranks collected: a gradient is the mean over everybody's rows, and so are the
    mean and the deviation of advantages.
    """

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

    def _collected(self, gamma: float, lam: float) -> RolloutBatch:
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
        batch = RolloutBatch(seen[:count], choice, advantage, target, log_prob, values[:count])
        return RolloutBatch(*(to_device(column, device) for column in batch))

    def _everyone(self, column: Tensor) -> Tensor:
        """A column of all ranks' rows (T * R * N, ...), from that of this rank's (T * N, ...)."""
        rest = column.shape[1:]
        ranks = self._team.gather(column.reshape(*self.rollout.over.shape, *rest))  # (R, T, N, ...)
        return ranks.swapaxes(0, 1).reshape(-1, *rest)

    def _minibatches(self, batch: RolloutBatch, among: Tensor, size: int) -> Iterator[Minibatch]:
        """All rows in random order, `size` at a time: of each what is here, and the advantages of all of it.

        A rank that has no row of a minibatch takes any, and it counts nothing.
        """
        device, count = self.network.device, len(among)
        order = self._rng.permutation(count)
        here, places = self._team.locate(order, self.rollout.over.shape[1])
        before = np.append(0, np.cumsum(here))  # rows of this rank that come before a place in the order
        batch, among = batch.take(to_device(places, device)), among[to_device(order, device)]
        for at in range(0, count, size):
            to = min(at + size, count)
            first, last = int(before[at]), int(before[to])
            some = min(first, len(places) - 1)
            yield Minibatch(batch.take(slice(some, max(last, some + 1))), among[at:to], (last - first) / (to - at))

    def _gradient(self, share: float, obs: Tensor, *arguments: Tensor) -> Any:
        """Fill the network's gradient with that of everybody's loss; returns what `_output_gradient` tells beside it.

        The rows that are given are a `share` of everybody's.
        """
        learnt = self.network.learn(self._output_gradient, obs, *arguments)
        self._team.average(self.network.gradient, share)
        return learnt

    @abstractmethod
    def _output_gradient(self, outputs: Tensor, *arguments: Any) -> tuple[Tensor, Any]:
        """Gradient of the loss, a mean over rows, at the outputs (B, O), and what is to be told of them."""

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


def minibatch_steps(agent: Any, total_steps: int, num_envs: int) -> int:
    """About how many gradient steps a run takes that goes `n_epochs` times through each rollout by `batch_size`."""
    rollout = agent.n_steps * num_envs
    return int(total_steps // rollout * agent.n_epochs * -(-rollout // agent.batch_size))


def minibatch_problems(agent: Any, config: Any, spec: EnvSpec) -> Iterator[Problem]:
    """What of `n_steps` and `batch_size` does not fit the environment or the run's length."""
    rollout = agent.n_steps * spec.num_envs
    if agent.batch_size > rollout:
        yield Problem(
            "agent.batch_size",
            f"{agent.batch_size:,} is more than a rollout has: {agent.n_steps:,} steps of {spec.num_envs} "
            f"environments are {rollout:,}",
        )
    yield from never_full(rollout, config)


def never_full(rollout: int, config: Any) -> Iterator[Problem]:
    """What is wrong where a run is shorter than one rollout."""
    if rollout > config.train.total_steps:
        yield Problem(
            "agent.n_steps",
            f"a rollout of {rollout:,} steps is never full in {config.train.total_steps:,} total steps",
        )
