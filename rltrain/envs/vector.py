"""Vector environments: made from settings, saved, restored, and shared between training and evaluation.

Autoreset is disabled: `step` returns the true successor also at an episode's end, and the loop resets
the finished environments with `reset(options={"reset_mask": done})`.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from functools import partial
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.vector import AutoresetMode, SyncVectorEnv, VectorEnv, VectorWrapper

from rltrain.config.schema import EnvSettings
from rltrain.core import Array, EnvSpec, State
from rltrain.envs.classic.tasks import obstacle
from rltrain.envs.compiled import CompiledVectorEnv
from rltrain.envs.episode import Episode, RawReturn
from rltrain.envs.model import read_model
from rltrain.envs.own import prepare, register
from rltrain.envs.single import SingleEnv
from rltrain.envs.workers import SupervisedVectorEnv
from rltrain.registry import find
from rltrain.team import ALONE, Team

register()


class StatefulVectorWrapper(VectorWrapper):
    """A wrapper around the whole vector whose state travels in the checkpoint, as a normaliser's does."""

    name: str
    training = True
    """False in evaluation: the state is then used and never changed."""
    team: Team = ALONE
    """Whose environments are counted together."""

    def state_dict(self) -> State:
        """Everything that changes while training."""
        return {}

    def load_state_dict(self, state: State) -> None:
        """Restore what `state_dict` returned."""

    def begun_anew(self, index: int, obs: Any) -> Any:
        """Environment `index` has begun an episode without `reset`. Returns its observation as the agent sees it."""
        return obs


def make_env(settings: EnvSettings, index: int = 0, render_mode: str | None = None) -> gym.Env[Any, Any]:
    """Make one environment with its wrappers. `index` is its place in the vector."""
    prepare(settings.id)
    raw = RawReturn(
        gym.make(
            settings.id,
            max_episode_steps=settings.max_episode_steps,
            disable_env_checker=True,
            **settings.kwargs,
            **({} if render_mode is None else {"render_mode": render_mode}),  # not every environment knows it
        )
    )
    env: gym.Env[Any, Any] = raw
    for wrapper in settings.wrappers:
        component = find("wrappers", wrapper.name)(wrapper)  # type: ignore[attr-defined]
        if component.level == "env":
            env = component.wrap(env)
    return Episode(env, raw, index)


def make_vector(
    settings: EnvSettings,
    num_envs: int | None = None,
    *,
    training: bool = True,
    render_mode: str | None = None,
    team: Team = ALONE,
) -> VectorEnv:
    """Make `num_envs` environments (the settings' number by default) that step together, for a rank of a team."""
    count = num_envs or settings.num_envs
    prepare(settings.id)
    makers = [partial(make_env, settings, index, render_mode) for index in range(count)]
    envs: VectorEnv
    if settings.atari is not None:
        from rltrain.envs.atari import AtariVector  # loads ale-py

        envs = AtariVector(settings, count, training=training, render_mode=render_mode)
    elif render_mode is None and _compiles(settings):
        envs = CompiledVectorEnv(settings, count)
    elif settings.vectorization == "async" and render_mode is None:  # a window belongs to this process
        envs = SupervisedVectorEnv(makers, timeout=settings.worker_timeout, restarts=settings.worker_restarts)
    elif count == 1 and SingleEnv.fits(first := makers[0]()):
        envs = SingleEnv(lambda: first)
    else:
        envs = SyncVectorEnv(makers, copy=False, autoreset_mode=AutoresetMode.DISABLED)
    for wrapper in settings.wrappers:
        component = find("wrappers", wrapper.name)(wrapper)  # type: ignore[attr-defined]
        if component.level == "vector":
            wrapped: StatefulVectorWrapper = component.wrap(envs)
            wrapped.training, wrapped.team = training, team
            envs = wrapped
    return envs


def _compiles(settings: EnvSettings) -> bool:
    """Whether to step by compiled code. Raises ValueError where that is asked for and there is none."""
    if settings.vectorization not in ("auto", "compiled"):
        return False
    reason = obstacle(settings)
    if reason is not None and settings.vectorization == "compiled":
        raise ValueError(f"env.vectorization: {reason}")
    return reason is None


