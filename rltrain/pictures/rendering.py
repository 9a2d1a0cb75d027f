"""Pictures, videos and text of what a policy does, with its values written beside the frames.

A policy over numbered observations is a table, of which the picture shows all at once.
"""

from __future__ import annotations

import os
import re
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import gymnasium as gym
import numpy as np
from gymnasium.vector import VectorEnv

from rltrain.core import Array, RltrainError
from rltrain.envs.vector import begin, call, load_wrapper_state, make_env, make_vector
from rltrain.pictures.panels import DOWN, LEFT, RIGHT, UP, Direction
from rltrain.pictures.table_picture import Table, direction, draw_table, table_of
from rltrain.saved import SavedPolicy
from rltrain.seeding import Stream, env_seeds

Format = Literal["human", "mp4", "gif", "png", "ansi"]
STRIP = 28
"""Height in pixels of the strip of text under each frame."""
END_SECONDS = 0.7
"""The last frame of an episode stays this long."""
ARROWS: dict[Direction, str] = {DOWN: "\u2193", UP: "\u2191", RIGHT: "\u2192", LEFT: "\u2190"}
"""Arrows as wide as a letter, for text."""
GREEDY = re.compile(r"\S+ \S+\*")
"""The greedy action in a caption, its value, and the star that marks it."""


class CannotRender(RltrainError):
    """The environment cannot be shown in this way."""

    exit_code = 2


@dataclass
class Recording:
    """One episode as it was seen."""

    frames: list[Any] = field(default_factory=list)  # (H, W, 3) uint8, or text
    captions: list[str] = field(default_factory=list)
    total: float = 0.0
    length: int = 0


def prepare_headless() -> str | None:
    """Without a display, have SDL and MuJoCo draw off-screen. Returns what was set, to be said."""
    if sys.platform != "linux" or os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"):
        return None
    os.environ.setdefault("SDL_VIDEODRIVER", "dummy")
    os.environ.setdefault("MUJOCO_GL", "egl")
    return "no display: drawing off-screen"


def render_policy(
    policy: SavedPolicy, wanted: Format | None, *, out: Path | None, episodes: int, seed: int
) -> list[str]:
    """Show `episodes` greedy episodes in the wanted format, or the table as a png. Returns lines to print.

    Raises CannotRender when the environment does not draw in this way, or the file cannot be written.
    """
    os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")
    env = make_env(policy.config.env)
    env.close()
    if wanted == "png" and (table := table_of(policy, env.unwrapped)) is not None:
        if episodes != 1:
            raise CannotRender("--episodes: the picture of a table has no episodes; for those use --format ansi or mp4")
        return [_draw_table(policy, table, out)]
    note = prepare_headless()
    modes = [str(mode) for mode in env.metadata.get("render_modes", [])]
    chosen: Format = wanted or ("mp4" if "rgb_array" in modes else "ansi")
    mode = chosen if chosen in ("human", "ansi") else "rgb_array"
    if mode not in modes:
        known = ", ".join(modes) or "nothing"
        raise CannotRender(f"{policy.spec.id} cannot be drawn as {chosen}: it offers {known}")
    envs = make_vector(policy.config.env, 1, training=False, render_mode=mode)
    load_wrapper_state(envs, policy.wrappers)
    fps = int(envs.metadata.get("render_fps") or 30)
    symbols = action_symbols(policy, env.unwrapped) if mode == "ansi" else {}
    seeds = env_seeds(seed, Stream.REPORT_EVAL, episodes)
    try:
        recordings = [record(policy, envs, one, mode, fps, symbols) for one in seeds]
    finally:
        envs.close()
    lines = [f"episode {number}: return {r.total:g}, {r.length} steps" for number, r in enumerate(recordings, 1)]
    if mode == "rgb_array":
        path = out or policy.path / f"render-step{policy.step}.{chosen}"
        write(path, recordings, chosen, fps)
        lines.append(f"wrote {path}" + (f" ({note})" if note else ""))
    elif mode == "ansi" and out is not None:
        with _writing(out) as temporary:
            temporary.write_text("\n".join(text for r in recordings for text in r.frames), encoding="utf-8")
        lines.append(f"wrote {out}")
    return lines


def _draw_table(policy: SavedPolicy, table: Table, out: Path | None) -> str:
    """Returns the line to print."""
    path = out or policy.path / f"render-step{policy.step}.png"
    agent: str = policy.config.agent.name  # type: ignore[attr-defined]
    with _writing(path) as temporary:
        draw_table(temporary, table, title=f"{agent} on {policy.spec.id}, step {policy.step:,}")
    return f"wrote {path}"


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
    policy: SavedPolicy, envs: VectorEnv, seed: int, mode: str, fps: int, symbols: Mapping[int, str]
) -> Recording:
    """Play one greedy episode in a vector of one. Text is shown as it is played, at its own speed."""
    recording = Recording()
    obs, _ = begin(envs, [seed])
    cap = policy.evaluator.protocol.max_episode_steps
    action: Any = None
    for step in range(cap + 1):
        values = policy.agent.values(obs)
        values = None if values is None else np.atleast_1d(values[0])
        _keep(recording, envs, mode, _caption(step, action, values, recording.total, symbols), fps)
        if step == cap:
            break
        actions = policy.agent.act(obs, explore=False)
        action = actions[0]
        obs, _, terminated, truncated, _ = envs.step(actions)
        recording.length += 1
        recording.total = float(call(envs, "running_return")[0])
        if terminated[0] or truncated[0]:
            _keep(recording, envs, mode, _caption(step + 1, action, None, recording.total, symbols), fps)
            break
    return recording


