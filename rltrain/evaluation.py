"""Greedy evaluation: many episodes at once, each on a seed of its own, and what they amount to."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from gymnasium.vector import VectorEnv

from rltrain.config.schema import EvalSettings
from rltrain.core import Array, EnvSpec
from rltrain.envs.episode import LOST
from rltrain.envs.vector import begin, call
from rltrain.statistics.aggregates import interquartile_mean
from rltrain.statistics.intervals import t_interval

DEFAULT_CAP = 1_000
"""Steps after which an evaluation episode is cut where the environment has no limit of its own."""


@dataclass(frozen=True)
class Episodes:
    """What E evaluation episodes were like."""

    returns: Array  # (E,) undiscounted, as the environment pays
    lengths: Array  # (E,) agent steps
    successes: Array | None  # (E,) bool, None where the environment does not tell
    capped: int  # episodes cut by the cap of the evaluation, not by the environment


@dataclass(frozen=True)
class EvalProtocol:
    """How an evaluation is done: its cap, and when an episode is a success."""

    max_episode_steps: int
    success_return: float | None = None
    success_definition: str | None = None
    overrides: bool = False  # what the YAML says of success goes before what the environment tells

    @classmethod
    def of(cls, settings: EvalSettings, spec: EnvSpec) -> EvalProtocol:
        """The protocol that settings and environment ask for."""
        limits = [limit for limit in (settings.max_episode_steps, spec.max_episode_steps) if limit is not None]
        cap = min(limits, default=DEFAULT_CAP)  # beyond the environment's own limit no step would be played
        if settings.success is not None:
            bar = settings.success.return_at_least
            return cls(cap, bar, f"return of at least {bar:g} (eval.success)", overrides=True)
        if spec.reward_threshold is not None:
            bar = float(spec.reward_threshold)
            return cls(cap, bar, f"return of at least {bar:g} (the environment's reward threshold)")
        return cls(cap)

    def successes(self, returns: Array, told: Array | None) -> tuple[Array | None, str | None]:
        """Success of each episode (E,) and what it means; `told` is what the environment says, if anything."""
        if told is not None and not self.overrides:
            return told, "the environment's is_success"
        if self.success_return is None:
            return None, None
        return returns >= self.success_return, self.success_definition


class _Outcome(NamedTuple):
    value: float  # undiscounted return
    length: int
    success: bool | None  # None where the environment does not tell
    capped: bool


def run_episodes(
    policy: Callable[[Array], Array], envs: VectorEnv, seeds: Sequence[int], max_episode_steps: int
) -> Episodes:
    """Run one episode on each seed, as many at once as `envs` has environments.

    Each episode belongs to its seed, so short episodes are not counted more often than long ones. An episode that
    was lost with its worker process is played again, on its seed.
    """
    found: dict[int, _Outcome] = {}
    while todo := [episode for episode in range(len(seeds)) if episode not in found][: envs.num_envs]:
        outcomes = _play(policy, envs, [seeds[episode] for episode in todo], max_episode_steps)
        found |= {episode: outcome for episode, outcome in zip(todo, outcomes, strict=True) if outcome is not None}
    ordered = [found[episode] for episode in range(len(seeds))]
    told = any(outcome.success is not None for outcome in ordered)
    return Episodes(
        np.array([outcome.value for outcome in ordered], np.float64),
        np.array([outcome.length for outcome in ordered], np.int64),
        np.array([bool(outcome.success) for outcome in ordered]) if told else None,
        sum(outcome.capped for outcome in ordered),
    )


def _play(
    policy: Callable[[Array], Array], envs: VectorEnv, seeds: list[int], max_episode_steps: int
) -> list[_Outcome | None]:
    """Run at most as many episodes as there are environments, all at once; None for one that was lost."""
    outcomes: list[_Outcome | None] = [None] * len(seeds)
    running = np.arange(envs.num_envs) < len(seeds)
    obs, _ = begin(envs, seeds + seeds[:1] * (envs.num_envs - len(seeds)))  # what fills up is ignored
    for _ in range(max_episode_steps):
        obs, _, terminated, truncated, info = envs.step(policy(obs))
        done = terminated | truncated
        if done.any():
            whole = done & running & ~info.get(LOST, np.zeros_like(done))
            told = info.get("_episode_success", np.zeros_like(done))
            for index in map(int, np.flatnonzero(whole)):
                success = bool(info["episode_success"][index]) if told[index] else None
                value, length = float(info["episode_return"][index]), int(info["episode_length"][index])
                outcomes[index] = _Outcome(value, length, success, capped=False)
            running &= ~done
            if not running.any():
                return outcomes
            obs, _ = envs.reset(options={"reset_mask": done})
    open_returns = call(envs, "running_return")
    for index in map(int, np.flatnonzero(running)):
        if open_returns[index] is not None:  # a cut episode alone does not make success defined
            outcomes[index] = _Outcome(float(open_returns[index]), max_episode_steps, None, capped=True)
    return outcomes


def summarise(episodes: Episodes, protocol: EvalProtocol, *, interval: bool = True) -> dict[str, Any]:
    """The figures of an evaluation, under the names that `rltrain eval --json` prints.

    While training nothing reads the interval, and without it SciPy need not be loaded.
    """
    returns = episodes.returns
    successes, definition = protocol.successes(returns, episodes.successes)
    bounds = t_interval(returns) if interval else None
    return {
        "return_mean": float(returns.mean()),
        "return_std": float(returns.std(ddof=1)) if len(returns) > 1 else 0.0,
        "return_ci95": None if bounds is None else list(bounds),
        "return_min": float(returns.min()),
        "return_max": float(returns.max()),
        "return_iqm": float(interquartile_mean(returns)),
        "length_mean": float(episodes.lengths.mean()),
        "success_rate": None if successes is None else float(np.mean(successes)),
        "success_definition": definition,
        "capped_episodes": episodes.capped,
        "max_episode_steps": protocol.max_episode_steps,
    }
