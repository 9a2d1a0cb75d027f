"""Registers the environments that tell exploration strategies apart; each is known completely."""

from __future__ import annotations

import gymnasium as gym

REWARD_THRESHOLDS = {"DeepSea": 0.9, "RiverSwim": None, "NChain": None, "SparseGrid": 0.9}
_LIMITS = {"DeepSea": None, "RiverSwim": 100, "NChain": 100, "SparseGrid": 500}
_FILES = {"DeepSea": "deep_sea", "RiverSwim": "river_swim", "NChain": "n_chain", "SparseGrid": "sparse_grid"}


def register() -> None:
    """Make `rltrain/DeepSea-v0` and the others known to Gymnasium, unless they are."""
    for name, file in _FILES.items():
        if f"rltrain/{name}-v0" not in gym.registry:
            gym.register(
                f"rltrain/{name}-v0",
                entry_point=f"rltrain.envs.{file}:{name}",
                max_episode_steps=_LIMITS[name],
                reward_threshold=REWARD_THRESHOLDS[name],
            )
