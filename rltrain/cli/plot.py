"""`rltrain plot`: learning curves as a picture."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rltrain.cli.common import Runs


def plot(
    runs: Runs,
    out: Annotated[Path, typer.Option(help="File to write, .svg or .png.")],
    metric: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="A metric; may be given several times. By default eval/return."),
    ] = None,
) -> None:
    """Draw learning curves: the mean of the seeds with its 95 % interval, a panel for each environment and metric."""
    from rltrain.report.output import check_output

    check_output(out, [".svg", ".png"])
    from rltrain.report.methods import find_methods
    from rltrain.report.plotting import plot as draw

    typer.echo(draw(out, find_methods(runs), metric or []))
    typer.echo(f"wrote {out}")
