"""One environment in a process of its own: what runs there, and the handle by which it is asked and killed."""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import select
import signal
import socket
import struct
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection
from typing import Any

import gymnasium as gym
from gymnasium.vector.utils import write_to_shared_memory

from rltrain.core import raised
from rltrain.envs.episode import EnvironmentFault

CONTEXT: Any = multiprocessing.get_context("fork")
"""Forked: a plugin's environments and settings exist in the copy, and shared memory needs no name."""
CHECK_SECONDS = 0.5
"""How often a worker that does not answer is looked at: a process can die while its own children hold the pipe."""
KILL_SECONDS = 2.0
"""A process that was killed is waited for this long."""
PR_SET_PDEATHSIG = 1
SIGNALS = (signal.SIGINT, signal.SIGTERM)
"""The parent's business: it needs its workers to end in good order."""


class LostWorker(Exception):
    """The worker is of no more use. The message says what it did, such as `was killed by SIGKILL`."""


class Worker:
    """The parent's side of one environment's process."""

    def __init__(self, make: Callable[[], gym.Env[Any, Any]], index: int, shared: Any, timeout: float) -> None:
        self._timeout = timeout
        self._pipe, end = CONTEXT.Pipe()
        _limit_blocking(self._pipe, timeout)
        self._process = CONTEXT.Process(target=_work, args=(make, index, end, shared, os.getpid()), daemon=True)
        with _signals_held():
            self._process.start()
        end.close()  # from now on the worker's end closes when the worker dies
        self._poll = select.poll()
        self._poll.register(self._pipe.fileno(), select.POLLIN)

    @property
    def pid(self) -> int:
        """The process's number."""
        return int(self._process.pid)

    def send(self, command: str, *data: Any) -> None:
        """Ask for something. Whether that came to anything is told by `receive`."""
        with suppress(OSError):  # a dead or stopped worker
            self._pipe.send((command, data))

    def receive(self, deadline: float) -> Any:
        """The answer, which is waited for until `time.monotonic()` reaches `deadline`. Raises LostWorker."""
        while True:
            left = deadline - time.monotonic()
            if self._poll.poll(1_000 * max(0.0, min(left, CHECK_SECONDS))):
                break
            if self._process.exitcode is not None and not self._poll.poll(0):
                raise LostWorker(self._end())
            if left <= 0:
                raise LostWorker(f"did not answer within {self._timeout:g} s")
        try:
            fine, value = self._pipe.recv()
        except (EOFError, OSError) as error:
            raise LostWorker(self._end()) from error
        if not fine:
            raise LostWorker(value)
        return value

    def _end(self) -> str:
        self._process.join(KILL_SECONDS)
        code = self._process.exitcode
        if code is None:
            return "stopped in the middle of an answer"
        return f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"

    def wait(self, deadline: float) -> None:
        """Wait until the process has ended, or `time.monotonic()` reaches `deadline`."""
        self._process.join(max(0.0, deadline - time.monotonic()))

    def kill(self) -> None:
        """End the process at once, and the processes that its environment started."""
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)
        self._process.kill()
        self._process.join(KILL_SECONDS)
        self._pipe.close()


def kill_all(workers: list[Worker | None]) -> None:
    """End all of these at once."""
    for worker in workers:
        if worker is not None:
            worker.kill()
    workers.clear()


def _limit_blocking(pipe: Connection, seconds: float) -> None:
    """A worker that is stopped in the middle of a long message must not stop its parent for ever."""
    limit = struct.pack("ll", int(seconds) + 1, 0)
    with socket.socket(fileno=os.dup(pipe.fileno())) as end:
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)
        end.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, limit)


@contextmanager
def _signals_held() -> Iterator[None]:
    """Hold signals back, so that a child never runs the parent's handlers."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _work(make: Callable[[], gym.Env[Any, Any]], index: int, pipe: Connection, shared: Any, parent: int) -> None:
    """Make the environment and answer until the parent asks to end, or is gone."""
    _belong_to(parent)
    asked = select.poll()
    asked.register(pipe.fileno(), select.POLLIN)
    env = None
    try:
        env = make()
        while os.getppid() == parent:
            if not asked.poll(1_000):
                continue
            command, data = pipe.recv()
            if command == "close":
                break
            pipe.send((True, _ANSWERS[command](env, index, shared, *data)))
    except BaseException as error:  # whatever an environment raises, SystemExit too
        with suppress(OSError):
            pipe.send((False, _said(error)))
    finally:
        if env is not None:
            with suppress(Exception):
                env.close()


def _said(error: BaseException) -> str:
    """What the process did. Which environment it was, and when, the parent says itself."""
    cause = error.__cause__ if isinstance(error, EnvironmentFault) and error.__cause__ else error
    return f"was ended: {cause}" if isinstance(cause, EnvironmentFault) else raised(cause)


def _belong_to(parent: int) -> None:
    """Die with the parent, and leave signals to it.

    A group of its own keeps Ctrl-C and `timeout` away from the worker, and lets it be killed with its children.
    """
    os.setpgrp()
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)  # also in the middle of a step
    if os.getppid() != parent:
        os._exit(1)


def _reset(env: gym.Env[Any, Any], index: int, shared: Any, seed: int | None, options: Any) -> dict[str, Any]:
    obs, info = env.reset(seed=seed, options=options)
    write_to_shared_memory(env.observation_space, index, obs, shared)
    return info


def _step(env: gym.Env[Any, Any], index: int, shared: Any, action: Any) -> tuple[Any, bool, bool, dict[str, Any]]:
    obs, reward, terminated, truncated, info = env.step(action)
    write_to_shared_memory(env.observation_space, index, obs, shared)
    return reward, terminated, truncated, info if terminated or truncated else {}  # nothing reads it before


def _call(env: gym.Env[Any, Any], index: int, shared: Any, name: str, args: tuple[Any, ...]) -> Any:
    value = env.get_wrapper_attr(name)
    return value(*args) if callable(value) else value


_ANSWERS: dict[str, Callable[..., Any]] = {"reset": _reset, "step": _step, "call": _call}
