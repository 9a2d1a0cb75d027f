"""Whether a run is compiled, and by what: the whole loop of a table by Numba, the update of a network by torch."""

from __future__ import annotations

from typing import Any

from rltrain.config.schema import Config
from rltrain.core import Agent, EnvSpec, Loop
from rltrain.kernels.tabular import compiled_tabular_loop
from rltrain.loop import EnvironmentLoop
from rltrain.tabular import TabularAgent

MIN_COMPILED_STEPS = 20_000
"""Shorter runs are over before a compiled loop has been loaded."""
MIN_COMPILED_GRADIENT_STEPS = 100_000
"""Fewer gradient steps through torch are over before compiling them has paid for itself."""

NOT_COMPILED = "the network runs in NumPy (convolutions in torch), where nothing is compiled: leave this out"
"""Why compiling is refused where no network runs through torch as a whole."""


def compiled_loop(
    config: Config, spec: EnvSpec, loop: EnvironmentLoop, agent: Agent, bonuses: list[Any]
) -> tuple[Loop | None, str | None]:
    """The compiled loop where there is one and it is wanted; else what to say of its absence."""
    if agent.networks:
        return None, _compile_networks(config, agent)
    wanted, tabular = config.train.compile, isinstance(agent, TabularAgent)
    short = config.train.total_steps < MIN_COMPILED_STEPS
    if wanted == "off" or (wanted == "auto" and (short or not tabular)):
        return None, None
    found = compiled_tabular_loop(loop, agent, bonuses, config.env, spec.model)
    if not isinstance(found, str):
        return found, None
    if wanted == "on":
        return None, f"there is no compiled loop for this run: {found}"
    return None, f"{found}: the readable loop runs, some hundred times slower"


def _compile_networks(config: Config, agent: Agent) -> str | None:
    """Have torch compile the update where it is wanted; returns what to say of it."""
    wanted = config.train.compile
    through_torch = [network for network in agent.networks if network.device is not None]
    if not through_torch:
        return NOT_COMPILED if wanted == "on" else None
    settings: Any = config.agent
    steps = settings.gradient_steps_of(config.train.total_steps, config.env.num_envs)
    compiled = wanted == "on" or (wanted == "auto" and steps >= MIN_COMPILED_GRADIENT_STEPS)
    for network in through_torch:
        network.mode = "compiled" if compiled else ("eager" if wanted == "off" else "graphs")
    if not compiled:
        return None
    return None if wanted == "on" else f"about {steps:,} gradient steps: torch compiles them first, for up to a minute"
