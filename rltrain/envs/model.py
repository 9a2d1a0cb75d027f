"""Which environments are known completely, so that a policy can be judged without sampling."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.envs.toy_text.blackjack import BlackjackEnv
from gymnasium.envs.toy_text.taxi import TaxiEnv
from gymnasium.wrappers import OrderEnforcing, PassiveEnvChecker, TimeLimit

from rltrain.config.schema import EnvSettings
from rltrain.envs.blackjack import blackjack_model
from rltrain.mdp import Model

HARMLESS = (OrderEnforcing, PassiveEnvChecker, TimeLimit)
"""Wrappers that change neither what is seen nor what is paid; a step limit is a matter of the evaluation."""
PROBE_STEPS = 300
"""Steps that an environment and its model are compared for before the model is trusted."""


def read_model(settings: EnvSettings) -> Model | None:
    """The environment as an exact model over what the agent sees, or None where that is not known.

    Known are environments with Gymnasium's table `P`, such as FrozenLake, CliffWalking and Taxi, whose steps follow
    it, and Blackjack with the wrapper `discretize` and `sab: false`. Any other wrapper may change observations or
    rewards.
    """
    env = gym.make(settings.id, disable_env_checker=True, **settings.kwargs)
    try:
        if not _only_harmless(env):
            return None
        wrappers = [wrapper.name for wrapper in settings.wrappers]  # type: ignore[attr-defined]
        if type(env.unwrapped) is BlackjackEnv:
            return blackjack_model() if wrappers == ["discretize"] and _is_markov(env.unwrapped) else None
        return None if wrappers else _from_table(env.unwrapped)
    finally:
        env.close()


def _only_harmless(env: gym.Env[Any, Any]) -> bool:
    """A registered id may bring wrappers of its own."""
    while isinstance(env, gym.Wrapper):
        if type(env) not in HARMLESS:
            return False
        env = env.env
    return True


def _is_markov(blackjack: BlackjackEnv) -> bool:
    """Where naturals are paid differently, a soft 21 of two cards looks like one of three and is worth more."""
    return not blackjack.sab and not blackjack.natural


def _from_table(env: gym.Env[Any, Any]) -> Model | None:
    if isinstance(env, TaxiEnv) and env.fickle_passenger:
        return None  # whether the passenger may still change their mind is not in the table
    try:
        model = Model.from_table(env.P, env.initial_state_distrib)  # type: ignore[attr-defined]
    except Exception:  # another package's attribute that happens to be called P may be anything and raise anything
        return None
    numbered = _counts(env.observation_space, model.states) and _counts(env.action_space, model.actions)
    return model if numbered and _agrees(env, model) else None


def _agrees(env: Any, model: Model) -> bool:
    """Whether random steps are outcomes of the table: a subclass may change what `step` does and leave it as it was."""
    rng, over, state = np.random.default_rng(0), True, 0
    for step in range(PROBE_STEPS):
        if over:
            state, _ = env.reset(seed=None if step else 0)
            if model.start[state] <= 0:
                return False
        action = int(rng.integers(model.actions))
        table = env.P[state][action]
        state, reward, over, truncated, _ = env.step(action)
        near = 1e-6 * max(1.0, abs(reward))  # a reward may have been a float32 in between
        told = (p > 0 and (s, end) == (state, over) and abs(r - reward) < near for p, s, r, end in table)
        if truncated or not any(told):
            return False
    return True


def _counts(space: gym.Space[Any], size: int) -> bool:
    """Whether the elements of `space` are the numbers 0..size-1."""
    return isinstance(space, gym.spaces.Discrete) and int(space.start) == 0 and int(space.n) == size
