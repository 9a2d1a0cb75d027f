"""An environment that tells its model, in the form in which a loop draws from it, and the proof that it does.

What the model says is trusted only after environment and model have taken the same steps from the same
random numbers: a subclass may change what `step` does and leave the table as it was.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
from gymnasium.wrappers import OrderEnforcing, TimeLimit

from rltrain.config.schema import EnvSettings
from rltrain.envs.episode import Episode, RawReturn
from rltrain.envs.single import SingleEnv
from rltrain.envs.vector import make_env
from rltrain.kernels.compile import World, draw
from rltrain.mdp import Model

PROBE_STEPS = 300
"""Steps that an environment and its model are compared for before the model is trusted."""


class Chain(NamedTuple):
    """One environment and what is wrapped around it."""

    episode: Episode
    raw: RawReturn
    limit: TimeLimit[Any, Any] | None
    bare: Any  # gym.Env with `P`, `s` and `initial_state_distrib`


def unwrap(envs: Any) -> Chain | None:
    """The one environment of a vector, if only a step limit is wrapped around it."""
    if not isinstance(envs, SingleEnv):
        return None
    episode = envs.env
    assert isinstance(episode, Episode)
    raw, limit = episode.env, None
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
    env = make_env(settings.model_copy(update={"wrappers": ()})).unwrapped
    rng = np.random.default_rng(0)
    world = world_of(model, None)
    env.reset(seed=0)
    twin = np.random.Generator(np.random.PCG64())
    twin.bit_generator.state = np.random.Generator(np.random.PCG64(np.random.SeedSequence(0))).bit_generator.state
    state = draw(world.start, twin)
    try:
        for _ in range(PROBE_STEPS):
            action = int(rng.integers(model.actions))
            seen, paid, terminated, truncated, info = env.step(action)
            outcome = draw(world.cumulative[state, action], twin)
            place = (state, action, outcome)
            state = int(world.next_state[place])
            same = seen == state and paid == world.reward[place] and terminated == world.terminated[place]
            if not same or truncated or "is_success" in info or "success" in info:
                return False
            if terminated:
                seen, _ = env.reset()
                state = draw(world.start, twin)
                if seen != state:
                    return False
        return bool(env.np_random.bit_generator.state == twin.bit_generator.state and env.s == state)  # type: ignore[attr-defined]
    finally:
        env.close()
