"""`rltrain show`: a configuration with every default filled in."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rltrain.cli.common import AsJson, Plugins, print_json, use_plugins


def show(
    source: Annotated[Path, typer.Argument(metavar="CONFIG|RUN|GROUP", help="YAML file or run folder.")],
    overrides: Annotated[list[str] | None, typer.Argument(metavar="[KEY=VALUE]...")] = None,
    as_json: AsJson = False,
    plugin: Plugins = None,
) -> None:
    """Print the resolved configuration of a file, a run or a group."""
    from rltrain.config.load import dump, load, to_dict
    from rltrain.rundir import GROUP, is_group, resolve

    use_plugins(plugin)
    path = source
    if source.is_dir():
        found = resolve(source)
        path = found / (GROUP if is_group(found) else "config.yaml")
    config = load(path, overrides or []).config
    if as_json:
        print_json(to_dict(config), indent=2)
    else:
        typer.echo(dump(config), nl=False)
