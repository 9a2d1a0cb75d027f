"""The loop of every textbook: act, step, observe, update; and the outer loop that cares for the run."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from gymnasium.vector import VectorEnv

from rltrain.core import Agent, Loop, Metrics, Progress, RewardBonus, RltrainError, State, Transition
from rltrain.diagnostics import Diagnostics
from rltrain.envs.episode import ENDED_ELSEWHERE, GOES_ON, LOST, EnvironmentFault
from rltrain.envs.vector import begin, restore, snapshot

CHUNK_SECONDS = 0.2
"""A signal or the live display waits at most about this long."""


class BadBonus(RltrainError):
    """A bonus is no reward."""

    exit_code = 65


class EnvironmentLoop:
    """Runs an agent in a vector of N environments, one vector step at a time."""

    def __init__(
        self,
        agent: Agent,
        envs: VectorEnv,
        *,
        bonuses: Mapping[str, RewardBonus] | None = None,
        seeds: list[int],
        exploration: Any = None,
    ) -> None:
        """`bonuses` have names of their own, for the log; `exploration` is the agent's: how often does it explore?"""
        self.steps = 0  # environment steps
        self._agent = agent
        self.envs = envs
        self._bonuses = bonuses or {}
        self._seeds = seeds
        # Others may use the memory of a step again. Of the class, since a wrapper hands on attributes of what it wraps
        self._copies = not getattr(type(envs), "fresh_obs", False)
        self.paid = 0.0  # sum of all bonuses
        self.diagnostics = Diagnostics(
            envs.single_observation_space, envs.single_action_space, envs.num_envs, exploration
        )
        self._obs = np.array(begin(envs, seeds)[0])

    def advance(self, steps: int) -> Progress:
        """Take `steps` environment steps, rounded up to whole vector steps."""
        agent, envs = self._agent, self.envs
        progress = Progress(self.steps)
        goal = self.steps + steps
        while self.steps < goal:
            action = agent.act(self._obs)
            next_obs, reward, terminated, truncated, info = envs.step(action)
            if self._copies:
                next_obs = np.array(next_obs)
            reward = np.asarray(reward, np.float32)
            if np.count_nonzero(np.isfinite(reward)) < len(reward):  # a fifth of what all() takes
                self._refuse_reward(reward)
            transition = Transition(self._obs, action, reward, next_obs, terminated, truncated)
            if self._bonuses:
                transition = self._with_bonus(transition, progress)
            agent.observe(transition)
            self.diagnostics.add(self._obs, action)
            self.steps += envs.num_envs
            progress.metrics.update(agent.update())
            self._obs = next_obs
            if np.count_nonzero(done := terminated | truncated) or ENDED_ELSEWHERE in info:
                self._count(progress, done, info)
                first_obs, _ = envs.reset(options={"reset_mask": done})
                self._obs = next_obs.copy()  # the agent may have kept next_obs
                self._obs[done] = first_obs[done]
        progress.steps = self.steps
        progress.metrics.update(self.bonus_metrics())
        self.diagnostics.report(progress)
        return progress

    def _with_bonus(self, transition: Transition, progress: Progress) -> Transition:
        """The transition that the agent learns from; what was paid is reported in all, and by bonus if several."""
        paid = {name: part.bonus(transition) for name, part in self._bonuses.items()}
        total = np.asarray(sum(paid.values()), np.float32)
        if not np.isfinite(total).all():
            self._refuse_bonus(paid)
        self.paid = progress.bonus = self.paid + float(total.sum(dtype=np.float64))
        progress.metrics["exploration/bonus"] = total
        if len(paid) > 1:
            progress.metrics.update({f"exploration/bonus_{name}": part for name, part in paid.items()})
        return transition._replace(reward=transition.reward + total, bonus=total)

    def bonus_metrics(self) -> Metrics:
        """What the bonuses say of themselves, under their names."""
        metrics = {name: part.metrics() for name, part in self._bonuses.items()}
        return {f"exploration/{name}_{key}": value for name, part in metrics.items() for key, value in part.items()}

    def _refuse_bonus(self, paid: dict[str, np.ndarray]) -> None:
        name = next((name for name, part in paid.items() if not np.isfinite(part).all()), " and ".join(paid))
        raise BadBonus(
            f"what the bonus {name} pays is not finite after {self.steps:,} steps: lower its scale, set its clip or, "
            "where it learns, lower its learning_rate"
        )

    def _refuse_reward(self, reward: np.ndarray) -> None:
        index = int(np.flatnonzero(~np.isfinite(reward))[0])
        raise EnvironmentFault(
            f"environment {index} paid the reward {reward[index]} after {self.steps:,} steps: rewards must be finite"
        )

    def _count(self, progress: Progress, done: np.ndarray, info: dict[str, np.ndarray]) -> None:
        # A lost episode is truncated for the agent, which ends its n-step windows and traces as any truncation does,
        # so that there is nothing to abandon. It has neither a return nor a length.
        lost = info.get(LOST)
        if lost is not None:
            progress.lost += int(lost.sum())
            done = done & ~lost
        if GOES_ON in info:  # it has ended for the agent alone
            done = done & ~info[GOES_ON]
        told = info.get("_episode_success")
        for index in np.flatnonzero(done):
            progress.returns.append(float(info["episode_return"][index]))
            progress.lengths.append(int(info["episode_length"][index]))
            if told is not None and told[index]:
                progress.successes.append(bool(info["episode_success"][index]))

    def place(self, steps: int, obs: np.ndarray, paid: float) -> None:
        """Take note of where a compiled loop has taken the environments, and of what it has paid in bonuses."""
        self.steps, self._obs, self.paid = steps, obs, paid

    def state_dict(self) -> State:
        """The step, what the agent saw last, the bonuses, what was visited, and the open episodes."""
        return {
            "steps": self.steps,
            "obs": self._obs,
            "bonuses": [bonus.state_dict() for bonus in self._bonuses.values()],
            "paid": self.paid,
            "visited": self.diagnostics.state_dict(),
            "envs": snapshot(self.envs),
        }

    def load_state_dict(self, state: State) -> None:
        """Return to the saved step, in the middle of the saved episodes. The agent's state is loaded before."""
        self.steps, self.paid = state["steps"], state["paid"]
        self.diagnostics.load_state_dict(state["visited"])
        for bonus, saved in zip(self._bonuses.values(), state["bonuses"], strict=True):
            bonus.load_state_dict(saved)
        self._obs, lost = restore(self.envs, state["envs"], state["obs"], seeds=self._seeds)
        for env in lost:
            self._agent.abandon(env)
            for bonus in self._bonuses.values():
                bonus.abandon(env)


