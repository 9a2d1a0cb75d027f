"""One run on several ranks: each has an agent and environments, all learn the same, and the run sees one loop.

The ranks stay alike because each does what a run of one process would do, in the same order, and asks its `Team`
wherever a number is one of all environments. What a rank is beside that, and how it is told what to do, is here.
"""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from typing import Any, NamedTuple

import numpy as np
from gymnasium.vector import VectorEnv

from rltrain.callbacks import number
from rltrain.collective import TeamLost
from rltrain.core import Agent, Array, Metrics, Progress, RltrainError, State, first_line
from rltrain.envs.vector import load_wrapper_state, wrapper_state
from rltrain.loop import EnvironmentLoop
from rltrain.team import Team

GRACE_SECONDS = 10.0
"""Once a rank has failed the others have this long to say why: what they say may be the cause."""
DISTINCT = "exploration/distinct_states"


class RankFailed(RltrainError):
    """A rank was lost, or cannot go on. The others cannot without it."""

    def __init__(self, message: str, exit_code: int = 71) -> None:
        super().__init__(message, exit_code)
        self.exit_code = exit_code

    def __str__(self) -> str:
        return str(self.args[0])


class Told(NamedTuple):
    """What a rank answers: a value, or why there is none."""

    value: Any = None
    reason: str | None = None
    exit_code: int = 0
    follows: bool = False  # whether another rank is to blame


class Report(NamedTuple):
    """What `advance` brought on one rank."""

    progress: Progress
    ends: list[int]  # the rank's environment steps at which its episodes ended
    share: float  # of the rows that the metrics are of


class RankLoop(EnvironmentLoop):
    """Notes when episodes ended, so that those of all ranks can be put in order."""

    ends: list[int] = []

    def _count(self, progress: Progress, done: Array, info: dict[str, Array]) -> None:
        before = len(progress.returns)
        super()._count(progress, done, info)
        self.ends += [self.steps] * (len(progress.returns) - before)


class Rank:
    """What one of the processes does that learn together, as the run asks for it."""

    def __init__(self, agent: Agent, loop: RankLoop, team: Team) -> None:
        self._agent, self._loop, self._team = agent, loop, team

    def tell(self, method: str, *arguments: Any) -> Told:
        """What one of the methods below returns, or why it fails."""
        return told(lambda: getattr(self, method)(*arguments))

    def advance(self, steps: int) -> Report:
        """Take `steps` steps of the environments here."""
        self._loop.ends = []
        progress = self._loop.advance(steps)
        progress.metrics = {name: number(value) for name, value in progress.metrics.items()}
        return Report(progress, self._loop.ends, self._team.share)

    def acting(self) -> State:
        """What an evaluation needs: the agent, and the statistics of wrappers."""
        return {"agent": self._agent.state_dict(), "wrappers": wrapper_state(self._loop.envs)}

    def state(self, known: dict[str, str]) -> State:
        """The loop, and of the agent what is not as in these fingerprints."""
        agent = {key: part for key, part in self._agent.state_dict().items() if fingerprint(part) != known.get(key)}
        return {"agent": agent, "loop": self._loop.state_dict()}

    def restore(self, state: State) -> None:
        """Go on from a state, with a whole agent."""
        self._agent.load_state_dict(state["agent"])
        self._loop.load_state_dict(state["loop"])

    def visited(self) -> Array:
        """A bit for every state that was visited here."""
        return np.asarray(self._loop.diagnostics.state_dict()["seen"])


def told(call: Callable[[], Any]) -> Told:
    """What a call returns, or why it fails."""
    try:
        return Told(call())
    except Exception as error:
        reason = str(error) if isinstance(error, RltrainError) else f"{type(error).__name__}: {error}"
        return Told(None, reason, getattr(error, "exit_code", 1), isinstance(error, TeamLost))


def fingerprint(state: Any) -> str:
    """A number that two states share only when they are equal to the last bit."""
    parts: list[bytes] = []

    def add(value: Any) -> None:
        if isinstance(value, dict):
            for key in sorted(value):
                parts.append(key.encode())
                add(value[key])
        elif isinstance(value, list):
            parts.append(f"[{len(value)}]".encode())
            for item in value:
                add(item)
        elif isinstance(value, np.ndarray):
            parts.extend((f"{value.dtype}{value.shape}".encode(), value.tobytes()))
        else:
            parts.append(repr(value).encode())

    add(state)
    return hashlib.sha256(b"\0".join(parts)).hexdigest()


Call = Callable[..., "Future[Told]"]
"""(method, *arguments) -> what `Rank.tell` will say, on a rank that is elsewhere."""