def _keep(recording: Recording, envs: VectorEnv, mode: str, caption: str, fps: int) -> None:
    frame: Any = call(envs, "render")[0]
    if mode == "human":
        return
    if mode == "ansi":
        recording.frames.append(f"{frame}\n{caption}\n")
        _print(f"{frame}\n{_coloured(caption)}\n")
        if sys.stdout.isatty():
            time.sleep(1 / max(fps, 1))
        return
    recording.frames.append(np.array(frame, np.uint8))
    recording.captions.append(caption)


def _caption(step: int, action: Any, values: Array | None, total: float, symbols: Mapping[int, str]) -> str:
    """What is written beside a frame: with `symbols` a second line names all actions and marks the greedy one."""
    parts = [f"step {step}", f"return {total:g}"]
    if action is not None:
        shown = action if np.ndim(action) == 0 else np.round(action, 2)
        parts.insert(1, f"action {symbols[int(action)] if symbols else shown}")
    if values is None:
        return "   ".join(parts)
    if len(values) != len(symbols):
        parts.append("Q " + " ".join(f"{value:.2f}" for value in values[:6]))
        return "   ".join(parts)
    entries = [f"{symbol} {value:.3f}" for symbol, value in zip(symbols.values(), values, strict=True)]
    entries[int(values.argmax())] += "*"
    return "   ".join(parts) + "\n" + "  ".join(["Q", *entries])


def _coloured(caption: str) -> str:
    """The greedy action bold and green, on a terminal."""
    if not sys.stdout.isatty() or os.environ.get("NO_COLOR"):
        return caption
    return GREEDY.sub("\x1b[1;32m\\g<0>\x1b[0m", caption)


def _can_print(text: str) -> bool:
    try:
        text.encode(_encoding())
    except UnicodeEncodeError:
        return False
    return True


def _print(text: str) -> None:
    """Write to standard output what its encoding can say."""
    sys.stdout.write(text.encode(_encoding(), "replace").decode(_encoding()))
    sys.stdout.flush()


def _encoding() -> str:
    return sys.stdout.encoding or "utf-8"  # a stream in memory has none


def annotate(frame: Array, caption: str) -> Array:
    """The frame (H, W, 3) with a strip of text below it: (H + strip, W, 3), both even."""
    from PIL import Image, ImageDraw, ImageFont

    height, width = frame.shape[:2]
    canvas = Image.new("RGB", (width + width % 2, height + STRIP + height % 2), (24, 26, 31))
    canvas.paste(Image.fromarray(frame), (0, 0))
    draw = ImageDraw.Draw(canvas)
    size = 15
    font = ImageFont.load_default(size)
    while size > 7 and draw.textlength(caption, font) > width - 12:
        size -= 1
        font = ImageFont.load_default(size)
    draw.text((6, height + STRIP // 2), caption, fill=(235, 236, 240), font=font, anchor="lm")
    return np.asarray(canvas)


def write(path: Path, recordings: Sequence[Recording], kind: Format, fps: int) -> None:
    """Write all recordings into one file, whole or not at all."""
    frames: list[Array] = []
    for recording in recordings:
        drawn = [annotate(f, c) for f, c in zip(recording.frames, recording.captions, strict=True)]
        frames += drawn + drawn[-1:] * int(END_SECONDS * fps)
    with _writing(path) as temporary:
        {"mp4": _write_mp4, "gif": _write_gif, "png": _write_png}[kind](temporary, frames, fps)


@contextmanager
def _writing(path: Path) -> Iterator[Path]:
    """A temporary file that becomes `path` when all is written. Raises CannotRender where that cannot be."""
    try:
        if not path.name or path.is_dir():
            raise CannotRender(f"{path}: cannot be written: it is a folder")
        temporary = path.with_name(f".tmp-{path.name}")
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield temporary
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise CannotRender(f"{path}: cannot be written: {error.strerror or error}") from None


def _write_mp4(path: Path, frames: Sequence[Array], fps: int) -> None:
    import av

    with av.open(str(path), "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=fps)
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = "yuv420p"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode(None))


def _write_gif(path: Path, frames: Sequence[Array], fps: int) -> None:
    from PIL import Image

    stride = max(1, round(fps / 25))  # a GIF counts in hundredths of a second
    images = [Image.fromarray(frame).quantize(64) for frame in frames[::stride]]
    milliseconds = round(1000 * stride / fps)
    images[0].save(path, "GIF", save_all=True, append_images=images[1:], duration=milliseconds, loop=0)


def _write_png(path: Path, frames: Sequence[Array], fps: int) -> None:
    """A contact sheet: six moments, evenly spread."""
    from PIL import Image

    picks = [frames[int(index)] for index in np.linspace(0, len(frames) - 1, min(6, len(frames)))]
    height, width = picks[0].shape[:2]
    columns = min(3, len(picks))
    rows = -(-len(picks) // columns)
    sheet = Image.new("RGB", (columns * width, rows * height), (24, 26, 31))
    for index, frame in enumerate(picks):
        sheet.paste(Image.fromarray(frame), (index % columns * width, index // columns * height))
    sheet.save(path, "PNG")
