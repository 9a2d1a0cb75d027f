"""Pictures, videos and text of what a policy does, with its values written beside the frames."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from gymnasium.vector import VectorEnv

from rltrain.core import Array, RltrainError
from rltrain.envs.vector import begin, call, load_wrapper_state, make_env, make_vector
from rltrain.saved import SavedPolicy
from rltrain.seeding import Stream, env_seeds

Format = Literal["human", "mp4", "gif", "png", "ansi"]
STRIP = 28
"""Height in pixels of the strip of text under each frame."""
END_SECONDS = 0.7
"""The last frame of an episode stays this long."""


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
    """Show `episodes` greedy episodes in the wanted format. Returns lines to print.

    Raises CannotRender when the environment does not draw in this way.
    """
    os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")
    note = prepare_headless()
    modes = _modes(policy)
    chosen: Format = wanted or ("mp4" if "rgb_array" in modes else "ansi")
    mode = chosen if chosen in ("human", "ansi") else "rgb_array"
    if mode not in modes:
        known = ", ".join(modes) or "nothing"
        raise CannotRender(f"{policy.spec.id} cannot be drawn as {chosen}: it offers {known}")
    envs = make_vector(policy.config.env, 1, training=False, render_mode=mode)
    load_wrapper_state(envs, policy.wrappers)
    fps = int(envs.metadata.get("render_fps") or 30)
    try:
        recordings = [record(policy, envs, one, mode, fps) for one in env_seeds(seed, Stream.REPORT_EVAL, episodes)]
    finally:
        envs.close()
    lines = [f"episode {number}: return {r.total:g}, {r.length} steps" for number, r in enumerate(recordings, 1)]
    if mode == "rgb_array":
        path = out or policy.path / f"render-step{policy.step}.{chosen}"
        write(path, recordings, chosen, fps)
        lines.append(f"wrote {path}" + (f" ({note})" if note else ""))
    elif mode == "ansi" and out is not None:
        out.write_text("\n".join(text for r in recordings for text in r.frames))
        lines.append(f"wrote {out}")
    return lines


def _modes(policy: SavedPolicy) -> list[str]:
    env = make_env(policy.config.env)
    modes = [str(mode) for mode in env.metadata.get("render_modes", [])]
    env.close()
    return modes


def record(policy: SavedPolicy, envs: VectorEnv, seed: int, mode: str, fps: int) -> Recording:
    """Play one greedy episode in a vector of one. Text is shown as it is played, at its own speed."""
    recording = Recording()
    obs, _ = begin(envs, [seed])
    cap = policy.evaluator.protocol.max_episode_steps
    action: Any = None
    for step in range(cap + 1):
        values = policy.agent.values(obs)
        values = None if values is None else values[0]
        _keep(recording, envs, mode, _caption(step, action, values, recording.total), fps)
        if step == cap:
            break
        actions = policy.agent.act(obs, explore=False)
        action = actions[0]
        obs, _, terminated, truncated, _ = envs.step(actions)
        recording.length += 1
        recording.total = float(call(envs, "running_return")[0])
        if terminated[0] or truncated[0]:
            _keep(recording, envs, mode, _caption(step + 1, action, None, recording.total), fps)
            break
    return recording


def _keep(recording: Recording, envs: VectorEnv, mode: str, caption: str, fps: int) -> None:
    frame: Any = call(envs, "render")[0]
    if mode == "human":
        return
    if mode == "ansi":
        text = f"{frame}\n{caption}\n"
        recording.frames.append(text)
        sys.stdout.write(text)
        sys.stdout.flush()
        if sys.stdout.isatty():
            time.sleep(1 / max(fps, 1))
        return
    recording.frames.append(np.array(frame, np.uint8))
    recording.captions.append(caption)


def _caption(step: int, action: Any, values: Array | None, total: float) -> str:
    parts = [f"step {step}", f"return {total:g}"]
    if action is not None:
        parts.insert(1, f"action {action if np.ndim(action) == 0 else np.round(action, 2)}")
    if values is not None:
        parts.append("Q " + " ".join(f"{value:.2f}" for value in values[:6]))
    return "   ".join(parts)


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
    temporary = path.with_name(f".tmp-{path.name}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        {"mp4": _write_mp4, "gif": _write_gif, "png": _write_png}[kind](temporary, frames, fps)
        os.replace(temporary, path)
    except OSError as error:
        raise CannotRender(f"{path}: cannot be written: {error.strerror or error}") from None
    finally:
        temporary.unlink(missing_ok=True)


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
