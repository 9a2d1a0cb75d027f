"""What does not fit together in a configuration that is valid by itself: environment, agent, exploration, loop."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from rltrain.config.schema import NONE_EARLY, Config
from rltrain.core import EnvSpec, Problem
from rltrain.envs.classic.tasks import obstacle
from rltrain.envs.probing import environment_problems, step_problems
from rltrain.envs.vector import describe, make_vector
from rltrain.experiment import build
from rltrain.registry import find, names, settings_class

MANY_RUNS = "is for one run alone; many are trained at once anyway, each in a process: leave it out"
"""Why a run of several processes is none of many."""


def problems(config: Config) -> list[Problem]:
    """Everything about a valid configuration that does not fit together, before any work is done."""
    known = environment(config)
    found = known if isinstance(known, list) else misfits(config, known)
    return found or list(step_problems(config.env))


def environment(config: Config) -> EnvSpec | list[Problem]:
    """What the environment is like; or what is wrong with it. Nothing but the block `env` counts."""
    found = environment_problems(config)
    if found:
        return found
    if config.env.vectorization == "compiled" and (reason := obstacle(config.env)) is not None:
        return [Problem("env.vectorization", f"{reason}: use auto or sync")]
    return _spec(config)


def notes(config: Config) -> list[str]:
    """What a user should be told of a configuration that fits together."""
    return list(config.notes(_spec(config)))


def _spec(config: Config) -> EnvSpec:
    """What an agent will know of the environments, from one of them."""
    envs = make_vector(config.env.model_copy(update={"vectorization": "sync"}), 1)
    spec = describe(config.env, envs)
    envs.close()
    return replace(spec, num_envs=config.env.num_envs)


def misfits(config: Config, spec: EnvSpec) -> list[Problem]:
    """What does not fit together where the environment is as it should be."""
    spec = replace(spec, num_envs=spec.num_envs * config.train.data_parallel)
    return list(_misfits(config, spec)) or list(_not_compiled(config))


def _undivided(config: Config) -> str | None:
    """Why a run cannot be divided among several processes; None where it can."""
    agent: Any = config.agent
    if not getattr(agent, "averages_gradients", False):
        return f"{agent.name} learns in one process: leave this out, or use {_or(dividing_agents())}"
    if config.bonuses:
        return "bonuses learn from what one process sees: leave them out, or this"
    if config.train.compile == "on":
        return "nothing is compiled for several processes: leave train.compile out, or this"
    return MANY_RUNS if config.group is not None else None


def of_many(config: Config) -> list[Problem]:
    """What keeps this from being one of many runs that train at once."""
    return [Problem("train.data_parallel", MANY_RUNS)] if config.train.data_parallel > 1 else []


def dividing_agents() -> list[str]:
    """The agents that several processes can learn together."""
    return [name for name in names("agents") if getattr(settings_class("agents", name), "averages_gradients", False)]


def _not_compiled(config: Config) -> Iterator[Problem]:
    if config.train.compile == "on":
        experiment = build(config)
        experiment.envs.close()
        if experiment.note is not None:
            yield Problem("train.compile", experiment.note)


def _misfits(config: Config, spec: EnvSpec) -> Iterator[Problem]:
    agent: Any = config.agent
    if agent.explores_with is not None and config.exploration is None:
        yield Problem("exploration", f"{agent.name} needs an exploration: {_or(fitting_explorations(agent))}")
    if config.exploration is not None and (reason := exploration_misfit(agent, config.exploration)):
        yield Problem("exploration" if agent.explores_with is None else "exploration.name", reason)
    if config.bonuses and (reason := bonus_misfit(agent)):
        yield Problem("bonuses", reason)
    if config.train.data_parallel > 1 and (reason := _undivided(config)):
        yield Problem("train.data_parallel", reason)
    if config.train.stop.return_ is not None and not config.evaluated_early:
        yield Problem("train.stop.return", f"{NONE_EARLY}, or leave this out")
    for part in config.parts:
        yield from part.problems(config, spec)


def exploration_misfit(agent: Any, exploration: Any) -> str | None:
    """Why an agent with these settings cannot explore with those, and what would fit; None where it can.

    An exploration `needs` fields of `ActionValues`, of which the agent `offers` some, and with other settings
    (`remedies`) more; an agent `requires` functions of the exploration, such as its probabilities.
    """
    if (found := _obstacle(agent, exploration.name, find("explorations", exploration.name)(exploration))) is None:
        return None
    why, remedy = found
    if agent.explores_with is None:
        return f"{why}: {remedy}"
    ways = [remedy] if remedy else []
    ways += [f"use {_or(others)}"] if (others := fitting_explorations(agent)) else []
    return f"{why}: {', or '.join(ways)} (`rltrain list explorations --for {agent.name}` tells what goes with it)"


def _obstacle(agent: Any, name: str, made: Any = None) -> tuple[str, str] | None:
    """What is in the way, and what would remove it; the latter may be empty.

    `made` is the exploration with its settings, where they are known: what it needs may depend on them.
    """
    exploration, kind = made or find("explorations", name), agent.explores_with
    if kind is None:
        return f"{agent.name} {getattr(agent, 'explores_by', 'takes no exploration')}", "leave this block out"
    if exploration.kind != kind:
        return f"'{name}' is a {exploration.kind} and {agent.name} explores with a {kind}", ""
    needs = getattr(exploration, "needs", ())
    if needs and not set(needs) & set(agent.offers):
        told = getattr(agent, "remedies", {})
        settings = [f"agent.{key}={value}" for need in needs for key, value in told.get(need, {}).items()]
        why = f"{name} needs the {' or '.join(needs)} of every action, which {agent.name} does not keep"
        return why, f"set {' or '.join(settings)}" if settings else ""
    for what in getattr(agent, "requires", ()):
        if getattr(exploration, what, None) is None:
            return f"{agent.name} averages over the {what} of the next action, which {name} has not in closed form", ""
    return None


def fitting_explorations(agent: Any) -> list[str]:
    """The explorations that an agent with these settings takes."""
    return [name for name in names("explorations") if _obstacle(agent, name) is None]


def bonus_misfit(agent: Any) -> str | None:
    """Why no bonus has an effect on an agent with these settings; None where they do."""
    if getattr(agent, "learns_from_reward", True):
        return None
    return f"{agent.name} plans with the model and learns from no reward: leave bonuses out, or use dyna_q"


def pairs(kind: str, name: str) -> dict[str, str | None]:
    """Every exploration or bonus beside an agent, or agent beside an exploration: why not, None where they fit.

    With default settings. Raises UnknownComponent.
    """
    if kind == "bonuses":
        return {bonus: bonus_misfit(_default(name)) for bonus in names("bonuses")}
    if kind == "agents":
        find("explorations", name)
        found = {agent: _obstacle(_default(agent), name) for agent in names("agents")}
    else:
        found = {exploration: _obstacle(_default(name), exploration) for exploration in names("explorations")}
    return {key: None if reason is None else ": ".join(filter(None, reason)) for key, reason in found.items()}


def _default(name: str) -> Any:
    """The settings of an agent, as they are when nothing is set."""
    return settings_class("agents", name)(name=name)  # type: ignore[call-arg]


def _or(words: list[str]) -> str:
    return " or ".join((", ".join(words[:-1]), words[-1])) if len(words) > 1 else "".join(words)