class DataParallelLoop:
    """Has all ranks take their steps, and tells what came of it as one loop of all environments would.

    The agent and the environments here take no steps: they are brought up to date by `refresh`, for an evaluation and
    for a checkpoint.
    """

    def __init__(self, ranks: Sequence[Call], agent: Agent, envs: VectorEnv) -> None:
        self.steps = 0  # environment steps of all ranks
        self._ranks, self._agent, self._envs = ranks, agent, envs

    def advance(self, steps: int) -> Progress:
        """Take `steps` environment steps, rounded up so that every environment takes equally many."""
        reports: list[Report] = self._all("advance", -(-steps // len(self._ranks)))
        progress = Progress(0)
        for report in reports:
            progress.add(report.progress)
        order = np.argsort([end for report in reports for end in report.ends], kind="stable")
        progress.returns = [progress.returns[place] for place in order]
        progress.lengths = [progress.lengths[place] for place in order]
        progress.steps = self.steps = len(reports) * reports[0].progress.steps
        progress.metrics = self._metrics(reports)
        return progress

    def _metrics(self, reports: Sequence[Report]) -> Metrics:
        """Means over the rows of all ranks; states that several have visited are counted once."""
        shares = np.array([report.share for report in reports])
        merged: Metrics = {}
        for name, value in reports[0].progress.metrics.items():
            values = [report.progress.metrics[name] for report in reports]
            merged[name] = value if len(set(values)) == 1 else float(shares @ values / shares.sum())
        return merged | ({DISTINCT: self._distinct} if DISTINCT in merged else {})

    def _distinct(self) -> int:
        return int(np.unpackbits(np.bitwise_or.reduce(self._all("visited"))).sum())

    def refresh(self) -> None:
        """Bring agent and wrappers here up to date; they are the same on every rank."""
        (state,) = answers([self._ranks[0]("acting")])
        self._agent.load_state_dict(state["agent"])
        load_wrapper_state(self._envs, state["wrappers"])

    def state_dict(self) -> State:
        """The first rank's loop as that of any run, and the other ranks; the agent's state is up to date."""
        known = {key: fingerprint(part) for key, part in self._agent.state_dict().items()}
        first, *others = self._all("state", known)
        for rank, state in enumerate(others, 1):
            if "network" in state["agent"]:
                raise RankFailed(f"rank {rank} has another network than the first: its agent averages no gradients")
        return {**first["loop"], "others": others}

    def load_state_dict(self, state: State) -> None:
        """Have every rank go on from its state. The agent's state is loaded before."""
        loop = {key: part for key, part in state.items() if key != "others"}
        agent = self._agent.state_dict()
        states = [{"agent": {}, "loop": loop}, *state["others"]]
        answers(
            [
                rank("restore", {"agent": agent | own["agent"], "loop": own["loop"]})
                for rank, own in zip(self._ranks, states, strict=True)
            ]
        )
        load_wrapper_state(self._envs, loop["envs"]["wrappers"])
        self.steps = len(self._ranks) * int(loop["steps"])

    def _all(self, method: str, *arguments: Any) -> list[Any]:
        return answers([rank(method, *arguments) for rank in self._ranks])


def answers(futures: Sequence[Future[Told]]) -> list[Any]:
    """What every rank told. Raises RankFailed once one has failed, since it leaves the others waiting."""
    deadline = math.inf
    while True:
        outcomes = [_outcome(future) for future in futures]
        waiting = [future for future, outcome in zip(futures, outcomes, strict=True) if outcome is None]
        failed = [(outcome.follows, rank) for rank, outcome in enumerate(outcomes) if outcome and outcome.reason]
        if not failed and not waiting:
            return [future.result().value for future in futures]
        now = time.monotonic()
        deadline = min(deadline, now + GRACE_SECONDS) if failed else deadline
        follows, rank = min(failed, default=(True, 0))  # who has a reason of its own comes first
        if failed and (not follows or not waiting or now >= deadline):
            outcome = outcomes[rank]
            assert outcome is not None
            raise RankFailed(f"rank {rank} of {len(futures)}: {outcome.reason}", outcome.exit_code)
        wait(waiting, timeout=deadline - now if failed else None, return_when=FIRST_COMPLETED)


def _outcome(future: Future[Told]) -> Told | None:
    """What a rank has told, its end being a failure too; None while it has not."""
    if not future.done():
        return None
    if (error := future.exception()) is None:
        return future.result()
    return Told(None, f"its process is gone ({first_line(error)}); --resume goes on from the newest checkpoint", 71)
