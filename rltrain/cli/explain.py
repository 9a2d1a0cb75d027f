"""`rltrain explain`: what a block or a component does, and what can be set in it."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Annotated

import typer

from rltrain.cli.common import AsJson, Plugins, print_json, use_plugins

if TYPE_CHECKING:
    from rltrain.config.reference import Part


def explain(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="An agent, exploration, bonus, wrapper; or env, train, ...")
    ],
    as_json: AsJson = False,
    plugin: Plugins = None,
) -> None:
    """Explain an agent, an exploration, or a block of the file: its equations, sources, and every setting.

    `rltrain list` has the names of components; the blocks are file (the whole), env, train, eval, checkpoint and tune.
    """
    from rltrain.config.reference import part
    from rltrain.core import ConfigError

    if name.endswith((".yaml", ".yml")):
        raise ConfigError(f"explain takes a name, such as dqn; of a file: rltrain show {name}, or rltrain check {name}")
    use_plugins(plugin)
    found = part(name)
    if as_json:
        rows = [setting._asdict() for setting in found.settings]
        print_json(found._asdict() | {"settings": rows})
    else:
        _show(found)


def _show(part: Part) -> None:
    typer.echo(f"{part.about}\n")
    typer.secho(f"settings of {part.name} ({part.kind})" if part.settings else "no settings", bold=True)
    for setting in part.settings:
        default = setting.default or "(must be given)"
        typer.echo(f"  {typer.style(setting.path, bold=True)}: {default}    {typer.style(setting.takes, dim=True)}")
        for paragraph in setting.meaning.split("\n\n"):
            typer.echo(textwrap.fill(paragraph, 112, initial_indent="      ", subsequent_indent="      "))