def begin(envs: VectorEnv, seeds: list[int]) -> tuple[Any, dict[str, Any]]:
    """Reset every environment on a seed of its own."""
    return envs.reset(seed=seeds)  # type: ignore[arg-type] # Gymnasium takes a list and declares an int


def call(envs: VectorEnv, name: str, *args: Any) -> tuple[Any, ...]:
    """Call a method of every single environment; both of Gymnasium's vectors can, their base does not say so."""
    results: tuple[Any, ...] = envs.unwrapped.call(name, *args)  # type: ignore[attr-defined]
    return results


def describe(settings: EnvSettings, envs: VectorEnv, team: Team = ALONE) -> EnvSpec:
    """What agents may know of these environments, and of the team that they learn in."""
    spec = gym.spec(settings.id)
    return EnvSpec(
        id=settings.id,
        observation_space=envs.single_observation_space,
        action_space=envs.single_action_space,
        num_envs=envs.num_envs,
        max_episode_steps=settings.max_episode_steps
        or (spec.max_episode_steps if settings.atari is None else settings.atari.max_episode_steps),
        frame_stack=_frame_stack(settings),
        reward_threshold=spec.reward_threshold,
        model=read_model(settings) if _numbered(envs) else None,  # an environment is made for it
        team=team,
    )


def _frame_stack(settings: EnvSettings) -> int:
    """K, where a wrapper stacks frames, or the preprocessing of Atari."""
    if settings.atari is not None:
        return settings.atari.frame_stack
    stacks: list[Any] = [each for each in settings.wrappers if each.name == "frame_stack"]  # type: ignore[attr-defined]
    return int(stacks[-1].size) if stacks else 1


def _numbered(envs: VectorEnv) -> bool:
    """Whether states and actions are numbers, as a model's are."""
    spaces = envs.single_observation_space, envs.single_action_space
    return all(isinstance(space, gym.spaces.Discrete) for space in spaces)


def _stateful(envs: VectorEnv) -> Iterator[StatefulVectorWrapper]:
    while isinstance(envs, VectorWrapper):
        if isinstance(envs, StatefulVectorWrapper):
            yield envs
        envs = envs.env


def wrapper_state(envs: VectorEnv) -> State:
    """State of the wrappers around the vector, such as normalisation statistics."""
    return {wrapper.name: wrapper.state_dict() for wrapper in _stateful(envs)}


def load_wrapper_state(envs: VectorEnv, state: State) -> None:
    """Restore `wrapper_state`."""
    for wrapper in _stateful(envs):
        wrapper.load_state_dict(state[wrapper.name])


def snapshot(envs: VectorEnv) -> State:
    """State of the wrappers and of the open episode of every environment."""
    state: State = {"wrappers": wrapper_state(envs), "episodes": list(call(envs, "snapshot"))}
    if isinstance(base := envs.unwrapped, SupervisedVectorEnv):
        state["workers"] = base.state_dict()  # after the snapshots, which may have taken seeds
    return state


def restore(envs: VectorEnv, state: State, obs: Array, *, seeds: list[int]) -> tuple[Array, list[int]]:
    """Return to a snapshot, at which the loop saw `obs` (N, *obs_shape).

    Returns what it sees now, and the environments whose episode could not be repeated.

    An episode that cannot be repeated is begun anew, with a warning that names the environment.
    """
    if isinstance(base := envs.unwrapped, SupervisedVectorEnv) and "workers" in state:  # else another kind saved it
        base.load_state_dict(state["workers"])
    begin(envs, seeds)
    results = call(envs, "restore", state["episodes"])
    load_wrapper_state(envs, state["wrappers"])
    current, lost = np.array(obs), []
    for index, (fresh, reason) in enumerate(results):
        if reason is not None:
            warnings.warn(
                f"environment {index}: {reason}; its episode begins anew, so the run is not exactly "
                "what it would have been without the interruption",
                stacklevel=2,
            )
            for wrapper in reversed(list(_stateful(envs))):  # innermost first
                fresh = wrapper.begun_anew(index, fresh)
            current[index] = fresh
            lost.append(index)
    return current, lost
