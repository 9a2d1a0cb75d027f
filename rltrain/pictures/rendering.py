"""Pictures, videos and text of what a policy does, with its values written beside the frames.

A policy over numbered observations is a table, of which the picture shows all at once.
"""

from __future__ import annotations

import os
import re
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from rltrain.envs.vector import make_env
from rltrain.pictures.film import CannotRender, filming, writing
from rltrain.pictures.recording import encoding, has_display, prepare_headless, record, render_modes, stage
from rltrain.pictures.table_picture import Table, draw_table, table_of
from rltrain.saved import SavedPolicy
from rltrain.seeding import Stream, env_seeds

Format = Literal["human", "mp4", "gif", "png", "ansi"]
GREEDY = re.compile(r"\S+ \S+\*")
"""The greedy action in a caption, its value, and the star that marks it."""


def render_policy(
    policy: SavedPolicy,
    wanted: Format | None,
    *,
    out: Path | None,
    episodes: int,
    seed: int,
    told: Callable[[str], None] | None = None,
) -> list[str]:
    """Show `episodes` greedy episodes in the wanted format, or the table as a png. Returns lines to print.

    `told` is handed the caption of every frame that is drawn into a file, which takes its time.

    Raises CannotRender when the environment does not draw in this way, or nobody could see it, or the file cannot be
    written.
    """
    os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")
    env = make_env(policy.config.env)
    env.close()
    if wanted == "png" and (table := table_of(policy, env.unwrapped)) is not None:
        if episodes != 1:
            raise CannotRender("--episodes: the picture of a table has no episodes; for those use --format ansi or mp4")
        return [_draw_table(policy, table, out)]
    if wanted == "human" and not has_display():
        raise CannotRender("--format human opens a window, and there is no display: use mp4, gif, png or ansi")
    note = prepare_headless(env)
    modes = render_modes(policy, env)
    chosen: Format = wanted or ("mp4" if "rgb_array" in modes else "ansi")
    mode = chosen if chosen in ("human", "ansi") else "rgb_array"
    if mode not in modes:
        raise CannotRender(f"{policy.spec.id} cannot be drawn as {chosen}: it offers {', '.join(modes) or 'nothing'}")
    seeds = env_seeds(seed, Stream.REPORT_EVAL, episodes)
    path = out or policy.path / f"render-step{policy.step}.{chosen}"
    with stage(policy, mode) as on:
        if mode == "rgb_array":
            with filming(path, chosen, on.fps, told) as film:
                recordings = [record(policy, on, one, film=film) for one in seeds]
        else:
            recordings = [record(policy, on, one, show=lambda text: _show(text, on.fps)) for one in seeds]
    lines = [f"episode {number}: return {r.total:g}, {r.length} steps" for number, r in enumerate(recordings, 1)]
    if mode == "rgb_array":
        lines.append(f"wrote {path}" + (f" ({note})" if note else ""))
    elif mode == "ansi" and out is not None:
        with writing(out) as temporary:
            temporary.write_text("\n".join(text for r in recordings for text in r.texts), encoding="utf-8")
        lines.append(f"wrote {out}")
    return lines


def _draw_table(policy: SavedPolicy, table: Table, out: Path | None) -> str:
    """Returns the line to print."""
    path = out or policy.path / f"render-step{policy.step}.png"
    agent: str = policy.config.agent.name  # type: ignore[attr-defined]
    with writing(path) as temporary:
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
