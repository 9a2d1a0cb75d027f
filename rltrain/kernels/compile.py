"""The whole tabular loop, compiled by Numba for one combination of exploration, update rule and bonus.

The parts are the very functions that the readable loop calls. What Numba compiles is kept on disk (`jit.py`), so
that a later process starts at once.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import numpy as np

from rltrain.compilable import compilable
from rltrain.core import Array
from rltrain.intrinsic import pay
from rltrain.jit import compiled
from rltrain.schedules import schedule_value
from rltrain.tabular import Step

STEPS, STATE, ELAPSED, RESETS = range(4)
"""Places in the cursor: environment steps, state, steps of the open episode, resets since the cursor was set."""
RETURN, BONUS, PAID = range(3)
"""Places in the sums: return of the open episode, latest bonus, all bonuses."""


class Parts(NamedTuple):
    """What a loop is compiled from: functions, and which of them it calls."""

    choose: Callable[..., int]
    probabilities: Callable[..., None]
    learn: Callable[..., None]
    rarity: Callable[..., float]
    take: Callable[..., tuple[int, float, bool]]
    begin: Callable[..., int]
    draws_next: bool
    averages_policy: bool
    has_bonus: bool


class Actor(NamedTuple):
    """The agent's arrays, and room to work in."""

    memory: Any
    constants: Any
    known: Array  # (S, A) or (S, A, 2): what the exploration reads beside q
    pending: Array  # (1,) int64: the next action where it is drawn already, else -1
    schedules: Array  # (L + 1, 4) the exploration's, then the learning rate
    levels: Array  # (L,)
    scratch: Array  # (A,)
    policy: Array  # (A,)
    bonus_visits: Array  # (S, 1) or (S, A) int64
    bonus_scale: Array  # (4,) the numbers of a schedule
    bonus_limit: float


class Log(NamedTuple):
    """What happened: episodes that ended in one call, the actions of the open one, and what was seen of exploration."""

    returns: Array  # (C,)
    lengths: Array  # (C,) int64
    actions: Array  # (L,) int64: as many as an episode's snapshot may hold
    choices: Array  # (2,) int64: actions chosen, and those among them that explore


@compilable
def no_rarity(visits: Any, obs: int, action: int, next_obs: int) -> float:
    """Stands for the bonus where there is none."""
    return 0.0


@compilable
def scaled(novelty: float, actor: Any, step: int) -> Any:
    """The bonus of a step, as the float32 that the readable loop adds."""
    return np.float32(pay(novelty, schedule_value(actor.bonus_scale, step), actor.bonus_limit))


@compilable
def write_down(actions: Any, visits: Any, elapsed: int, obs: int, action: int) -> None:
    """Count the pair, and keep the action in the open episode's while there is room."""
    visits[obs, action] += 1
    if elapsed < len(actions):
        actions[elapsed] = action


@compilable
def tally(choices: Any, values: Any, action: int) -> None:
    """Count a choice as `Choices` does: it explores where another action is worth more."""
    choices[0] += 1
    for value in values:
        if value > values[action]:
            choices[1] += 1
            break


@compilable
def set_levels(schedules: Any, levels: Any, step: int) -> None:
    """The exploration's schedules at an environment step."""
    for index in range(len(levels)):
        levels[index] = schedule_value(schedules[index], step)


@cache
def compiled_loop(parts: Parts) -> Callable[..., int]:
    """The compiled loop of these parts; it is compiled, or found on disk, at its first call."""
    loop: Callable[..., int] = compiled(readable_loop(parts), [part for part in parts if callable(part)])
    return loop


def readable_loop(parts: Parts) -> Callable[..., int]:
    """The loop as plain Python: `run(count, cursor, sums, world, actor, log, rngs)` -> episodes ended."""
    choose, probabilities, learn, rare, take, begin, draws_next, averages_policy, has_bonus = parts

    def run(count: int, cursor: Any, sums: Any, world: Any, actor: Any, log: Any, rngs: Any) -> int:
        memory, q, visits, known, levels = actor.memory, actor.memory.q, actor.memory.visits, actor.known, actor.levels
        (env_rng, start_rng, rng), now, obs, elapsed = rngs, cursor[STEPS], cursor[STATE], cursor[ELAPSED]
        total, bonus, extra, ended, next_action = sums[RETURN], sums[BONUS], sums[PAID], 0, actor.pending[0]
        for _ in range(count):
            action, next_action = next_action, -1
            if action < 0:
                set_levels(actor.schedules, levels, now)
                action = choose(q[obs], known[obs], levels, actor.scratch, rng)
                tally(log.choices, q[obs], action)
            next_obs, paid, terminated = take(world, obs, action, env_rng)
            reward = np.float32(paid)
            if has_bonus:
                bonus = scaled(rare(actor.bonus_visits, obs, action, next_obs), actor, now)
                reward, extra = np.float32(reward + np.float32(bonus)), extra + bonus
            write_down(log.actions, visits, elapsed, obs, action)
            total, elapsed, truncated = total + paid, elapsed + 1, elapsed + 1 == world.limit
            if (draws_next or averages_policy) and not terminated:
                set_levels(actor.schedules, levels, now + 1)
                if averages_policy:
                    probabilities(q[next_obs], known[next_obs], levels, actor.policy)
                if draws_next:
                    next_action = choose(q[next_obs], known[next_obs], levels, actor.scratch, rng)
                    tally(log.choices, q[next_obs], next_action)
            rate = schedule_value(actor.schedules[len(levels)], now)
            step = Step(0, obs, action, float(reward), next_obs, next_action, terminated, truncated, rate)
            learn(memory, actor.constants, step, actor.policy, rng)
            now, obs = now + 1, next_obs
            if terminated or truncated:
                obs = begin(world, log.actions, elapsed, env_rng, start_rng)
                log.returns[ended], log.lengths[ended] = total, elapsed
                ended, total, elapsed, next_action = ended + 1, 0.0, 0, -1
        cursor[STEPS], cursor[STATE], cursor[ELAPSED], cursor[RESETS] = now, obs, elapsed, cursor[RESETS] + ended
        sums[RETURN], sums[BONUS], sums[PAID], actor.pending[0] = total, bonus, extra, next_action
        return ended

    return run
