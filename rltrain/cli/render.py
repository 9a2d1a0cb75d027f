"""`rltrain render`: watch what was learnt."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from rltrain.cli.common import Plugins, use_plugins


def render(
    run: Annotated[Path, typer.Argument(metavar="RUN|CHECKPOINT", help="Run folder or checkpoint folder.")],
    format: Annotated[
        Literal["human", "mp4", "gif", "png", "ansi"] | None,
        typer.Option(
            help="mp4 by default; ansi where the environment draws only text. png shows the table of values where "
            "observations are numbered, and six moments of the episodes elsewhere."
        ),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="File to write; by default in the run folder.")] = None,
    episodes: Annotated[int, typer.Option(min=1, max=1_000, help="Episodes to show.")] = 1,
    seed: Annotated[int, typer.Option(min=0, help="Decides the environment seeds.")] = 0,
    checkpoint: Annotated[str, typer.Option(help="last, best or a step.")] = "last",
    plugin: Plugins = None,
) -> None:
    """Show greedy episodes as a video, a picture, or text, or a table of values; works without a display."""
    from rltrain.pictures.rendering import render_policy
    from rltrain.saved import SavedPolicy

    use_plugins(plugin)
    with SavedPolicy.open(run, checkpoint) as policy:
        result = render_policy(policy, format, out=out, episodes=episodes, seed=seed)
    for line in result:
        typer.echo(line)
