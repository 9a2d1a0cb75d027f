"""`rltrain report`: everything about some runs, or about one search, on one page that one can send."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rltrain.cli.common import Plugins, Storage, use_plugins

if TYPE_CHECKING:
    from rltrain.report.page import Report


def report(
    ctx: typer.Context,
    runs: Annotated[
        list[Path],
        typer.Argument(
            metavar="RUN|GROUP|STUDY...",
            help="Each is one method: a run, a group, or a folder with runs. Or the folder of one study, by itself.",
        ),
    ],
    out: Annotated[Path, typer.Option(help="File to write, .html.")] = Path("report.html"),
    videos: Annotated[bool, typer.Option(help="Videos of episodes; without them six moments of each.")] = True,
    metric: Annotated[
        str | None, typer.Option(help="Metric whose last entry is a run's score; by default eval/return.")
    ] = None,
    threshold: Annotated[float | None, typer.Option(help="Count the steps to this value, as compare does.")] = None,
    storage: Storage = None,
    plugin: Plugins = None,
) -> None:
    """Write one page: settings, learning curves, results, comparison, exploration, episodes, tables. Opens offline.

    On a study of `rltrain tune`: what was searched, what the best is worth, and how the trials went.
    """
    import time

    from rltrain.report.output import check_output

    began = time.monotonic()
    check_output(out, [".html"])
    from rltrain.rundir import write_atomic

    if (study := _study_in(runs)) is not None:
        _refuse_of_runs(metric, threshold, videos)
        use_plugins(plugin)
        made = _of_study(study, storage)
    else:
        _refuse_of_studies(ctx)
        made = _of_runs(runs, plugin, metric, threshold, videos)
    from rltrain.report.page import render

    page = render(made).encode()
    write_atomic(out, page)
    typer.echo(f"wrote {out}: {len(page) / 1e6:.1f} MB in {time.monotonic() - began:.1f} s")


def _study_in(paths: list[Path]) -> Path | None:
    """The study that is meant: a folder of one, or the newest in a folder of several. Raises ConfigError."""
    from rltrain.core import ConfigError
    from rltrain.rundir import is_study, newest_study

    found = [study for path in paths if (study := path if is_study(path) else newest_study(path)) is not None]
    if found and len(paths) > 1:
        raise ConfigError(f"{found[0]}: a study has a page of its own: name nothing beside it")
    return found[0] if found else None


def _refuse_of_studies(ctx: typer.Context) -> None:
    """Raises ConfigError for what runs have no use for; a variable of the environment is for all commands."""
    from rltrain.core import ConfigError

    source = ctx.get_parameter_source("storage")
    if source is not None and source.name == "COMMANDLINE":
        raise ConfigError("--storage: goes with a study, and these are runs")


def _refuse_of_runs(metric: str | None, threshold: float | None, videos: bool) -> None:
    """Raises ConfigError for what a study has of its own."""
    from rltrain.core import ConfigError

    for name, given in (("metric", metric), ("threshold", threshold)):
        if given is not None:
            raise ConfigError(f"--{name}: goes with runs; a study is judged by its own objective")
    if not videos:
        raise ConfigError("--no-videos: goes with runs; a study has none")


def _of_study(folder: Path, storage: str | None) -> Report:
    from rltrain.core import ConfigError

    try:
        import optuna  # noqa: F401
    except ImportError:
        raise ConfigError("the report of a study needs Optuna: pip install 'rltrain[tune]'") from None
    from rltrain.report.study.page import gather_study
    from rltrain.tuning.reading import read_study

    return gather_study(read_study(folder, storage))


def _of_runs(
    runs: list[Path], plugin: list[str] | None, metric: str | None, threshold: float | None, videos: bool
) -> Report:
    from rltrain.report.methods import find_methods
    from rltrain.report.page import gather

    methods = find_methods(runs)
    use_plugins(plugin)
    return gather(
        methods, metric=metric, threshold=threshold, videos=videos, announce=lambda text: typer.echo(text, err=True)
    )
