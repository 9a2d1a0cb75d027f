"""Shift and scale observations to mean 0 and variance 1, by statistics that travel in the checkpoint."""

from __future__ import annotations

from typing import Any, ClassVar

import gymnasium as gym
import numpy as np
from gymnasium.vector import VectorEnv

from rltrain.core import Array, State
from rltrain.encoding import in_words
from rltrain.envs.episode import ENDED_ELSEWHERE
from rltrain.envs.normalization import NormalizationSettings
from rltrain.envs.vector import StatefulVectorWrapper
from rltrain.moments import Standardizer


class NormalizeObservation:
    """The agent sees clip((obs - mean) / sqrt(variance + epsilon), -clip, clip).

    Mean and variance run over all environments' observations, and stay frozen in evaluation. Agents with replay have
    `normalize_observation` among their own settings: what they replay is seen by the statistics of the present.
    """

    class Config(NormalizationSettings):
        """Clipping."""

        in_replay: ClassVar[str] = (
            "normalize_observation: replay would keep observations as they were scaled when they were seen: use "
            "agent.normalize_observation: true"
        )

    level = "vector"

    def __init__(self, config: NormalizationSettings) -> None:
        self.config = config

    def wrap(self, envs: VectorEnv) -> StatefulVectorWrapper:
        """Return `envs`, normalised."""
        return _Normalized(envs, self.config)


class _Normalized(StatefulVectorWrapper):
    name = "normalize_observation"

    def __init__(self, envs: VectorEnv, config: NormalizationSettings) -> None:
        super().__init__(envs)
        space = envs.single_observation_space
        if not isinstance(space, gym.spaces.Box):
            raise ValueError(f"normalize_observation needs a Box observation, not {in_words(space)}")
        self._statistics = Standardizer(space.shape, epsilon=config.epsilon, clip=config.clip)
        bound = np.full(space.shape, config.clip, np.float32)
        self.single_observation_space = gym.spaces.Box(-bound, bound, dtype=np.float32)
        self.observation_space = gym.vector.utils.batch_space(self.single_observation_space, envs.num_envs)

    def reset(self, *, seed: Any = None, options: dict[str, Any] | None = None) -> tuple[Array, dict[str, Any]]:
        """Normalise the first observations; only those of environments that were reset are counted."""
        mask = None if options is None else options.get("reset_mask")
        if mask is not None and not mask.any():  # an episode has ended on another rank alone
            self._count(self.team.rows(np.zeros(self.observation_space.shape), mask))
            return np.zeros(self.observation_space.shape, np.float32), {}
        obs, info = self.env.reset(seed=seed, options=options)
        self._count(self.team.rows(obs, mask))
        return self._statistics(obs), info

    def step(self, actions: Any) -> tuple[Array, Array, Array, Array, dict[str, Any]]:
        """Normalise the observations, at an episode's end too."""
        obs, reward, terminated, truncated, info = self.env.step(actions)
        if self.training:
            self._count(self.team.rows(obs))
            ended = bool(np.count_nonzero(terminated | truncated))
            if self.team.any(ended) and not ended:
                info = info | {ENDED_ELSEWHERE: True}
        return self._statistics(obs), reward, terminated, truncated, info

    def begun_anew(self, index: int, obs: Array) -> Array:
        """Normalise the first observation of an episode that `reset` does not know of; and count it, if alone."""
        row: Array = np.asarray(obs)[None]
        self._count(row[: self.team.size == 1])  # the others do not know of it
        return np.asarray(self._statistics(row)[0])

    def _count(self, rows: Array) -> None:
        if self.training:
            self._statistics.update(rows)

    def state_dict(self) -> State:
        """The statistics."""
        return self._statistics.state_dict()

    def load_state_dict(self, state: State) -> None:
        """Restore the statistics."""
        self._statistics.load_state_dict(state)
