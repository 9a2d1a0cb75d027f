"""The compiled loop behind the contract of every loop: same agent object, same environment, same numbers.

`compiled_tabular_loop` takes a readable loop and returns one that does the same some hundred times
faster, or the reason why it cannot. What the loop has done is written back into the agent and the
environment whenever their state is asked for, so a checkpoint does not tell which loop wrote it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium.envs.toy_text.blackjack import BlackjackEnv

from rltrain.bonuses.count import Count
from rltrain.config.schema import EnvSettings
from rltrain.core import Progress, State
from rltrain.envs.episode import MAX_LOGGED_ACTIONS
from rltrain.jit import CannotCompile, available
from rltrain.kernels.blackjack import BlackjackBoard, blackjack_is_true
from rltrain.kernels.compile import (
    BONUS,
    ELAPSED,
    PAID,
    RESETS,
    RETURN,
    STATE,
    STEPS,
    Actor,
    Log,
    Parts,
    compiled_loop,
    no_rarity,
)
from rltrain.kernels.world import Chain, TableBoard, model_is_true, unwrap
from rltrain.loop import EnvironmentLoop
from rltrain.mdp import Model
from rltrain.selection import RowSelector, no_probabilities
from rltrain.tabular import TabularAgent

TELLING = ("Untyped", "Unknown", "Use of unsupported", "Cannot", "Invalid")
"""How the lines of Numba's errors begin that name what is wrong."""
CHUNK = 65_536
"""Steps of one call of the compiled loop, so that its log of episodes stays small."""


def compiled_tabular_loop(
    loop: EnvironmentLoop, agent: Any, bonuses: list[Any], settings: EnvSettings, model: Model | None
) -> TabularLoop | str:
    """A compiled loop that goes on where `loop` is, or the reason why there is none."""
    if not isinstance(agent, TabularAgent):
        return "the agent has no compiled loop"
    if not isinstance(agent.exploration, RowSelector):
        return "the exploration is not made of compilable functions"
    if agent.spec.num_envs != 1:
        return "it runs one environment: set env.num_envs to 1"
    if len(bonuses) > 1 or not all(isinstance(bonus, Count) for bonus in bonuses):
        return "of the bonuses only one count is compiled"
    chain = unwrap(loop.envs)
    if model is None or chain is None:
        return "the environment does not tell its model, does not follow it, or is wrapped"
    board = _board(chain, settings, model)
    if board is None:
        return "the environment does not behave as its model says"
    if not available():
        return "numba is not installed"
    try:
        return TabularLoop(loop, agent, bonuses[0] if bonuses else None, chain, board)
    except CannotCompile as error:
        return f"Numba cannot compile it ({error}; functions that are called need @compilable)"


def _board(chain: Chain, settings: EnvSettings, model: Model) -> TableBoard | BlackjackBoard | None:
    """What the loop plays on; None where the environment does not do what is said of it."""
    limit: int | None = None if chain.limit is None else chain.limit._max_episode_steps
    if type(chain.bare) is BlackjackEnv:
        return BlackjackBoard(chain.bare, limit) if blackjack_is_true(settings) else None
    told = getattr(chain.bare, "s", None) is not None  # where Gymnasium's own keep the state
    if not told or not np.isfinite(model.reward).all() or not model_is_true(settings, model):
        return None
    return TableBoard(chain.bare, model, limit)


