"""Registers our own environments: those that tell exploration strategies apart, and one of pixels."""

from __future__ import annotations

from importlib import import_module, util
from typing import NamedTuple

import gymnasium as gym

from rltrain.core import ConfigError


class _Entry(NamedTuple):
    """What Gymnasium is told of one."""

    file: str
    limit: int | None
    threshold: float | None


_ENTRIES = {
    "DeepSea": _Entry("deep_sea", None, 0.9),
    "RiverSwim": _Entry("river_swim", 100, None),
    "NChain": _Entry("n_chain", 100, None),
    "SparseGrid": _Entry("sparse_grid", 500, 0.9),
    "Catch": _Entry("catch", None, 1.0),
    "SwingUp": _Entry("swing_up", 500, 200.0),
}


def register() -> None:
    """Make `rltrain/DeepSea-v0` and the others known to Gymnasium, unless they are."""
    for name, entry in _ENTRIES.items():
        if f"rltrain/{name}-v0" not in gym.registry:
            gym.register(
                f"rltrain/{name}-v0",
                entry_point=f"rltrain.envs.{entry.file}:{name}",
                max_episode_steps=entry.limit,
                reward_threshold=entry.threshold,
            )


class _Package(NamedTuple):
    """A package that knows environments whose ids begin alike."""

    module: str
    extra: str


_MINIGRID = _Package("minigrid", "minigrid")
_PACKAGES = {"ALE/": _Package("ale_py", "atari"), "MiniGrid-": _MINIGRID, "BabyAI-": _MINIGRID}


def prepare(env_id: str) -> None:
    """Load the package that makes this id known, and no other. Raises ConfigError where it is not installed."""
    for prefix, package in _PACKAGES.items():
        if env_id.startswith(prefix) and env_id not in gym.registry:
            if util.find_spec(package.module) is None:
                raise ConfigError(f"{env_id} is not installed: pip install 'rltrain[{package.extra}]'")
            gym.register_envs(import_module(package.module))
