"""Evaluates the greedy policy of an agent: in environments of its own, on the model where there is one, and exactly."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
from gymnasium.vector import VectorEnv

from rltrain.config.schema import Config, EnvSettings
from rltrain.core import Agent, Array, EnvSpec, State
from rltrain.envs.vector import load_wrapper_state, make_vector
from rltrain.evaluation import Episodes, EvalProtocol, run_episodes, summarise
from rltrain.exact import ExactEvaluator
from rltrain.kernels.episodes import ModelEpisodes
from rltrain.kernels.world import model_is_true
from rltrain.sittings import usable_cores

MAX_EVAL_ENVS = 128
"""Evaluation episodes that run at once, in one process."""
MAX_GAMES = 16
"""Of Atari: to load a game takes a tenth of a second and memory, and more of them step no faster than these."""


def at_once(settings: EnvSettings, episodes: int) -> int:
    """Environments in which to play so many episodes: of worker processes no more than training has, or the machine."""
    if settings.vectorization == "async":
        return min(episodes, max(settings.num_envs, usable_cores()))
    return min(episodes, MAX_EVAL_ENVS if settings.atari is None else MAX_GAMES)


class Evaluator:
    """Evaluates the greedy policy in environments of its own."""

    def __init__(self, config: Config, spec: EnvSpec, agent: Agent) -> None:
        self.protocol = EvalProtocol.of(config.eval, spec)
        self._config = config
        self._agent = agent
        self._spec = spec
        self._envs: dict[int, VectorEnv] = {}

    @cached_property
    def _exact(self) -> ExactEvaluator | None:
        """Knows the optimum, where the environment tells its model."""
        if self._spec.model is None:
            return None
        gamma = getattr(self._config.agent, "gamma", 1.0)
        return ExactEvaluator(self._spec.model, gamma=gamma, horizon=self.protocol.max_episode_steps)

    @cached_property
    def _on_model(self) -> ModelEpisodes | None:
        """Plays the same episodes sooner, where the model is known and true."""
        settings, model = self._config.env, self._spec.model
        if model is None or settings.wrappers or not model_is_true(settings, model):
            return None
        return ModelEpisodes(model, self._spec.max_episode_steps)

    def __call__(self, seeds: Sequence[int], wrappers: State, *, interval: bool = True) -> dict[str, Any]:
        """The figures of one greedy episode on each seed, under the given wrapper statistics."""
        return summarise(self.episodes(seeds, wrappers), self.protocol, interval=interval) | self.exact_figures()

    def episodes(self, seeds: Sequence[int], wrappers: State) -> Episodes:
        """One greedy episode on each seed."""
        cap = self.protocol.max_episode_steps
        if self._on_model is not None:
            return self._on_model(self._policy(), seeds, cap)
        return self._in_environment(seeds, wrappers, cap)

    def _in_environment(self, seeds: Sequence[int], wrappers: State, cap: int) -> Episodes:
        count = at_once(self._config.env, len(seeds))
        if count not in self._envs:
            self._envs[count] = make_vector(self._config.env, count, training=False)
        envs = self._envs[count]
        load_wrapper_state(envs, wrappers)
        return run_episodes(lambda obs: self._agent.act(obs, explore=False), envs, seeds, cap)

    def _policy(self) -> Array:
        """The greedy action in every state of the model."""
        assert self._spec.model is not None
        return self._agent.act(np.arange(self._spec.model.states), explore=False)

    def exact_figures(self) -> dict[str, float]:
        """The policy's exact value beside the optimum; nothing where the model is not known."""
        if self._exact is None or self._spec.model is None:
            return {}
        q = self._agent.values(np.arange(self._spec.model.states))
        return self._exact(self._policy(), q if q is not None and q.ndim == 2 else None)

    def close(self) -> None:
        """Close the environments."""
        for envs in self._envs.values():
            envs.close()
