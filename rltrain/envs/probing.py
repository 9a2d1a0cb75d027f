"""What keeps an environment from being made and played, found before any work is done."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress

import gymnasium as gym

from rltrain.config.schema import Config, EnvSettings
from rltrain.core import ConfigError, Problem, first_line, raised
from rltrain.envs.episode import EnvironmentFault
from rltrain.envs.own import prepare
from rltrain.envs.vector import make_env, make_vector
from rltrain.registry import did_you_mean, find

OLD_ATARI = re.compile(r"(NoFrameskip|Deterministic)?-v\d+$")
"""What followed the name of a game before ids began with ALE/."""
GYMNASIUMS = ("id", "max_episode_steps", "disable_env_checker")
"""Keywords of gymnasium.make itself."""


def environment_problems(config: Config) -> list[Problem]:
    """What keeps the environment from being made."""
    env = config.env
    if ":" in env.id:
        return [Problem("env.id", f"'{env.id}' would import a module: name it with --plugin instead")]
    try:
        prepare(env.id)
        gym.spec(env.id)
    except ConfigError as error:
        return [Problem("env.id", str(error))]
    except gym.error.DeprecatedEnv as error:
        return [Problem("env.id", str(error))]
    except gym.error.Error:
        near = _game(env)
        hint = f", did you mean '{near}'?" if near else did_you_mean(env.id, gym.registry)
        hint = hint or " (an environment of your own? name its module with --plugin)"
        return [Problem("env.id", f"unknown environment '{env.id}'{hint}")]
    except (Exception, SystemExit) as error:  # the package is there, and broken
        return [Problem("env.id", f"{env.id} cannot be made: {first_line(error)}")]
    if env.vectorization != "async":  # a value that was written out by default is no problem
        fields = type(env).model_fields
        for name in ("worker_timeout", "worker_restarts"):
            if getattr(env, name) != fields[name].default:
                return [Problem(f"env.{name}", "is for worker processes: set env.vectorization to async")]
    found = [*_wrapper_problems(env), *(_atari_problems(env) if env.atari is not None else ())]
    if found or env.atari is not None:
        return found
    return [*_keyword_problems(env)] or _making_problems(env)


def _keyword_problems(env: EnvSettings) -> Iterator[Problem]:
    """Keywords that no environment gets, since gymnasium.make has them itself."""
    for name in (name for name in GYMNASIUMS if name in env.kwargs):
        instead = f"set env.{name}" if name in type(env).model_fields else "leave it out"
        yield Problem(f"env.kwargs.{name}", f"is no keyword of the environment: {instead}")


def _making_problems(env: EnvSettings) -> list[Problem]:
    """What goes wrong when it is made, with its wrappers and without them."""
    try:
        make_env(env).close()
        probe = make_vector(env.model_copy(update={"vectorization": "sync"}), 1)
        probe.close()
    except (Exception, SystemExit) as error:  # an environment may raise whatever it likes; the user gets its words
        bare = env.model_copy(update={"wrappers": ()})
        try:
            make_env(bare).close()
        except (Exception, SystemExit) as inner:
            where = "env.kwargs" if env.kwargs else "env.id"
            bare_word = isinstance(inner, KeyError | SystemExit)
            said = f"it {raised(inner)}" if bare_word else first_line(inner)
            return [Problem(where, f"{env.id} cannot be made: {said}")]
        said = first_line(error) if str(error).strip() else f"{env.id} cannot be made with them: {first_line(error)}"
        return [Problem("env.wrappers", said)]
    return []


def step_problems(env: EnvSettings) -> Iterator[Problem]:
    """What goes wrong in an episode's first step."""
    if env.atari is not None or env.vectorization == "async":  # a worker may hang
        return
    if (said := _first_step(env)) is not None:
        bare = _first_step(env.model_copy(update={"wrappers": ()})) if env.wrappers else said
        where = "env.wrappers" if bare is None else "env.kwargs" if env.kwargs else "env.id"
        yield Problem(where, f"{env.id} cannot be played: {said}")


def _first_step(env: EnvSettings) -> str | None:
    """What is wrong with it, or None."""
    made = make_env(env)
    made.action_space.seed(0)
    try:
        made.reset(seed=0)
        made.step(made.action_space.sample())
    except Exception as error:  # as above
        fault = error.__cause__ if isinstance(error, EnvironmentFault) and error.__cause__ else error
        said = first_line(fault) if isinstance(fault, EnvironmentFault) else f"its first step {raised(fault)}"
        old = ": step must return obs, reward, terminated, truncated, info" if "expected 5, got 4" in said else ""
        return said + old
    finally:
        with suppress(Exception):
            made.close()
    return None


def _game(env: EnvSettings) -> str | None:
    """The id of the game that an older id, or a bare name, means; None where it is none, or ale-py is not there."""
    if env.atari is None and "NoFrameskip" not in env.id:
        return None
    with suppress(ConfigError):
        prepare("ALE/")
    near = "ALE/" + OLD_ATARI.sub("", env.id) + "-v5"
    return near if near in gym.registry else None


def _atari_problems(env: EnvSettings) -> Iterator[Problem]:
    """What ale-py's vector cannot do."""
    if not env.id.startswith("ALE/"):
        near = _game(env)
        hint = f": did you mean '{near}'?" if near else ""
        yield Problem("env.atari", f"is for ids that begin with ALE/, not {env.id}{hint}")
    if env.vectorization != "auto":
        yield Problem("env.vectorization", "with env.atari the games step in threads of their own: use auto")
    if env.kwargs:
        yield Problem("env.kwargs", "with env.atari a game takes none: see the settings of env.atari")
    for wrapper in env.wrappers:
        if find("wrappers", wrapper.name).level == "env":  # type: ignore[attr-defined]
            name = wrapper.name  # type: ignore[attr-defined]
            yield Problem("env.wrappers", f"{name} needs single environments, which env.atari has not: leave it out")


def _wrapper_problems(env: EnvSettings) -> Iterator[Problem]:
    """Wrappers of the whole vector that stand before one of a single environment, or twice."""
    seen: list[str] = []
    for wrapper in env.wrappers:
        name: str = wrapper.name  # type: ignore[attr-defined]
        if find("wrappers", name).level == "vector":
            if name in seen:
                yield Problem("env.wrappers", f"{name} is there twice: leave one out")
            seen.append(name)
        elif seen:
            yield Problem(
                "env.wrappers", f"{seen[-1]} sees all environments together: put it after {name}, which does not"
            )