class TabularLoop:
    """Environment, exploration and update in one compiled function."""

    def __init__(
        self,
        loop: EnvironmentLoop,
        agent: TabularAgent,
        bonus: Count | None,
        chain: Chain,
        board: TableBoard | BlackjackBoard,
    ) -> None:
        assert loop.diagnostics.visited is not None
        self._seen = loop.diagnostics.visited.seen
        self._loop, self._agent, self._bonus, self._chain, self._board = loop, agent, bonus, chain, board
        self._run = compiled_loop(parts_of(agent, bonus, board))
        self._actor = actor_of(agent, bonus)
        limit = board.arrays.limit
        actions = np.zeros(MAX_LOGGED_ACTIONS if limit < 0 else min(limit, MAX_LOGGED_ACTIONS), np.int64)
        self._log = Log(
            np.zeros(CHUNK),
            np.zeros(CHUNK, np.int64),
            actions,
            choices=np.zeros(2, np.int64),
        )
        self._cursor, self._sums = np.zeros(4, np.int64), np.zeros(3)
        self._read()
        self._compile()

    def _compile(self) -> None:
        """Compile the loop, or find it on disk, by a call of no steps. Raises CannotCompile."""
        from numba.core.errors import NumbaError

        try:
            self._call(0)
        except NumbaError as error:
            lines = [line.strip() for line in str(error).splitlines() if line.strip()]
            told = next((line for line in lines if line.startswith(TELLING)), lines[0])
            raise CannotCompile(told) from None

    def _call(self, count: int) -> int:
        """Take `count` steps. Returns how many episodes ended."""
        rngs = (self._chain.bare.np_random, self._board.start_rng, self._agent.rng)
        return self._run(count, self._cursor, self._sums, self._board.arrays, self._actor, self._log, rngs)

    @property
    def steps(self) -> int:
        """Environment steps since the run began."""
        return int(self._cursor[STEPS])

    def advance(self, steps: int) -> Progress:
        """Take `steps` environment steps."""
        progress, log = Progress(self.steps), self._log
        log.choices[:] = 0
        visits = self._agent.memory.visits
        before = visits.sum(axis=0)
        for begin in range(0, steps, CHUNK):
            ended = self._call(min(CHUNK, steps - begin))
            progress.returns += log.returns[:ended].tolist()
            progress.lengths += log.lengths[:ended].tolist()
        progress.steps = self._agent.steps = self.steps
        progress.metrics.update(self._agent.update())
        if self._bonus is not None:
            self._bonus.steps = self.steps
            progress.metrics["exploration/bonus"] = float(self._sums[BONUS])
            progress.metrics.update(self._loop.bonus_metrics())
            progress.bonus = float(self._sums[PAID])
        self._seen |= visits.any(axis=1)
        self._loop.diagnostics.report(progress)
        progress.choices, progress.exploratory = log.choices.tolist()
        progress.actions = (visits.sum(axis=0) - before)[None]
        return progress

    def _read(self) -> None:
        """Take over where agent and environment are."""
        chain = self._chain
        taken = np.asarray(chain.episode.actions, np.int64)
        self._cursor[:] = self._loop.steps, self._board.read(chain.episode.origin), chain.episode.length, 0
        self._sums[RETURN], self._sums[PAID] = chain.raw.raw_return, self._loop.paid
        self._log.actions[: len(taken)] = taken

    def _write_back(self) -> None:
        """Bring agent and environment to where this loop is."""
        chain, cursor = self._chain, self._cursor
        state, length = int(cursor[STATE]), int(cursor[ELAPSED])
        origin = self._board.origin(length) if cursor[RESETS] else None
        cursor[RESETS] = 0
        self._board.write_back(state)
        chain.raw.raw_return = float(self._sums[RETURN])
        if chain.limit is not None:
            chain.limit._elapsed_steps = length  # type: ignore[assignment] # Gymnasium begins with None
        chain.episode.place(origin, self._log.actions[:length].tolist(), length, state)
        self._loop.place(self.steps, np.array([state + self._agent.first_state]), float(self._sums[PAID]))

    def state_dict(self) -> State:
        """As the readable loop's."""
        self._write_back()
        return self._loop.state_dict()

    def load_state_dict(self, state: State) -> None:
        """Return to the saved step, whichever loop saved it."""
        self._loop.load_state_dict(state)
        self._read()


def parts_of(agent: TabularAgent, bonus: Count | None, board: TableBoard | BlackjackBoard) -> Parts:
    """The functions that the loop is compiled from."""
    selector = agent.exploration
    assert isinstance(selector, RowSelector)
    return Parts(
        choose=selector.choose,
        probabilities=(type(selector).probabilities if agent.averages_policy else None) or no_probabilities,
        learn=type(agent).learn,
        rarity=no_rarity if bonus is None else Count.rarity,
        take=board.take,
        begin=board.begin,
        draws_next=agent.draws_next,
        averages_policy=agent.averages_policy,
        has_bonus=bonus is not None,
    )


def actor_of(agent: TabularAgent, bonus: Count | None) -> Actor:
    """The agent's arrays themselves, not copies."""
    selector = agent.exploration
    assert isinstance(selector, RowSelector)
    schedules = [*selector.schedules, agent.config.learning_rate]
    return Actor(
        memory=agent.memory,
        constants=agent.constants,
        known=getattr(agent.memory, selector.reads),
        pending=agent.pending,
        schedules=np.array([schedule.numbers for schedule in schedules]),
        levels=np.zeros(len(selector.schedules)),
        scratch=np.zeros(agent.shape[1]),
        policy=agent.policy,
        bonus_visits=np.zeros((1, 1), np.int64) if bonus is None else bonus.visits,
        bonus_scale=np.zeros(4) if bonus is None else np.array(bonus.scale.numbers),
        bonus_limit=0.0 if bonus is None else bonus.limit,
    )
