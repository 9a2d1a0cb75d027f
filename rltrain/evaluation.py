"""Greedy evaluation: many episodes at once, each on a seed of its own, and what they amount to."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from gymnasium.vector import VectorEnv

from rltrain.config.schema import EvalSettings
from rltrain.core import Array, EnvSpec
from rltrain.envs.vector import begin, call

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
    success_return: float | None
    success_definition: str | None

    @classmethod
    def of(cls, settings: EvalSettings, spec: EnvSpec) -> EvalProtocol:
        """The protocol that settings and environment ask for."""
        cap = settings.max_episode_steps or spec.max_episode_steps or DEFAULT_CAP
        if settings.success is not None:
            bar = settings.success.return_at_least
            return cls(cap, bar, f"return of at least {bar:g} (eval.success)")
        if spec.reward_threshold is not None:
            bar = float(spec.reward_threshold)
            return cls(cap, bar, f"return of at least {bar:g} (the environment's reward threshold)")
        return cls(cap, None, None)

    def successes(self, episodes: Episodes) -> tuple[Array | None, str | None]:
        """Success per episode (E,) and what it means; what the YAML says goes before the environment."""
        if episodes.successes is not None and "eval.success" not in (self.success_definition or ""):
            return episodes.successes, "the environment's is_success"
        if self.success_return is None:
            return None, None
        return episodes.returns >= self.success_return, self.success_definition


def run_episodes(
    policy: Callable[[Array], Array], envs: VectorEnv, seeds: Sequence[int], max_episode_steps: int
) -> Episodes:
    """Run one episode on each seed, as many at once as `envs` has environments.

    Each episode belongs to its seed, so short episodes are not counted more often than long ones.
    """
    count, at_once = len(seeds), envs.num_envs
    returns, lengths = np.zeros(count), np.zeros(count, np.int64)
    successes: dict[int, bool] = {}
    capped = 0
    for start in range(0, count, at_once):
        batch = list(seeds[start : start + at_once])
        running = np.arange(at_once) < len(batch)
        batch += batch[:1] * (at_once - len(batch))  # the last batch is filled up and these are ignored
        obs, _ = begin(envs, batch)
        for _ in range(max_episode_steps):
            obs, _, terminated, truncated, info = envs.step(policy(obs))
            done = terminated | truncated
            if done.any():
                for index in map(int, np.flatnonzero(done & running)):
                    returns[start + index] = info["episode_return"][index]
                    lengths[start + index] = info["episode_length"][index]
                    if "episode_success" in info and info["_episode_success"][index]:
                        successes[start + index] = bool(info["episode_success"][index])
                running &= ~done
                if not running.any():
                    break
                obs, _ = envs.reset(options={"reset_mask": done})
        else:
            open_returns = call(envs, "running_return")
            for index in map(int, np.flatnonzero(running)):
                returns[start + index], lengths[start + index] = open_returns[index], max_episode_steps
                successes.setdefault(start + index, False)
            capped += int(running.sum())
    told = len(successes) > capped  # a cut episode alone does not make success defined
    success = np.array([successes.get(index, False) for index in range(count)]) if told else None
    return Episodes(returns, lengths, success, capped)


def interquartile_mean(values: Array) -> float:
    """Mean of what is left when a quarter, rounded down, is cut off at either end.

    Source: Agarwal et al. 2021, "Deep Reinforcement Learning at the Edge of the Statistical Precipice".
    """
    ordered = np.sort(np.asarray(values, np.float64), axis=None)
    cut = len(ordered) // 4
    return float(ordered[cut : len(ordered) - cut].mean())


def t_interval(values: Array, confidence: float = 0.95) -> tuple[float, float] | None:
    """Student's t interval for the mean of independent values; None for fewer than two."""
    if len(values) < 2:
        return None
    from scipy.special import stdtrit

    half = float(stdtrit(len(values) - 1, (1 + confidence) / 2) * np.std(values, ddof=1) / math.sqrt(len(values)))
    mean = float(np.mean(values))
    return mean - half, mean + half


def summarise(episodes: Episodes, protocol: EvalProtocol, *, interval: bool = True) -> dict[str, Any]:
    """The figures of an evaluation, under the names that `rltrain eval --json` prints.

    While training nothing reads the interval, and without it SciPy need not be loaded.
    """
    returns = episodes.returns
    successes, definition = protocol.successes(episodes)
    bounds = t_interval(returns) if interval else None
    return {
        "return_mean": float(returns.mean()),
        "return_std": float(returns.std(ddof=1)) if len(returns) > 1 else 0.0,
        "return_ci95": None if bounds is None else list(bounds),
        "return_min": float(returns.min()),
        "return_max": float(returns.max()),
        "return_iqm": interquartile_mean(returns),
        "length_mean": float(episodes.lengths.mean()),
        "success_rate": None if successes is None else float(np.mean(successes)),
        "success_definition": definition,
        "capped_episodes": episodes.capped,
        "max_episode_steps": protocol.max_episode_steps,
    }
