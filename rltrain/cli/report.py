"""`rltrain report`: everything about some runs on one page that one can send."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rltrain.cli.common import Plugins, Runs, use_plugins


def report(
    runs: Runs,
    out: Annotated[Path, typer.Option(help="File to write, .html.")] = Path("report.html"),
    videos: Annotated[bool, typer.Option(help="Videos of episodes; without them six moments of each.")] = True,
    metric: Annotated[
        str | None, typer.Option(help="Metric whose last entry is a run's score; by default eval/return.")
    ] = None,
    threshold: Annotated[float | None, typer.Option(help="Count the steps to this value, as compare does.")] = None,
    plugin: Plugins = None,
) -> None:
    """Write one page: settings, learning curves, results, comparison, exploration, episodes, tables. Opens offline."""
    import time

    from rltrain.report.output import check_output

    began = time.monotonic()
    check_output(out, [".html"])
    from rltrain.report.methods import find_methods
    from rltrain.report.page import gather, render
    from rltrain.rundir import write_atomic

    methods = find_methods(runs)
    use_plugins(plugin)
    made = gather(
        methods, metric=metric, threshold=threshold, videos=videos, announce=lambda text: typer.echo(text, err=True)
    )
    page = render(made).encode()
    write_atomic(out, page)
    typer.echo(f"wrote {out}: {len(page) / 1e6:.1f} MB in {time.monotonic() - began:.1f} s")
