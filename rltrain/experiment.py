"""The composition root: from a configuration to a run. Only this file knows all the parts."""

from __future__ import annotations

import difflib
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium as gym
from gymnasium.vector import VectorEnv

from rltrain import checkpoint
from rltrain.callbacks import Evaluate, LogProgress, SaveCheckpoints, StopAfter
from rltrain.config.load import to_dict
from rltrain.config.schema import Config
from rltrain.core import Agent, EnvSpec, Problem, State
from rltrain.envs.vector import describe, load_wrapper_state, make_env, make_vector, wrapper_state
from rltrain.evaluation import EvalProtocol, run_episodes, summarise
from rltrain.logger import RunLogger
from rltrain.loop import Callback, EnvironmentLoop, train
from rltrain.registry import find
from rltrain.rundir import write_atomic
from rltrain.seeding import Stream, env_seeds, generator

CONFIRM_EPISODES = 100
"""Fresh episodes on which `train.stop.return` is decided."""
MAX_EVAL_ENVS = 128
"""Evaluation episodes that run at once."""

Summary = dict[str, Any]


@dataclass
class Experiment:
    """The parts of one run, put together."""

    config: Config
    spec: EnvSpec
    envs: VectorEnv
    agent: Agent
    loop: EnvironmentLoop


def environment_problems(config: Config) -> list[Problem]:
    """What keeps the environment from being made."""
    env = config.env
    if ":" in env.id:
        return [Problem("env.id", f"'{env.id}' would import a module: name it with --plugin instead")]
    try:
        gym.spec(env.id)
    except gym.error.DeprecatedEnv as error:
        return [Problem("env.id", str(error))]
    except gym.error.Error:
        near = difflib.get_close_matches(env.id, list(gym.registry), n=1)
        hint = f", did you mean '{near[0]}'?" if near else ""
        own = " (an environment of your own? name its module with --plugin)"
        return [Problem("env.id", f"unknown environment '{env.id}'{hint or own}")]
    try:
        make_env(config.env).close()
        probe = make_vector(config.env.model_copy(update={"vectorization": "sync"}), 1)
        probe.close()
    except Exception as error:  # an environment may raise whatever it likes; the user gets its words
        bare = env.model_copy(update={"wrappers": ()})
        try:
            make_env(bare).close()
        except Exception as inner:
            where = "env.kwargs" if env.kwargs else "env.id"
            return [Problem(where, f"{env.id} cannot be made: {_first_line(inner)}")]
        return [Problem("env.wrappers", _first_line(error))]
    return []


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def problems(config: Config) -> list[Problem]:
    """Everything about a valid configuration that does not fit together, before any work is done."""
    found = environment_problems(config)
    if found:
        return found
    envs = make_vector(config.env.model_copy(update={"vectorization": "sync"}), 1)
    spec = describe(config.env, envs)
    envs.close()
    spec = EnvSpec(**{**spec.__dict__, "num_envs": config.env.num_envs})
    return list(_misfits(config, spec))


def _misfits(config: Config, spec: EnvSpec) -> Iterator[Problem]:
    agent_name = _name(config.agent)
    kind = find("agents", agent_name).explores_with
    if kind is None and config.exploration is not None:
        yield Problem("exploration", f"{agent_name} explores by itself: leave this block out")
    if kind == "selector" and config.exploration is None:
        yield Problem("exploration", f"{agent_name} needs an exploration, for example {{name: epsilon_greedy}}")
    if kind is not None and config.exploration is not None:
        name = _name(config.exploration)
        has = find("explorations", name).kind
        if has != kind:
            yield Problem("exploration.name", f"'{name}' is a {has} and {agent_name} explores with a {kind}")
    parts: list[Any] = [config.agent, config.exploration, *config.bonuses, *config.env.wrappers]
    for part in parts:
        if part is not None:
            yield from part.problems(config, spec)


def _name(settings: Any) -> str:
    return str(settings.name)


def build_agent(config: Config, spec: EnvSpec) -> Agent:
    """Make the agent with its exploration."""
    exploration = None
    if config.exploration is not None:
        exploration = find("explorations", _name(config.exploration))(config.exploration)
    agent: Agent = find("agents", _name(config.agent))(
        config.agent,
        spec,
        exploration=exploration,
        rng=generator(config.seed, Stream.AGENT),
        device=config.device,
    )
    return agent


def build(config: Config) -> Experiment:
    """Put the parts together."""
    envs = make_vector(config.env)
    spec = describe(config.env, envs)
    agent = build_agent(config, spec)
    bonuses = [
        find("bonuses", _name(part))(part, spec, rng=generator(config.seed, Stream.BONUSES, index))
        for index, part in enumerate(config.bonuses)
    ]
    seeds = env_seeds(config.seed, Stream.TRAIN_ENVS, config.env.num_envs)
    loop = EnvironmentLoop(agent, envs, bonuses=bonuses, seeds=seeds)
    return Experiment(config, spec, envs, agent, loop)


