"""Registers our own environments: those that tell exploration strategies apart, and one of pixels.

And loads the packages that bring others.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from importlib import import_module, util
from typing import NamedTuple

import gymnasium as gym
from gymnasium.envs.registration import EnvSpec, load_env_creator

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


_GYMNASIUM = "gymnasium.envs"
_MINIGRID = _Package("minigrid", "minigrid")
_PACKAGES = {
    "ALE/": _Package("ale_py", "atari"),
    "MiniGrid-": _MINIGRID,
    "BabyAI-": _MINIGRID,
    f"{_GYMNASIUM}.mujoco.": _Package("mujoco", "mujoco", mujoco.load),
    f"{_GYMNASIUM}.box2d.": _Package("Box2D", "box2d"),
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


def makeable() -> list[EnvSpec]:
    """The newest version of everything that can be made here, by name: ours, Gymnasium's, and of what is installed."""
    register()
    missing = tuple(prefix for prefix, package in _PACKAGES.items() if util.find_spec(package.module) is None)
    for prefix in _PACKAGES:
        if not prefix.startswith((_GYMNASIUM, *missing)):
            prepare(prefix)
    newest: dict[tuple[str, str], EnvSpec] = {}
    for spec in sorted(gym.registry.values(), key=lambda spec: (spec.namespace or "", spec.name, spec.version or 0)):
        newest[spec.namespace or "", spec.name] = spec
    return [spec for spec in newest.values() if not (_place(spec.id).startswith(missing) or _is_dead(spec))]


def _is_dead(spec: EnvSpec) -> bool:
    """Whether it only says where it has gone, is a game's old name, or needs JAX, which no extra of ours brings."""
    gone = getattr(spec.entry_point, "__module__", None) == _GYMNASIUM
    old = spec.namespace is None and _place(spec.id).startswith("ale_py.")
    return gone or old or spec.namespace in ("phys2d", "tabular")


def _place(env_id: str) -> str:
    """Where Gymnasium finds an environment; the id itself where it does not know it."""
    spec = gym.registry.get(env_id)
    return env_id if spec is None else str(spec.entry_point)