class Callback(Protocol):
    """Something that happens while training, at most every `every` environment steps."""

    every: int | None
    """Environment steps between calls that count; None for a callback that only listens."""

    def __call__(self, progress: Progress) -> bool:
        """Take in what happened. Returns True when training should stop."""


def train(
    loop: Loop,
    total_steps: int,
    callbacks: Sequence[Callback],
    *,
    interrupted: Callable[[], bool] = lambda: False,
) -> None:
    """Advance `loop` to `total_steps`, pausing where a callback is due.

    Where it pauses depends on the clock too, so that an interruption is answered within a fraction of
    a second; this cannot change the run, since a loop goes on exactly where it paused.
    """
    intervals = [callback.every for callback in callbacks if callback.every is not None]
    chunk = 1
    while loop.steps < total_steps and not interrupted():
        until_due = min((every - loop.steps % every for every in intervals), default=total_steps)
        steps = min(until_due, total_steps - loop.steps, chunk)
        began = time.perf_counter()
        progress = loop.advance(steps)
        seconds = max(time.perf_counter() - began, 1e-9)
        chunk = max(1, min(2 * chunk, int(steps * CHUNK_SECONDS / seconds)))
        stops = [callback(progress) for callback in callbacks]  # every callback sees it
        if any(stops):
            return
