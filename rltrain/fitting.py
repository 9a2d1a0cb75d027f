"""What does not fit together in a configuration that is valid by itself: environment, agent, exploration, loop."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import gymnasium as gym

from rltrain.config.schema import Config
from rltrain.core import EnvSpec, Problem
from rltrain.envs.classic.tasks import obstacle
from rltrain.envs.vector import describe, make_env, make_vector
from rltrain.experiment import build, component_name
from rltrain.registry import find, names

EXAMPLES = {"selector": "epsilon_greedy", "noise": "gaussian_noise"}
"""An exploration of each kind."""


def environment_problems(config: Config) -> list[Problem]:
    """What keeps the environment from being made."""
    env = config.env
    if ":" in env.id:
        return [Problem("env.id", f"'{env.id}' would import a module: name it with --plugin instead")]
    try:
        gym.spec(env.id)
    except gym.error.DeprecatedEnv as error:
        return [Problem("env.id", str(error))]
    except gym.error.Error:
        near = difflib.get_close_matches(env.id, list(gym.registry), n=1)
        hint = f", did you mean '{near[0]}'?" if near else ""
        own = " (an environment of your own? name its module with --plugin)"
        return [Problem("env.id", f"unknown environment '{env.id}'{hint or own}")]
    if env.vectorization != "async":  # a value that was written out by default is no problem
        fields = type(env).model_fields
        for name in ("worker_timeout", "worker_restarts"):
            if getattr(env, name) != fields[name].default:
                return [Problem(f"env.{name}", "is for worker processes: set env.vectorization to async")]
    try:
        make_env(config.env).close()
        probe = make_vector(config.env.model_copy(update={"vectorization": "sync"}), 1)
        probe.close()
    except Exception as error:  # an environment may raise whatever it likes; the user gets its words
        bare = env.model_copy(update={"wrappers": ()})
        try:
            make_env(bare).close()
        except Exception as inner:
            where = "env.kwargs" if env.kwargs else "env.id"
            return [Problem(where, f"{env.id} cannot be made: {_first_line(inner)}")]
        return [Problem("env.wrappers", _first_line(error))]
    return []


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def problems(config: Config) -> list[Problem]:
    """Everything about a valid configuration that does not fit together, before any work is done."""
    found = environment_problems(config)
    if found:
        return found
    if config.env.vectorization == "compiled" and (reason := obstacle(config.env)) is not None:
        return [Problem("env.vectorization", f"{reason}: use auto or sync")]
    envs = make_vector(config.env.model_copy(update={"vectorization": "sync"}), 1)
    spec = describe(config.env, envs)
    envs.close()
    spec = replace(spec, num_envs=config.env.num_envs)
    return list(_misfits(config, spec)) or list(_not_compiled(config))


def _not_compiled(config: Config) -> Iterator[Problem]:
    if config.train.compile == "on":
        experiment = build(config)
        experiment.envs.close()
        if experiment.note is not None:
            yield Problem("train.compile", experiment.note)


def _misfits(config: Config, spec: EnvSpec) -> Iterator[Problem]:
    agent_name = component_name(config.agent)
    kind = config.agent.explores_with  # type: ignore[attr-defined]
    if kind is None and config.exploration is not None:
        yield Problem("exploration", f"{agent_name} takes no exploration as it is set: leave this block out")
    if kind is not None and config.exploration is None:
        yield Problem("exploration", f"{agent_name} needs an exploration, for example {{name: {EXAMPLES[kind]}}}")
    if kind is not None and config.exploration is not None:
        yield from _exploration_misfits(config, component_name(config.exploration), agent_name)
    parts: list[Any] = [config.agent, config.exploration, *config.bonuses, *config.env.wrappers]
    for part in parts:
        if part is not None:
            yield from part.problems(config, spec)


def _exploration_misfits(config: Config, name: str, agent_name: str) -> Iterator[Problem]:
    settings: Any = config.agent
    exploration = find("explorations", name)(config.exploration)
    has, kind = exploration.kind, settings.explores_with
    if has != kind:
        yield Problem(
            "exploration.name",
            f"'{name}' is a {has} and {agent_name} explores with a {kind}, for example {EXAMPLES[kind]}",
        )
        return
    needs = getattr(exploration, "needs", ())
    if needs and not set(needs) & set(settings.offers):
        ways = [way for name, way in getattr(settings, "on_request", {}).items() if name in needs]
        others = [other for other in names("explorations") if not getattr(find("explorations", other), "needs", ())]
        yield Problem(
            "exploration.name",
            f"{name} needs the {' or '.join(needs)} of every action, which {agent_name} does not keep: "
            f"{' or '.join([*ways, 'use ' + ', '.join(others)])}",
        )
