"""Scale the reward that the agent learns from by how much returns vary; the reported return stays unscaled."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from gymnasium.vector import VectorEnv
from pydantic import Field

from rltrain.core import Array, State
from rltrain.envs.normalization import NormalizationSettings
from rltrain.envs.vector import StatefulVectorWrapper
from rltrain.moments import RunningMoments


class NormalizeReward:
    """The agent sees clip(reward / sqrt(variance + epsilon), -clip, clip).

    The variance is that of the discounted return so far, R_t = gamma R_(t-1) + r_t from the beginning of each
    episode, over all steps of all environments. The mean is not taken away: that would change which policy is best.
    The statistics stay frozen in evaluation. An agent with replay is refused: its rewards would be of many scales.
    Source: Engstrom et al. 2020, "Implementation Matters in Deep Policy Gradients", section 3; defaults of
    Stable-Baselines3's VecNormalize.
    """

    class Config(NormalizationSettings):
        """Discount and clipping."""

        in_replay: ClassVar[str] = (
            "normalize_reward: replay would keep rewards as they were scaled when they were paid, the first ones far "
            "too large: use scale_reward"
        )
        gamma: float = Field(default=0.99, ge=0, le=1)
        """Discount of the return whose variance is taken; usually the agent's."""

    level = "vector"

    def __init__(self, config: Config) -> None:
        self.config = config

    def wrap(self, envs: VectorEnv) -> StatefulVectorWrapper:
        """Return `envs` with scaled rewards."""
        return _Scaled(envs, self.config)


class _Scaled(StatefulVectorWrapper):
    name = "normalize_reward"

    def __init__(self, envs: VectorEnv, config: NormalizeReward.Config) -> None:
        super().__init__(envs)
        self._config = config
        self._statistics = RunningMoments(())
        self._returns = np.zeros(envs.num_envs)  # (N,) discounted, of the open episodes

    def reset(self, *, seed: Any = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Begin episodes at return 0."""
        mask = None if options is None else options.get("reset_mask")
        self._returns[slice(None) if mask is None else mask] = 0.0
        return self.env.reset(seed=seed, options=options)

    def step(self, actions: Any) -> tuple[Any, Array, Array, Array, dict[str, Any]]:
        """Scale the rewards, by a variance that includes this step's returns."""
        obs, reward, terminated, truncated, info = self.env.step(actions)
        if self.training:
            self._returns *= self._config.gamma
            self._returns += reward
            self._statistics.update(self.team.rows(self._returns))
            self._returns[terminated | truncated] = 0.0
        clip = self._config.clip
        scaled = reward / np.sqrt(self._statistics.var + self._config.epsilon)
        return obs, np.minimum(np.maximum(scaled, -clip), clip), terminated, truncated, info

    def begun_anew(self, index: int, obs: Any) -> Any:
        """Begin at return 0 where `reset` does not know of it."""
        self._returns[index] = 0.0
        return obs

    def state_dict(self) -> State:
        """The statistics, and the returns of the open episodes."""
        return self._statistics.state_dict() | {"returns": self._returns.copy()}

    def load_state_dict(self, state: State) -> None:
        """Restore the state. An evaluation has environments of its own, maybe more or fewer, and leaves the returns."""
        self._statistics.load_state_dict(state)
        if self.training:
            self._returns = np.array(state["returns"], np.float64)
