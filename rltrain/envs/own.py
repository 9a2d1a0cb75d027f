"""Registers our own environments: those that tell exploration strategies apart, and one of pixels."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from importlib import import_module, util
from typing import NamedTuple

import gymnasium as gym
from gymnasium.envs.registration import load_env_creator

from rltrain.core import ConfigError
from rltrain.envs import mujoco


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
    """A package that environments need whose ids, or whose places in Gymnasium, begin alike."""

    module: str
    extra: str
    load: Callable[[str], object] = import_module


_MINIGRID = _Package("minigrid", "minigrid")
_PACKAGES = {
    "ALE/": _Package("ale_py", "atari"),
    "MiniGrid-": _MINIGRID,
    "BabyAI-": _MINIGRID,
    "gymnasium.envs.mujoco.": _Package("mujoco", "mujoco", mujoco.load),
    "gymnasium.envs.box2d.": _Package("Box2D", "box2d"),
}


def prepare(env_id: str) -> None:
    """Load the package that this id needs, and no other. Raises ConfigError where it is not installed."""
    for prefix, package in _PACKAGES.items():
        if _place(env_id).startswith(prefix):
            if util.find_spec(package.module) is None:
                raise ConfigError(f"{env_id} is not installed: pip install 'rltrain[{package.extra}]'")
            package.load(package.module)
    with suppress(Exception):  # of whatever the environment imports; it is told where the environment is made
        load_env_creator(_place(env_id))
    mujoco.hear()


def _place(env_id: str) -> str:
    """Where Gymnasium finds an environment; the id itself where it does not know it."""
    spec = gym.registry.get(env_id)
    return env_id if spec is None else str(spec.entry_point)
