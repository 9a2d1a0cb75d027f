"""A trained policy, opened from its run folder or checkpoint, to be evaluated or shown."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from gymnasium.vector import VectorEnv

from rltrain import checkpoint
from rltrain.config.load import from_dict
from rltrain.config.schema import Config
from rltrain.core import Array, ConfigError, EnvSpec, State
from rltrain.envs.vector import load_wrapper_state, make_vector
from rltrain.evaluation import run_episodes, summarise
from rltrain.evaluator import Evaluator, at_once
from rltrain.experiment import build_agent, build_exploration
from rltrain.fitting import environment
from rltrain.nn.arrays import has_gpu
from rltrain.rundir import resolve_run
from rltrain.seeding import Stream, env_seeds, generator


class SavedPolicy:
    """The greedy policy of one checkpoint."""

    def __init__(self, path: Path, saved: checkpoint.Checkpoint, config: Config, spec: EnvSpec) -> None:
        self.path = path
        self.step = saved.step
        self.config = config
        self.spec = spec
        self.wrappers: State = saved.state["loop"]["envs"]["wrappers"]
        self.agent = build_agent(config, spec, build_exploration(config))
        left = getattr(self.agent, "learns_with", ())
        self.agent.load_state_dict({key: value for key, value in saved.state["agent"].items() if key not in left})
        self.evaluator = Evaluator(config, spec, self.agent)

    @classmethod
    def open(cls, run: Path | str, which: str = "last") -> SavedPolicy:
        """Open a run's checkpoint: `last`, `best`, or a step; or the very checkpoint that `run` is.

        Raises CheckpointError where there is none, ConfigError where a part that it needs is missing.
        """
        path = resolve_run(Path(run))
        if (path / "manifest.json").is_file():
            if which != "last":
                raise ConfigError(f"--checkpoint {which}: {path} is one already")
            saved = checkpoint.load(path)
        else:
            if which not in ("last", "best") and not which.isdigit():
                raise ConfigError(f"--checkpoint: expected last, best or a step, got '{which}'")
            saved = checkpoint.load(
                checkpoint.find(path / "checkpoints", int(which) if which.isdigit() else which)  # type: ignore[arg-type]
            )
        loaded = from_dict(saved.config, source=str(saved.path))
        known = environment(loaded.config)  # all else fitted when it was trained, and need not here: memory for replay
        if isinstance(known, list):
            raise ConfigError(*loaded.explain(known))
        config = loaded.config
        if config.device == "cuda" and not has_gpu():  # a policy that learnt on a GPU acts without one
            config = config.model_copy(update={"device": "cpu"})
        return cls(path, saved, config, known)

    def __enter__(self) -> SavedPolicy:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.evaluator.close()

    def act(self, obs: Array) -> Array:
        """The greedy action for each of N observations, which are as `environments` gives them."""
        return self.agent.act(obs, explore=False)

    def environments(self, count: int = 1, render_mode: str | None = None) -> VectorEnv:
        """New environments that step together, as the policy knows them: wrapped, with its statistics. Close them."""
        envs = make_vector(self.config.env, count, training=False, render_mode=render_mode)
        load_wrapper_state(envs, self.wrappers)
        return envs

    def evaluate(self, episodes: int, seed: int) -> dict[str, Any]:
        """Greedy episodes on a fixed list of seeds, and a random policy on the same for scale."""
        seeds = env_seeds(seed, Stream.REPORT_EVAL, episodes)
        return {
            "run": str(self.path),
            "checkpoint_step": self.step,
            "env": self.config.env.id,
            "agent": self.config.agent.name,  # type: ignore[attr-defined]
            "episodes": episodes,
            "seed": seed,
            **self.evaluator(seeds, self.wrappers),
            "random_return_mean": self._random_return(seeds, seed),
        }

    def _random_return(self, seeds: list[int], seed: int) -> float:
        envs = self.environments(at_once(self.config.env, len(seeds)))
        envs.action_space.seed(int(generator(seed, Stream.RANDOM_POLICY).integers(2**31)))

        def policy(obs: Array) -> Array:
            return np.asarray(envs.action_space.sample())

        protocol = self.evaluator.protocol
        episodes = run_episodes(policy, envs, seeds, protocol.max_episode_steps)
        envs.close()
        return float(summarise(episodes, protocol)["return_mean"])
