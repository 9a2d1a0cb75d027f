"""`rltrain schema`: the JSON Schema of a configuration, for editors."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rltrain.cli.common import Plugins, use_plugins


def schema(
    out: Annotated[Path | None, typer.Option(help="Write to this file instead of stdout.")] = None,
    plugin: Plugins = None,
) -> None:
    """Print the JSON Schema of a configuration file, which gives editors completion and checks."""
    import json

    from rltrain.config.jsonschema import json_schema
    from rltrain.report.output import check_output
    from rltrain.rundir import write_atomic

    if out is not None:
        check_output(out, [".json"])
    use_plugins(plugin)
    text = json.dumps(json_schema(), indent=2) + "\n"
    if out is None:
        typer.echo(text, nl=False)
    else:
        write_atomic(out, text)
