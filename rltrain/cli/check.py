"""`rltrain check`: is this configuration right?"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rltrain.cli.common import Plugins, load_config, use_plugins
from rltrain.cli.tune import load_search


def check(
    config: Annotated[Path, typer.Argument(help="YAML file.")],
    overrides: Annotated[list[str] | None, typer.Argument(metavar="[KEY=VALUE]...")] = None,
    plugin: Plugins = None,
) -> None:
    """Check a configuration against its schema and the real environment, without training."""
    use_plugins(plugin)
    loaded = load_config(config, overrides or [])
    if loaded.tune is not None:
        for note in load_search(config, overrides or [], elsewhere=False)[1]:
            typer.echo(f"note: {note}", err=True)
    from rltrain.fitting import notes

    for note in notes(loaded):
        typer.echo(f"note: {note}", err=True)
    typer.echo(f"{config}: ok ({loaded.agent.name} on {loaded.env.id})")  # type: ignore[attr-defined]
