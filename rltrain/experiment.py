"""The composition root: from a configuration to a run. Only this file knows all the parts."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from gymnasium.vector import VectorEnv

from rltrain import checkpoint
from rltrain.callbacks import Evaluate, LogProgress, SaveCheckpoints, StopAfter
from rltrain.compiling import compiled_loop
from rltrain.config.load import from_dict, to_dict
from rltrain.config.schema import Config
from rltrain.core import Agent, EnvSpec, Loop, Progress, RewardBonus, RltrainError
from rltrain.envs.vector import describe, make_vector, wrapper_state
from rltrain.envs.workers import WorkerFault
from rltrain.evaluator import Evaluator
from rltrain.logger import RunLogger
from rltrain.loop import Callback, EnvironmentLoop, train
from rltrain.metrics import EXACT
from rltrain.parallel import DataParallelLoop, Rank, RankLoop
from rltrain.ranks import ray_ranks
from rltrain.records import SUMMARY, Status
from rltrain.registry import find
from rltrain.rundir import write_atomic
from rltrain.seeding import Stream, env_seeds, generator
from rltrain.sittings import Sitting
from rltrain.team import ALONE, Team

CONFIRM_EPISODES = 100
"""Fresh episodes on which `train.stop.return` is decided."""
Summary = dict[str, Any]


@dataclass
class Experiment:
    """The parts of one run, put together."""

    config: Config
    spec: EnvSpec
    envs: VectorEnv
    agent: Agent
    loop: Loop
    note: str | None = None
    """Something of what is compiled that the user should be told once."""
    notes: tuple[str, ...] = ()
    """The same of anything else."""
    refresh: Callable[[], None] = lambda: None
    """Brings agent and wrappers up to date, where they learn elsewhere."""
    elsewhere: ExitStack = field(default_factory=ExitStack)
    """What is at work elsewhere."""

    def close(self) -> None:
        """Close the environments, and end what is at work elsewhere."""
        self.elsewhere.close()
        self.envs.close()


def component_name(settings: Any) -> str:
    """The name under which a component was chosen."""
    return str(settings.name)


def build_exploration(config: Config) -> Any:
    """Make the exploration; None where there is none."""
    settings = config.exploration
    return None if settings is None else find("explorations", component_name(settings))(settings)


def build_agent(config: Config, spec: EnvSpec, exploration: Any) -> Agent:
    """Make the agent with its exploration."""
    agent: Agent = find("agents", component_name(config.agent))(
        config.agent, spec, exploration=exploration, rng=generator(config.seed, Stream.AGENT), device=config.device
    )
    return agent


def build_bonuses(config: Config, spec: EnvSpec) -> dict[str, RewardBonus]:
    """Make the bonuses, each under its name; a second one of a name has its number after it."""
    bonuses: dict[str, RewardBonus] = {}
    for index, part in enumerate(config.bonuses):
        name, rng = component_name(part), generator(config.seed, Stream.BONUSES, index)
        key = name if name not in bonuses else f"{name}_{index + 1}"
        bonuses[key] = find("bonuses", name)(part, spec, rng=rng)
    return bonuses


def build_part(config: Config, team: Team, kind: type[EnvironmentLoop] = EnvironmentLoop) -> Experiment:
    """Put together what one rank of a team has, with a loop of this kind."""
    envs = make_vector(config.env, team=team)
    spec = describe(config.env, envs, team)
    exploration = build_exploration(config)
    agent = build_agent(config, spec, exploration)
    bonuses = build_bonuses(config, spec)
    seeds = team.part(env_seeds(config.seed, Stream.TRAIN_ENVS, config.env.num_envs * team.size))
    loop = kind(agent, envs, bonuses=bonuses, seeds=seeds, exploration=exploration)
    faster, note = compiled_loop(config, spec, loop, agent, list(bonuses.values()))
    return Experiment(config, spec, envs, agent, faster or loop, note, tuple(config.notes(spec)))


def build_rank(config: dict[str, Any], team: Team) -> Rank:
    """Make one rank of a run on several."""
    part = build_part(from_dict(config).config, team, RankLoop)
    assert isinstance(part.loop, RankLoop)
    return Rank(part.agent, part.loop, team)


def build(config: Config) -> Experiment:
    """Put the parts together, on as many ranks as there shall be."""
    count = config.train.data_parallel
    if count == 1:
        return build_part(config, ALONE)
    envs = make_vector(config.env.model_copy(update={"vectorization": "sync"}), 1)  # for spaces and statistics
    spec = replace(describe(config.env, envs), num_envs=config.env.num_envs)
    agent = build_agent(config, spec, None)
    gpu = device_name(agent) != "cpu"
    settled = {"device": "cuda" if gpu else "cpu", "train": to_dict(config)["train"] | {"compile": "off"}}
    with ExitStack() as stack:  # minibatches are ever of other lengths, so that nothing is compiled for them
        ranks = stack.enter_context(ray_ranks(partial(build_rank, to_dict(config) | settled), count, gpu=gpu))
        loop = DataParallelLoop(ranks, agent, envs)
        return Experiment(config, spec, envs, agent, loop, refresh=loop.refresh, elsewhere=stack.pop_all())


def device_name(agent: Agent) -> str:
    """Where the agent computes: `cpu`, or the GPU by its name."""
    devices = [network.device for network in agent.networks if network.device not in (None, "cpu")]
    if not devices:
        return "cpu"
    import torch

    return str(torch.cuda.get_device_name(devices[0]))


class Run:
    """One training run in its folder: can start, go on from the newest checkpoint, and end early."""

    def __init__(self, config: Config, folder: Path, listeners: Sequence[Callback] = ()) -> None:
        self.config = config
        self.folder = folder
        self._listeners = listeners
        self._sitting: Sitting | None = None
        self._figures: Callable[[], Summary] = dict  # none before there are parts
        (folder / SUMMARY).unlink(missing_ok=True)  # one of an earlier sitting says nothing of a run that goes on
        with self._recorded(), ExitStack() as stack:
            self._build(stack)
            self._stack = stack.pop_all()

    def _build(self, stack: ExitStack) -> None:
        config, folder = self.config, self.folder
        self.experiment = build(config)
        stack.callback(self.experiment.close)
        spec, agent = self.experiment.spec, self.experiment.agent
        self.evaluator = Evaluator(config, spec, agent)
        stack.callback(self.evaluator.close)
        self.logger = RunLogger(folder)
        stack.callback(self.logger.close)
        self.log = LogProgress(config.train.log_every, self.logger, self.evaluator.protocol)
        self.evaluate = Evaluate(
            config.eval.every,
            self.logger,
            lambda: self._evaluated(config.eval.episodes, Stream.TRAIN_EVAL),
            stop_return=config.train.stop.return_,
            confirm=lambda step: self._evaluated(CONFIRM_EPISODES, Stream.STOP_EVAL, step),
        )
        self.save = SaveCheckpoints(config.checkpoint.every, self._save, self.evaluate, config.checkpoint.keep_best)
        self.clock = StopAfter(config.train.stop.minutes)
        self._figures = self._reached

    @property
    def step(self) -> int:
        """Environment steps so far."""
        return self.experiment.loop.steps

    def _evaluated(self, episodes: int, stream: Stream, *key: int) -> dict[str, Any]:
        seeds = env_seeds(self.config.seed, stream, episodes, *key)
        self.experiment.refresh()
        return self.evaluator(seeds, wrapper_state(self.experiment.envs), interval=False)

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
        self.experiment.refresh()
        state = {name: part.state_dict() for name, part in self._parts().items()}
        folder = self.folder / "checkpoints"
        checkpoint.save(folder, step, state, config=to_dict(self.config), score=self.evaluate.score_at(step))
        keep = self.config.checkpoint
        checkpoint.prune(folder, keep.keep_last, keep.keep_best)

    def resume(self, saved: checkpoint.Checkpoint | None) -> None:
        """Go on from a checkpoint, whose state is used up; or from the beginning where there is none."""
        with self._recorded():
            if saved is None:
                self.logger.start_fresh()
                return
            for name, part in self._parts().items():
                part.load_state_dict(saved.state.pop(name))
            self.save.resumed_at(saved.step)

    def train(self, interrupted: Callable[[], bool] = lambda: False) -> Summary:
        """Train to the end, or until interrupted, and save. Returns the summary."""
        with self._recorded():
            self._sitting = Sitting(self.folder, self.step, device_name(self.experiment.agent))
            if self.step == 0:
                self.logger.hparams(to_dict(self.config), ("eval/return", "rollout/return"))
            callbacks: list[Callback] = [self.log, self.evaluate, self.save, self.clock, *self._listeners]
            try:
                if not self.evaluate(Progress(self.step)):  # due here where it failed in an earlier sitting
                    train(self.experiment.loop, self.config.train.total_steps, callbacks, interrupted=interrupted)
                finished = not interrupted()
                if finished:
                    self.complete()
            except WorkerFault:  # between two steps: agent and environments are whole, all but the lost episode
                self.save.save(self.step)
                raise
            self.save.save(self.step)
            return self._conclude(Status.FINISHED if finished else Status.INTERRUPTED)

    def complete(self) -> None:
        """Log and evaluate what the last steps came to, unless it was time for it anyway."""
        logged, evaluated = self.log.end(self.step), self.evaluate.step == self.step
        if not evaluated:
            self.evaluate.run(self.step)
        if logged or not evaluated:
            self.save.saved_at = None  # if it is saved, then without these

    @contextmanager
    def _recorded(self) -> Iterator[None]:
        """Whatever ends the run stands in its summary, and then goes on its way."""
        try:
            yield
        except Exception as error:
            reason = str(error) if isinstance(error, RltrainError) else f"{type(error).__name__}: {error}"
            with suppress(OSError):  # a full disk may take nothing more
                self._conclude(Status.FAILED, reason)
            raise

    def _conclude(self, status: Status, reason: str | None = None) -> Summary:
        """Write how the run stands."""
        summary = self.summary(status, reason)
        write_atomic(self.folder / SUMMARY, json.dumps(summary, indent=2) + "\n")
        if self._sitting is not None:
            self._sitting.end(self.step, status)
        return summary

    def summary(self, status: str, reason: str | None = None) -> Summary:
        """What the run came to; `reason` says why it failed."""
        return {
            "run": str(self.folder),
            "status": str(status),
            "reason": reason,
            "env": self.config.env.id,
            "agent": component_name(self.config.agent),
            "seed": self.config.seed,
            "total_steps": self.config.train.total_steps,
            **self._figures(),
        }

    def _reached(self) -> Summary:
        """How far the run came, and how well its agent does."""
        latest = self.evaluate.latest or {}
        return {
            "steps": self.step,
            "seconds": round(self.clock.elapsed(), 3),
            "eval_return": latest.get("return_mean"),
            **{f"eval_{name}": latest[name] for name in EXACT if name in latest},
            "eval_success_rate": latest.get("success_rate"),
            "eval_length": latest.get("length_mean"),
            "best_return": self.evaluate.best,
            "best_step": self.evaluate.best_step,
        }

    def close(self) -> None:
        """Close environments and files."""
        self._stack.close()
