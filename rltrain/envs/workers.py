"""A vector of worker processes, for heavy environments: one that hangs or dies is replaced, and the run goes on.

Gymnasium's `AsyncVectorEnv` waits for ever for a worker that hangs, and ends with the first that dies.
"""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Callable, Sequence
from copy import deepcopy
from multiprocessing.util import Finalize
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.error import CustomSpaceError
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import (
    batch_space,
    create_shared_memory,
    iterate,
    read_from_shared_memory,
    write_to_shared_memory,
)

from rltrain.core import Array, RltrainError, State
from rltrain.encoding import in_words
from rltrain.envs.episode import LOST
from rltrain.envs.worker import CONTEXT, LostWorker, Worker, kill_all

CLOSE_SECONDS = 5.0
"""An environment that takes longer to close is killed."""


class WorkerFault(RltrainError):
    """The worker process of an environment was lost, and no more may be replaced."""

    exit_code = 65


class SupervisedVectorEnv(VectorEnv[Any, Any, Any]):
    """Steps N environments, each in a process of its own, with autoreset disabled.

    A worker that raises, dies, or does not answer within `timeout` seconds is killed and replaced, `restarts` times
    in all; a run that is resumed counts from zero. In the step that lost it, its environment shows its last
    observation once more, pays 0 and is truncated, and `info[LOST]` (N,) is True: what was open is no episode. The
    next `reset` begins another one, on a seed that no episode had before. When there are no more restarts, that
    `reset` raises WorkerFault: between two steps, where everything can be saved.
    """

    def __init__(self, makers: Sequence[Callable[[], gym.Env[Any, Any]]], *, timeout: float, restarts: int) -> None:
        self.num_envs = len(makers)
        self._describe(makers[0])
        try:
            self._shared = create_shared_memory(self.single_observation_space, self.num_envs, ctx=CONTEXT)
        except CustomSpaceError as error:
            raise ValueError(f"worker processes cannot share {in_words(self.single_observation_space)}") from error
        self._view: Any = read_from_shared_memory(self.single_observation_space, self._shared, self.num_envs)
        self._seen = deepcopy(self._view)  # a worker that dies may leave half an observation
        self._makers = makers
        self._timeout = timeout
        self._restarts = self._left = restarts
        self._steps = 0
        self._seeds: list[int | None] = [None] * self.num_envs
        self._spawned = 0  # seeds given to episodes that took the place of lost ones
        self._lost: dict[int, str] = {}  # environments whose episode is over without an end, and why
        self._owner = os.getpid()
        self._workers: list[Worker | None] = []
        Finalize(self, kill_all, args=(self._workers,), exitpriority=100)  # before Python waits for its children
        self._workers += [self._start(index) for index in range(self.num_envs)]

    def _describe(self, make: Callable[[], gym.Env[Any, Any]]) -> None:
        env = make()
        self.metadata = {**env.metadata, "autoreset_mode": AutoresetMode.DISABLED}
        self.render_mode = env.render_mode
        self.spec = env.spec
        self.single_observation_space = env.observation_space
        self.single_action_space = env.action_space
        self.observation_space = batch_space(env.observation_space, self.num_envs)
        self.action_space = batch_space(env.action_space, self.num_envs)
        env.close()

    def _start(self, index: int) -> Worker:
        return Worker(self._makers[index], index, self._shared, self._timeout)

    @property
    def pids(self) -> list[int | None]:
        """Numbers of the worker processes; None where one was lost for good."""
        return [None if worker is None else worker.pid for worker in self._workers]

    def reset(self, *, seed: Any = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Begin episodes, where `options["reset_mask"]` is True. Raises WorkerFault where no worker is left."""
        options = dict(options or {})
        mask = options.pop("reset_mask", None)
        chosen = range(self.num_envs) if mask is None else [int(index) for index in np.flatnonzero(mask)]
        seeds: list[int | None] = [None] * self.num_envs
        if seed is not None:
            seeds = self._seeds = [seed + i for i in range(self.num_envs)] if isinstance(seed, int) else list(seed)
        anew = set() if seed is not None else self._lost.keys() & set(chosen)
        answers: dict[int, dict[str, Any]] = {}
        while waiting := [index for index in chosen if index not in answers]:
            self._require(waiting, chosen)
            requests = {i: (self._new_seed(i) if i in anew else seeds[i], options or None) for i in waiting}
            answers |= self._ask("reset", requests)
            anew = set(waiting)  # whoever was lost while it began
        infos: dict[str, Any] = {}
        for index in chosen:
            self._lost.pop(index, None)
            infos = self._add_info(infos, answers[index], index)
        return self._observations(), infos

    def _require(self, waiting: Sequence[int], chosen: Sequence[int]) -> None:
        """Raise WorkerFault unless all who wait have a worker. Nobody has seen the episodes that were to begin."""
        for index in waiting:
            if self._workers[index] is None:
                cause = self._lost[index]
                for other in chosen:
                    self._lost.setdefault(other, "the run ended while its episode began")
                raise WorkerFault(
                    f"environment {index}: {cause}, and no more workers are replaced "
                    f"(env.worker_restarts is {self._restarts})"
                )

    def _new_seed(self, index: int) -> int:
        """A seed that no episode of this run had: a child of the environment's own, which is the run seed's child."""
        self._spawned += 1
        child = np.random.SeedSequence(self._seeds[index], spawn_key=(self._spawned,))
        return int(child.generate_state(1, np.uint64)[0] >> np.uint64(1))

    def step(self, actions: Any) -> tuple[Any, Array, Array, Array, dict[str, Any]]:
        """Take a step in every environment that has an open episode; the others are told as lost."""
        rows = list(iterate(self.action_space, actions))
        answers = self._ask("step", {i: (rows[i],) for i in range(self.num_envs) if i not in self._lost})
        self._steps += 1
        reward = np.zeros(self.num_envs)
        terminated, truncated = np.zeros(self.num_envs, np.bool_), np.zeros(self.num_envs, np.bool_)
        infos: dict[str, Any] = {}
        for i, (reward[i], terminated[i], truncated[i], info) in sorted(answers.items()):
            infos = self._add_info(infos, info, i)
        if self._lost:
            infos[LOST] = np.isin(np.arange(self.num_envs), list(self._lost))
            truncated |= infos[LOST]
        return self._observations(), reward, terminated, truncated, infos

    def _observations(self) -> Any:
        """A copy of the shared memory, in which a lost environment stands where it was last seen."""
        if self._lost:
            rows = list(iterate(self.observation_space, self._seen))
            for index in self._lost:
                write_to_shared_memory(self.single_observation_space, index, rows[index], self._shared)
        self._seen = deepcopy(self._view)
        return self._seen

    def call(self, name: str, *args: Any) -> tuple[Any, ...]:
        """Call a method of every environment, or read an attribute; None from one that has no open episode.

        Of `Episode`'s own two methods it knows more: a lost episode has a snapshot that begins another one, and an
        episode that cannot be restored begins anew.
        """
        steps = max((len(state.get("actions", ())) for state in args[0]), default=0) if name == "restore" else 0
        requests = {i: (name, args) for i in range(self.num_envs) if i not in self._lost}
        answers = self._ask("call", requests, patience=1 + steps)  # restoring repeats the steps of an episode
        return tuple(answers[i] if i in answers else self._instead(i, name) for i in range(self.num_envs))

    def _instead(self, index: int, name: str) -> Any:
        cause = self._lost[index]
        if name == "snapshot":
            return {"lost": cause, "seed": self._new_seed(index)}
        if name == "restore":
            obs, _ = self.reset(options={"reset_mask": np.arange(self.num_envs) == index})
            return list(iterate(self.observation_space, obs))[index], cause
        return None

    def _ask(self, command: str, requests: dict[int, tuple[Any, ...]], patience: int = 1) -> dict[int, Any]:
        """Ask these environments, all at once; those that are lost on the way are missing in the answers."""
        asked = {index: worker for index in requests if (worker := self._workers[index]) is not None}
        for index, worker in asked.items():
            worker.send(command, *requests[index])
        deadline = time.monotonic() + patience * self._timeout
        answers = {}
        for index, worker in asked.items():
            try:
                answers[index] = worker.receive(deadline)
            except LostWorker as lost:
                worker.kill()
                self._replace(index, str(lost))
        return answers

    def _replace(self, index: int, cause: str) -> None:
        self._lost[index] = f"its worker process {cause} after {self._steps:,} steps"
        self._workers[index] = None
        if self._left > 0:
            self._left -= 1
            self._workers[index] = self._start(index)
            warnings.warn(
                f"environment {index}: {self._lost[index]}; its episode is dropped and another one begins "
                f"({self._left} of {self._restarts} restarts left)",
                stacklevel=2,
            )

    def state_dict(self) -> State:
        """What decides seeds and messages; not the restarts, since whoever resumes a run means it to go on."""
        return {"steps": self._steps, "spawned": self._spawned}

    def load_state_dict(self, state: State) -> None:
        """Restore the state."""
        self._steps, self._spawned = state["steps"], state["spawned"]

    def close_extras(self, **kwargs: Any) -> None:
        """Let the environments close, and kill those that do not."""
        if os.getpid() != self._owner:  # a copy in a forked process
            return
        for worker in filter(None, self._workers):
            worker.send("close")
        deadline = time.monotonic() + min(self._timeout, CLOSE_SECONDS)
        for worker in filter(None, self._workers):
            worker.wait(deadline)
        kill_all(self._workers)
