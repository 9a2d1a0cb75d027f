"""Episodes as they are seen: frames or text, with what the policy thinks written beside them."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
from gymnasium.vector import VectorEnv

from rltrain.core import Array
from rltrain.envs import mujoco
from rltrain.envs.vector import begin, call, make_env
from rltrain.pictures.film import Film
from rltrain.pictures.panels import DOWN, LEFT, RIGHT, UP, Direction
from rltrain.pictures.table_picture import direction
from rltrain.saved import SavedPolicy

ARROWS: dict[Direction, str] = {DOWN: "\u2193", UP: "\u2191", RIGHT: "\u2192", LEFT: "\u2190"}
"""Arrows as wide as a letter, for text."""
MANY = 6
"""Numbers of a caption."""


@dataclass
class Recording:
    """One episode as it was seen."""

    texts: list[str] = field(default_factory=list)  # where it is shown as text
    total: float = 0.0
    length: int = 0


class Stage(NamedTuple):
    """Where episodes are played to be seen."""

    envs: VectorEnv  # of one environment
    mode: str  # human, ansi or rgb_array
    fps: int  # steps in a second
    symbols: Mapping[int, str]  # of the actions, for text


def has_display() -> bool:
    """Whether a window could be seen."""
    return sys.platform != "linux" or bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


def prepare_headless(env: gym.Env[Any, Any]) -> str | None:
    """Without a display, have SDL and MuJoCo draw off-screen. Returns what was set, to be said.

    Raises ConfigError where MuJoCo is to draw with what needs a display, or is not there.
    """
    if has_display():
        return None
    os.environ.setdefault("SDL_VIDEODRIVER", "dummy")
    note = "no display: drawing off-screen"
    return f"{note}, MUJOCO_GL={mujoco.choose_off_screen()}" if hasattr(env.unwrapped, "mujoco_renderer") else note


def render_modes(policy: SavedPolicy, env: gym.Env[Any, Any]) -> list[str]:
    """The ways in which a policy's environment says that it draws itself."""
    if policy.config.env.atari is not None:
        return ["rgb_array"]  # the vector that plays the games opens no window
    return [str(mode) for mode in env.metadata.get("render_modes", [])]


@contextmanager
def stage(policy: SavedPolicy, mode: str) -> Iterator[Stage]:
    """An environment that draws itself in this way, with the statistics of the policy's wrappers."""
    envs = policy.environments(render_mode=mode)
    try:
        env = make_env(policy.config.env)
        env.close()
        symbols = action_symbols(policy, env.unwrapped) if mode == "ansi" else {}
        yield Stage(envs, mode, int(envs.metadata.get("render_fps") or 30), symbols)
    finally:
        envs.close()


def action_symbols(policy: SavedPolicy, env: gym.Env[Any, Any]) -> dict[int, str]:
    """Action -> arrow or letter, or its number where the terminal cannot show arrows; empty if not a table's."""
    states, actions = policy.spec.observation_space, policy.spec.action_space
    if not isinstance(states, gym.spaces.Discrete) or not isinstance(actions, gym.spaces.Discrete):
        return {}
    numbers = range(int(actions.start), int(actions.start + actions.n))
    drawn = [direction(env, number) for number in numbers]
    signs = [ARROWS.get(one, str(one)) for one in drawn]
    return dict(zip(numbers, signs if _can_print("".join(signs)) else map(str, numbers), strict=True))


def record(
    policy: SavedPolicy,
    on: Stage,
    seed: int,
    *,
    every: int = 1,
    film: Film | None = None,
    show: Callable[[str], None] | None = None,
) -> Recording:
    """Play one greedy episode in a vector of one.

    Args:
        policy: Acts, and tells its values for the captions.
        on: Where it is played.
        seed: Of the environment.
        every: Steps from one frame that is seen to the next; the last is seen as well.
        film: Where pictures go.
        show: Is handed text as it is played.
    """
    recording = Recording()
    obs, _ = begin(on.envs, [seed])
    cap = policy.evaluator.protocol.max_episode_steps
    action: Any = None
    for step in range(cap + 1):
        if step % every == 0 or step == cap:
            values = policy.agent.values(obs)
            values = None if values is None else np.atleast_1d(values[0])
            _keep(recording, on, _caption(step, action, values, recording.total, on.symbols), film, show)
        if step == cap:
            break
        actions = policy.agent.act(obs, explore=False)
        action = actions[0]
        obs, _, terminated, truncated, _ = on.envs.step(actions)
        recording.length += 1
        recording.total = float(call(on.envs, "running_return")[0])
        if terminated[0] or truncated[0]:
            _keep(recording, on, _caption(step + 1, action, None, recording.total, on.symbols), film, show)
            break
    if film is not None:
        film.hold()
    return recording


def _keep(recording: Recording, on: Stage, caption: str, film: Film | None, show: Callable[[str], None] | None) -> None:
    frame: Any = call(on.envs, "render")[0]
    if on.mode == "ansi":
        recording.texts.append(f"{frame}\n{caption}\n")
        if show is not None:
            show(f"{frame}\n{caption}")
    elif film is not None:
        film.show(np.array(frame, np.uint8), caption)


def _caption(step: int, action: Any, values: Array | None, total: float, symbols: Mapping[int, str]) -> str:
    """What is written beside a frame: with `symbols` a second line names all actions and marks the greedy one."""
    parts = [f"step {step}", f"return {total:g}"]
    if action is not None:
        shown = action if np.ndim(action) == 0 else _numbers(action)
        parts.insert(1, f"action {symbols[int(action)] if symbols else shown}")
    if values is None:
        return "   ".join(parts)
    if len(values) != len(symbols):
        parts.append(f"{'V' if len(values) == 1 else 'Q'} {_numbers(values)}")  # one value is of the state
        return "   ".join(parts)
    entries = [f"{symbol} {value:.3f}" for symbol, value in zip(symbols.values(), values, strict=True)]
    entries[int(values.argmax())] += "*"
    return "   ".join(parts) + "\n" + "  ".join(["Q", *entries])


def _numbers(values: Array) -> str:
    """The first of these numbers."""
    values = np.ravel(values)
    return " ".join([*(f"{value:.2f}" for value in values[:MANY]), *(["\u2026"] if len(values) > MANY else [])])


def _can_print(text: str) -> bool:
    try:
        text.encode(encoding())
    except UnicodeEncodeError:
        return False
    return True


def encoding() -> str:
    """What standard output can say."""
    return sys.stdout.encoding or "utf-8"  # a stream in memory has none
