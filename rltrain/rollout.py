"""What an agent did since its last update, and what it was worth.

Legend: T steps, N environments, I numbers of an encoded observation (for an image, its whole shape).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import DTypeLike
from pydantic import Field

from rltrain.core import Array, RltrainError, State
from rltrain.nn.distributions import Distribution
from rltrain.settings import Settings


class BadObservation(RltrainError):
    """An observation is not finite."""

    exit_code = 65


class IntrinsicSettings(Settings):
    """A second value of the state: what bonuses will pay, apart from what the environment will.

    A = extrinsic_coef A_E + coef A_I. The two returns have a discount each, and the intrinsic one need not end with the
    episode, so that an agent does not shun what is new because it may end there.
    Source: Burda et al. 2018, sections 2.3 and 3.5, "Exploration by Random Network Distillation", which has the
    defaults. https://arxiv.org/abs/1810.12894
    """

    gamma: float = Field(default=0.99, ge=0, lt=1)
    """Discount per step of what bonuses pay."""
    coef: float = Field(default=1.0, ge=0)
    """Weight of the bonuses' advantage."""
    extrinsic_coef: float = Field(default=2.0, ge=0)
    """Weight of the environment's advantage."""
    episodic: bool = False
    """Whether the sum of bonuses ends with the episode, as that of rewards does."""


def gae(reward: Array, value: Array, next_value: Array, over: Array, gamma: float, lam: float) -> Array:
    """Generalised advantage estimates (T, N).

    delta_t = r_t + gamma V(s'_t) - V(s_t);   A_t = delta_t + gamma lambda A_(t+1), where no episode ends at t.
    lambda = 1 is the return minus the value, lambda = 0 the TD error. All arguments (T, N); `next_value` is 0 where
    the task ended and the value of the true successor where it was cut short; `over` says where an episode ended.
    Source: Schulman et al. 2016, equation 16. https://arxiv.org/abs/1506.02438
    """
    advantage = reward + gamma * next_value - value
    decay = np.where(over, 0.0, gamma * lam).astype(value.dtype)
    for t in range(len(advantage) - 2, -1, -1):
        advantage[t] += decay[t] * advantage[t + 1]
    return advantage


def check_finite(obs: Array) -> None:
    """Raise BadObservation where one of these observations (B, I) is not finite; bytes always are."""
    if obs.dtype.kind == "f" and not np.isfinite(obs).all():
        row = int(np.flatnonzero(~np.isfinite(obs).all(axis=1))[0])
        raise BadObservation(f"the environment returned an observation that is not finite in float32: {obs[row]}")


class Rollout:
    """T steps of N environments, one row a step."""

    def __init__(
        self, steps: int, envs: int, shape: tuple[int, ...], policy: Distribution, dtype: DTypeLike = np.float32
    ) -> None:
        """`shape` and `dtype` are an encoded observation's."""
        self._seen = np.zeros((steps + 1, envs, *shape), dtype)
        self.obs, self._last = self._seen[:-1], self._seen[-1]  # the last is what came after the latest step
        self.choice = np.zeros((steps, envs, policy.choice_size), policy.choice_dtype)
        self.reward = np.zeros((steps, envs), np.float32)
        self.bonus = np.zeros((steps, envs), np.float32)  # what has a value of its own
        self.terminated = np.zeros((steps, envs), bool)
        self.over = np.zeros((steps, envs), bool)
        self._cut: list[tuple[int, int, Array]] = []  # (t, n, observation) where an episode was cut short
        self.steps = 0

    @property
    def full(self) -> bool:
        """Whether there is no room for another step."""
        return self.steps == len(self.obs)

    def add(
        self,
        obs: Array,
        choice: Array,
        reward: Array,
        next_obs: Array,
        terminated: Array,
        truncated: Array,
        bonus: Array | float = 0.0,
    ) -> None:
        """Take in a step; observations are encoded (N, I), and `bonus` is what was paid beside `reward`."""
        t = self.steps
        self.obs[t], self.choice[t], self.reward[t], self.bonus[t] = obs, choice, reward, bonus
        self.terminated[t] = terminated
        np.logical_or(terminated, truncated, out=self.over[t])
        if np.count_nonzero(truncated):  # a fifth of what any() takes
            for n in np.flatnonzero(truncated & ~terminated):
                self._cut.append((t, int(n), next_obs[n].copy()))
        self._last[:] = next_obs
        self.steps += 1

    def abandon(self, env: int) -> None:
        """The open episode of an environment goes no further: its last step counts as cut short."""
        t = self.steps - 1
        if t >= 0 and not self.over[t, env]:
            self.over[t, env] = True
            self._cut.append((t, env, self._last[env].copy()))

    def clear(self) -> None:
        """Begin anew."""
        self._cut, self.steps = [], 0

    def everything_seen(self) -> Array:
        """All observations whose value is needed, (T * N + N + cut short, I). Raises BadObservation.

        They may lie in the rollout's own memory.
        """
        seen = self._seen.reshape(-1, *self._seen.shape[2:])
        if self._cut:
            seen = np.concatenate((seen, np.stack([obs for _, _, obs in self._cut])))
        check_finite(seen)
        return seen

    def next_values(self, values: Array, *, episodic: bool = True) -> Array:
        """Value after every step (T, N): 0 where the task ended, from the values of `everything_seen`.

        Not `episodic`, it is the value of what was seen next: beyond an end the first observation of the next episode,
        but the ended one's last where the rollout ends with it, since the next has not begun.
        """
        steps, envs = self.reward.shape
        after = values[envs : steps * envs + envs].reshape(steps, envs).copy()
        if not episodic:
            return after
        for (t, n, _), value in zip(self._cut, values[steps * envs + envs :], strict=True):
            after[t, n] = value
        after[self.terminated] = 0
        return after

    def advantages(self, values: Array, gamma: float, lam: float, intrinsic: IntrinsicSettings | None) -> Array:
        """Advantages (T * N, H) of the reward and, if it is apart, of the bonus, from the values (., H) of all seen."""
        over, value = self.over, values[: self.over.size].reshape(*self.over.shape, -1)
        parts = [gae(self.reward, value[:, :, 0], self.next_values(values[:, 0]), over, gamma, lam)]
        if intrinsic is not None:
            after = self.next_values(values[:, 1], episodic=intrinsic.episodic)
            parts.append(gae(self.bonus, value[:, :, 1], after, over & intrinsic.episodic, intrinsic.gamma, lam))
        return np.stack(parts, 2).reshape(over.size, -1)

    def state_dict(self) -> State:
        """The steps so far."""
        columns = {name: getattr(self, name)[: self.steps].copy() for name in _COLUMNS}
        cut = [{"t": t, "n": n, "obs": obs} for t, n, obs in self._cut]
        return columns | {"cut": cut, "last": self._last.copy(), "steps": self.steps}

    def load_state_dict(self, state: State) -> None:
        """Restore the state."""
        self.steps = state["steps"]
        for name in _COLUMNS:
            getattr(self, name)[: self.steps] = state[name]
        self._cut = [(row["t"], row["n"], row["obs"]) for row in state["cut"]]
        self._last[:] = state["last"]


_COLUMNS = ("obs", "choice", "reward", "bonus", "terminated", "over")
