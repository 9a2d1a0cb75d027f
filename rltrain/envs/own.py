"""Registers our own environments: those that tell exploration strategies apart, and one of pixels."""

from __future__ import annotations

from typing import NamedTuple

import gymnasium as gym


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
