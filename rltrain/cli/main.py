"""The command `rltrain`. Each verb has a file of its own and imports what it needs when it runs."""

from __future__ import annotations

import os
import sys
import warnings

for _threads in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_threads, "1")  # small networks are slower on several threads

import typer  # noqa: E402

from rltrain.cli import (  # noqa: E402
    check,
    compare,
    diff,
    evaluate,
    explain,
    list_,
    plot,
    render,
    report,
    reproduce,
    runs,
    schema,
    show,
    sweep,
    train,
    tune,
)

app = typer.Typer(
    name="rltrain",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"rltrain {version('rltrain')}")
        raise typer.Exit()


@app.callback()
def _root(
    version: bool = typer.Option(
        False, "--version", callback=_version, is_eager=True, help="Show the version and exit."
    ),
) -> None:
    """Train reinforcement-learning agents from one YAML file."""


app.command("train")(train.train)
app.command("eval")(evaluate.evaluate)
app.command("sweep")(sweep.sweep)
app.command("tune")(tune.tune)
app.command("compare")(compare.compare)
app.command("render")(render.render)
app.command("report")(report.report)
app.command("plot")(plot.plot)
app.command("check")(check.check)
app.command("show")(show.show)
app.command("runs")(runs.runs)
app.command("diff")(diff.diff)
app.command("reproduce")(reproduce.reproduce)
app.command("list")(list_.list_)
app.command("explain")(explain.explain)
app.command("schema")(schema.schema)


def main() -> None:
    """Run the command line. A user's mistake is one line on stderr and an exit code, never a traceback."""
    warnings.formatwarning = lambda message, *_, **__: f"warning: {message}\n"
    try:
        app(prog_name="rltrain")
    except Exception as error:
        from rltrain.core import RltrainError
        from rltrain.registry import UnknownComponent

        if isinstance(error, RltrainError):
            typer.echo(f"error: {error}" if error.exit_code != 2 else str(error), err=True)
            for note in getattr(error, "__notes__", ()):
                typer.echo(note, err=True)
            sys.exit(error.exit_code)
        if isinstance(error, UnknownComponent):
            typer.echo(f"error: {error}", err=True)
            sys.exit(2)
        if isinstance(error, OSError):
            typer.echo(f"error: {error.filename or 'the run folder'}: {error.strerror or error}", err=True)
            sys.exit(74)
        raise
