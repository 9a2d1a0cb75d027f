"""`rltrain render`: watch what was learnt."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Literal

import typer

from rltrain.cli.common import Plugins, use_plugins

Format = Literal["human", "mp4", "gif", "png", "ansi"]
ENDINGS: dict[str, Format] = {".mp4": "mp4", ".gif": "gif", ".png": "png", ".txt": "ansi"}
"""What the file of a format is called; a window has none."""


def render(
    run: Annotated[Path, typer.Argument(metavar="RUN|CHECKPOINT", help="Run folder or checkpoint folder.")],
    format: Annotated[
        Format | None,
        typer.Option(
            help="By default what --out ends in, or mp4; ansi where the environment draws only text. png shows the "
            "table of values where observations are numbered, and six moments of the episodes elsewhere."
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="File to write: .mp4, .gif, .png, or .txt for ansi; by default in the run folder."),
    ] = None,
    episodes: Annotated[int, typer.Option(min=1, max=1_000, help="Episodes to show.")] = 1,
    seed: Annotated[int, typer.Option(min=0, help="Decides the environment seeds.")] = 0,
    checkpoint: Annotated[str, typer.Option(help="last, best or a step.")] = "last",
    plugin: Plugins = None,
) -> None:
    """Show greedy episodes as a video, a picture, or text, or a table of values; works without a display."""
    if out is not None:
        format = _format_of(out, format)
    from rltrain.pictures.rendering import render_policy
    from rltrain.saved import SavedPolicy

    use_plugins(plugin)
    with SavedPolicy.open(run, checkpoint) as policy, _captions() as told:
        result = render_policy(policy, format, out=out, episodes=episodes, seed=seed, told=told)
    for line in result:
        typer.echo(line)


@contextmanager
def _captions() -> Iterator[Callable[[str], None] | None]:
    """Shows on a terminal how far a drawing is, from its first frame on."""
    from rich.console import Console
    from rich.markup import escape

    console = Console(stderr=True)
    status = console.status("")

    def told(caption: str) -> None:
        status.update(escape(caption))
        status.start()

    try:
        yield told if console.is_terminal else None
    finally:
        status.stop()


def _format_of(out: Path, wanted: Format | None) -> Format:
    """What a file is to hold, by its ending. Raises ConfigError for an unknown ending, and for that of another."""
    from rltrain.core import ConfigError
    from rltrain.report.output import check_ending

    if wanted == "human":
        raise ConfigError("--out: --format human opens a window and writes no file: leave one of them out")
    check_ending(out, [ending for ending, format in ENDINGS.items() if wanted in (None, format)])
    return ENDINGS[out.suffix]
