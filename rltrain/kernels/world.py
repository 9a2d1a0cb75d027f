"""An environment that tells its model, in the form in which a loop draws from it, and the proof that it does.

What the model says is trusted only after environment and model have taken the same steps from the same
random numbers: a subclass may change what `step` does and leave the table as it was.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
from gymnasium.wrappers import OrderEnforcing, TimeLimit, TransformObservation

from rltrain.compilable import compilable
from rltrain.config.schema import EnvSettings
from rltrain.core import Array, State
from rltrain.envs.episode import Episode, RawReturn, Watched
from rltrain.envs.model import PROBE_STEPS
from rltrain.envs.single import SingleEnv
from rltrain.envs.vector import make_env
from rltrain.mdp import Model


class World(NamedTuple):
    """The environment. Shapes: S states, A actions, K outcomes."""

    cumulative: Array  # (S, A, K) cumulative probabilities; -1 beyond the real outcomes
    next_state: Array  # (S, A, K) int64
    reward: Array  # (S, A, K)
    terminated: Array  # (S, A, K) bool
    start: Array  # (S,) cumulative probabilities of the first state
    limit: int  # steps of an episode; -1 for no limit


@compilable
def draw(cumulative: Any, rng: Any) -> int:
    """An index by its cumulative probabilities, with the one draw that Gymnasium's `categorical_sample` makes."""
    uniform = rng.random()
    for index in range(len(cumulative)):
        if cumulative[index] > uniform:
            return index
    return 0


@compilable
def take(world: Any, obs: int, action: int, rng: Any) -> tuple[int, float, bool]:
    """Take an action: the state it leads to, what it pays, and whether the task is over."""
    uniform, outcome = rng.random(), 0
    for index in range(world.cumulative.shape[2]):
        if world.cumulative[obs, action, index] > uniform:
            outcome = index
            break
    place = (obs, action, outcome)
    return world.next_state[place], world.reward[place], world.terminated[place]


@compilable
def begin(world: Any, actions: Any, elapsed: int, rng: Any, start_rng: Any) -> int:
    """Begin an episode: the first state. The other arguments are for worlds that need them."""
    return draw(world.start, rng)


class Chain(NamedTuple):
    """One environment and what is wrapped around it."""

    episode: Episode
    raw: RawReturn
    limit: TimeLimit[Any, Any] | None
    bare: Any  # the environment itself


def unwrap(envs: Any) -> Chain | None:
    """The one environment of a vector, if only a step limit, or what numbers observations, is wrapped around it."""
    if not isinstance(envs, SingleEnv):
        return None
    episode = envs.env
    assert isinstance(episode, Episode)
    raw, limit = episode.env, None
    if type(raw) is TransformObservation:
        raw = raw.env
        if type(raw) is Watched:  # which observations a compiled loop does not cast
            raw = raw.env
    if not isinstance(raw, RawReturn):
        return None
    inner = raw.env
    while isinstance(inner, gym.Wrapper):
        if type(inner) is TimeLimit and limit is None:
            limit = inner
        elif type(inner) is not OrderEnforcing:
            return None
        inner = inner.env
    return Chain(episode, raw, limit, inner)


def world_of(model: Model, limit: int | None) -> World:
    """The model in the form in which an environment draws from it."""
    cumulative = np.cumsum(model.probability, axis=2)
    cumulative[np.arange(cumulative.shape[2]) >= model.outcomes[..., None]] = -1.0
    return World(
        cumulative=cumulative,
        next_state=np.ascontiguousarray(model.next_state),
        reward=np.ascontiguousarray(model.reward),
        terminated=np.ascontiguousarray(model.terminated),
        start=np.cumsum(model.start),
        limit=-1 if limit is None else limit,
    )


def model_is_true(settings: EnvSettings, model: Model) -> bool:
    """Whether the environment takes the very steps that its model says, and draws as often."""
    return behaves(settings, world_of(model, None), take, begin, model.actions, int)


def behaves(
    settings: EnvSettings, world: Any, take: Any, begin: Any, actions: int, number: Callable[[Any], int]
) -> bool:
    """Whether environment and world take equal steps from equal random numbers. `number` numbers an observation."""
    env = make_env(settings.model_copy(update={"wrappers": ()})).unwrapped
    rng, aside = np.random.default_rng(0), np.random.default_rng(0)
    twin = np.random.Generator(np.random.PCG64(np.random.SeedSequence(0)))  # as Gymnasium seeds
    nothing = np.zeros(0, np.int64)
    try:
        seen, _ = env.reset(seed=0)
        state = begin(world, nothing, 0, twin, aside)
        for _ in range(PROBE_STEPS):
            if number(seen) != state:
                return False
            action = int(rng.integers(actions))
            seen, paid, terminated, truncated, info = env.step(action)
            state, expected, over = take(world, state, action, twin)
            same = number(seen) == state and paid == expected and terminated == over
            if not same or truncated or "is_success" in info or "success" in info:
                return False
            if terminated:
                seen, _ = env.reset()
                state = begin(world, nothing, 0, twin, aside)
        return bool(env.np_random.bit_generator.state == twin.bit_generator.state)
    finally:
        env.close()


class TableBoard:
    """An environment with a table of outcomes, in the hands of a compiled loop."""

    take, begin = staticmethod(take), staticmethod(begin)

    def __init__(self, bare: Any, model: Model, limit: int | None) -> None:
        self._bare = bare
        self.arrays = world_of(model, limit)

    @property
    def start_rng(self) -> np.random.Generator:
        """Not needed: where an episode began is counted back."""
        rng: np.random.Generator = self._bare.np_random
        return rng

    def read(self, origin: State) -> int:
        """The state that the environment is in."""
        return int(self._bare.s)

    def write_back(self, state: int) -> None:
        """Put the environment into the state that the loop is in."""
        self._bare.s = state

    def origin(self, length: int) -> State:
        """The generator's state before the open episode's reset: each reset and each step drew once since.

        PCG64 can be moved by any number of draws, backwards too: its period is 2**128.
        """
        before = np.random.PCG64()
        before.state = self._bare.np_random.bit_generator.state
        before.advance(2**128 - (1 + length))
        return {"rng": before.state}