class Evaluator:
    """Evaluates the greedy policy in environments of its own."""

    def __init__(self, config: Config, spec: EnvSpec, agent: Agent) -> None:
        self.protocol = EvalProtocol.of(config.eval, spec)
        self._config = config
        self._agent = agent
        self._envs: dict[int, VectorEnv] = {}

    def __call__(self, seeds: Sequence[int], wrappers: State) -> dict[str, Any]:
        """One greedy episode on each seed, under the given wrapper statistics."""
        count = min(len(seeds), MAX_EVAL_ENVS)
        if count not in self._envs:
            self._envs[count] = make_vector(self._config.env, count, training=False)
        envs = self._envs[count]
        load_wrapper_state(envs, wrappers)
        episodes = run_episodes(
            lambda obs: self._agent.act(obs, explore=False), envs, seeds, self.protocol.max_episode_steps
        )
        return summarise(episodes, self.protocol)

    def close(self) -> None:
        """Close the environments."""
        for envs in self._envs.values():
            envs.close()


class Run:
    """One training run in its folder: can start, go on from the newest checkpoint, and end early."""

    def __init__(self, config: Config, folder: Path, listeners: Sequence[Callback] = ()) -> None:
        self.config = config
        self.folder = folder
        self._stack = ExitStack()
        self.experiment = build(config)
        self._stack.callback(self.experiment.envs.close)
        spec, agent = self.experiment.spec, self.experiment.agent
        self.evaluator = Evaluator(config, spec, agent)
        self._stack.callback(self.evaluator.close)
        self.logger = RunLogger(folder)
        self._stack.callback(self.logger.close)
        protocol = self.evaluator.protocol
        self.log = LogProgress(config.train.log_every, self.logger, protocol.success_return)
        self.evaluate = Evaluate(
            config.eval.every,
            self.logger,
            lambda: self._evaluated(config.eval.episodes, Stream.TRAIN_EVAL),
            stop_return=config.train.stop.return_,
            confirm=lambda step: self._evaluated(CONFIRM_EPISODES, Stream.STOP_EVAL, step),
        )
        self.save = SaveCheckpoints(config.checkpoint.every, self._save, self.evaluate, config.checkpoint.keep_best)
        self.clock = StopAfter(config.train.stop.minutes)
        self._listeners = listeners

    @property
    def step(self) -> int:
        """Environment steps so far."""
        return self.experiment.loop.steps

    def _evaluated(self, episodes: int, stream: Stream, *key: int) -> dict[str, Any]:
        seeds = env_seeds(self.config.seed, stream, episodes, *key)
        return self.evaluator(seeds, wrapper_state(self.experiment.envs))

    def _parts(self) -> dict[str, Any]:
        return {
            "agent": self.experiment.agent,
            "loop": self.experiment.loop,
            "log": self.log,
            "evaluate": self.evaluate,
            "clock": self.clock,
            "logger": self.logger,
        }

    def _save(self, step: int) -> None:
        state = {name: part.state_dict() for name, part in self._parts().items()}
        folder = self.folder / "checkpoints"
        checkpoint.save(folder, step, state, config=to_dict(self.config), score=self.evaluate.score_at(step))
        keep = self.config.checkpoint
        checkpoint.prune(folder, keep.keep_last, keep.keep_best)

    def resume(self, saved: checkpoint.Checkpoint | None) -> None:
        """Go on from a checkpoint, or from the beginning where there is none."""
        if saved is None:
            self.logger.start_fresh()
            return
        for name, part in self._parts().items():
            part.load_state_dict(saved.state[name])
        self.save.resumed_at(saved.step)

    def train(self, interrupted: Callable[[], bool] = lambda: False) -> Summary:
        """Train to the end, or until interrupted, and save. Returns the summary."""
        if self.step == 0:
            self.logger.hparams(to_dict(self.config), ("eval/return", "rollout/return"))
        callbacks: list[Callback] = [self.log, self.evaluate, self.save, self.clock, *self._listeners]
        train(self.experiment.loop, self.config.train.total_steps, callbacks, interrupted=interrupted)
        finished = not interrupted()
        if finished and self.evaluate.step != self.step:
            self.evaluate.run(self.step)
        self.save.save(self.step)
        summary = self.summary("finished" if finished else "interrupted")
        write_atomic(self.folder / "summary.json", json.dumps(summary, indent=2) + "\n")
        return summary

    def summary(self, status: str) -> Summary:
        """What the run came to."""
        latest = self.evaluate.latest or {}
        return {
            "run": str(self.folder),
            "status": status,
            "env": self.config.env.id,
            "agent": _name(self.config.agent),
            "seed": self.config.seed,
            "steps": self.step,
            "seconds": round(self.clock.elapsed(), 3),
            "eval_return": latest.get("return_mean"),
            "eval_success_rate": latest.get("success_rate"),
            "best_return": self.evaluate.best,
            "best_step": self.evaluate.best_step,
        }

    def close(self) -> None:
        """Close environments and files."""
        self._stack.close()
