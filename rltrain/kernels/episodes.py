"""Evaluation episodes played on the model itself: the same episodes as in the environment, sooner.

A vector of environments steps all of them until the last has finished, and each pays for what is wrapped
around it. Where the model is known and true (`model_is_true`), drawing from it with the environment's own
generator gives the same states and rewards.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from rltrain.core import Array
from rltrain.evaluation import Episodes
from rltrain.kernels.world import draw, take, world_of
from rltrain.mdp import Model


class ModelEpisodes:
    """Plays episodes of a fixed policy, one a seed."""

    def __init__(self, model: Model, limit: int | None) -> None:
        """`limit` is the environment's own step limit."""
        self._world = world_of(model, limit)

    def __call__(self, actions: Array, seeds: Sequence[int], max_episode_steps: int) -> Episodes:
        """One episode a seed with the policy `actions` (S,), as `run_episodes` would play it."""
        policy = actions.tolist()
        played = [self._play(policy, seed, max_episode_steps) for seed in seeds]
        returns, lengths, open_ = zip(*played, strict=True)
        return Episodes(np.array(returns), np.array(lengths, np.int64), None, sum(open_))

    def _play(self, policy: list[int], seed: int, cap: int) -> tuple[float, int, bool]:
        """Return, length, and whether the cap of the evaluation cut it."""
        rng = np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed)))  # as Gymnasium seeds
        state, total = draw(self._world.start, rng), 0.0
        for length in range(1, cap + 1):
            state, paid, terminated = take(self._world, state, policy[state], rng)
            total += paid
            if terminated or length == self._world.limit:
                return total, length, False
        return total, cap, True
