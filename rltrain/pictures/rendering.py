"""Pictures, videos and text of what a policy does, with its values written beside the frames.

A policy over numbered observations is a table, of which the picture shows all at once.
"""

from __future__ import annotations

import os
import re
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import numpy as np

from rltrain.core import Array
from rltrain.envs.vector import make_env
from rltrain.pictures.recording import (
    CannotRender,
    Recording,
    encoding,
    prepare_headless,
    record,
    render_modes,
    stage,
)
from rltrain.pictures.table_picture import Table, draw_table, table_of
from rltrain.saved import SavedPolicy
from rltrain.seeding import Stream, env_seeds

Format = Literal["human", "mp4", "gif", "png", "ansi"]
STRIP = 28
"""Height in pixels of the strip of text under each frame."""
END_SECONDS = 0.7
"""The last frame of an episode stays this long."""
GREEDY = re.compile(r"\S+ \S+\*")
"""The greedy action in a caption, its value, and the star that marks it."""


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
    modes = render_modes(env)
    chosen: Format = wanted or ("mp4" if "rgb_array" in modes else "ansi")
    mode = chosen if chosen in ("human", "ansi") else "rgb_array"
    if mode not in modes:
        known = ", ".join(modes) or "nothing"
        raise CannotRender(f"{policy.spec.id} cannot be drawn as {chosen}: it offers {known}")
    seeds = env_seeds(seed, Stream.REPORT_EVAL, episodes)
    with stage(policy, mode) as on:
        recordings = [record(policy, on, one, show=lambda text: _show(text, on.fps)) for one in seeds]
    lines = [f"episode {number}: return {r.total:g}, {r.length} steps" for number, r in enumerate(recordings, 1)]
    if mode == "rgb_array":
        path = out or policy.path / f"render-step{policy.step}.{chosen}"
        write(path, recordings, chosen, on.fps)
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


def _show(text: str, fps: int) -> None:
    """Text as it is played, on a terminal at its own speed."""
    _print(f"{_coloured(text)}\n")
    if sys.stdout.isatty():
        time.sleep(1 / max(fps, 1))


def _coloured(caption: str) -> str:
    """The greedy action bold and green, on a terminal."""
    if not sys.stdout.isatty() or os.environ.get("NO_COLOR"):
        return caption
    return GREEDY.sub("\x1b[1;32m\\g<0>\x1b[0m", caption)


def _print(text: str) -> None:
    """Write to standard output what its encoding can say."""
    sys.stdout.write(text.encode(encoding(), "replace").decode(encoding()))
    sys.stdout.flush()


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
