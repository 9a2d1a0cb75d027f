"""`rltrain reproduce`: does a run come out the same again?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rltrain.cli.common import AsJson, Plugins, load_config, print_json, use_plugins

if TYPE_CHECKING:
    from rltrain.config.schema import Config
    from rltrain.reproduction import Comparison, Original

SHOWN = 10
"""Metrics that are printed of the first difference."""

Elsewhere = Mapping[str, Sequence[Any]] | None


def reproduce(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Run folder.")],
    steps: Annotated[int | None, typer.Option(min=1, help="Compare only the first so many environment steps.")] = None,
    keep: Annotated[Path | None, typer.Option(metavar="FOLDER", help="Leave the new run here.")] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print only the verdict.")] = False,
    as_json: AsJson = False,
    plugin: Plugins = None,
) -> None:
    """Train again from a run's stored configuration and compare the metrics, entry by entry as they come.

    Exit code 0 where they are identical; 1 at the first difference, where it ends. A run that was stopped, or is not
    finished, is compared as far as it goes.
    """
    from rltrain.cli.signals import Interruption
    from rltrain.reproduction import Comparison, Original
    from rltrain.rundir import NoRun, is_run, resolve_run

    use_plugins(plugin)
    source = resolve_run(run)
    if not is_run(source):
        raise NoRun(f"{source}: a checkpoint: name the run that it is of")
    config = load_config(source / "config.yaml", ["train.stop.minutes=null"])  # a clock has its own will
    original = Original.read(source, config, steps)
    with Interruption() as interruption, _folder(config, keep) as folder:
        comparison = Comparison(original, folder)
        elsewhere = _train(config, folder, comparison, interruption, quiet=quiet or as_json)
        stopped = interruption() and not comparison.over
        comparison.conclude(stopped=stopped)
    if as_json:
        print_json(_as_json(original, comparison, elsewhere))
    else:
        _print(original, comparison, stopped=stopped)
    if stopped and comparison.unlike is None:
        raise typer.Exit(interruption.exit_code)
    raise typer.Exit(0 if comparison.identical else 1)


@contextmanager
def _folder(config: Config, keep: Path | None) -> Iterator[Path]:
    """A folder for the new run, locked; one that nobody asked for is removed."""
    from tempfile import TemporaryDirectory

    from rltrain.config.load import dump
    from rltrain.rundir import create_run, lock_run, write_atomic

    with ExitStack() as stack:
        if keep is None:
            folder = Path(stack.enter_context(TemporaryDirectory(prefix="rltrain-")))
        else:
            folder = create_run(keep.parent, keep.name, config.seed, exact=keep)
        stack.enter_context(lock_run(folder))
        write_atomic(folder / "config.yaml", dump(config))
        yield folder


def _train(config: Config, folder: Path, comparison: Comparison, interruption: Any, *, quiet: bool) -> Elsewhere:
    """Train until it is decided. Returns in what versions and machine the two runs differ."""
    from rltrain.cli.display import Display
    from rltrain.experiment import Run

    with Display(config, folder, quiet=quiet) as display:
        run = Run(config, folder, [*comparison.listeners(), display])
        try:
            elsewhere = comparison.watch(run)
            if not quiet:
                _announce(elsewhere)
            display.watch(run)
            run.train(lambda: comparison.over or interruption())
        finally:
            run.close()
    return elsewhere


def _announce(elsewhere: Elsewhere) -> None:
    """A difference of versions or machines is the likely cause of one in the metrics."""
    from rltrain.differences import shown

    if elsewhere is None:
        typer.echo("what the run ran on was not recorded")
    elif not elsewhere:
        typer.echo("same versions and machine as then")
    for name, (*then, now) in (elsewhere or {}).items():
        values = ", ".join(dict.fromkeys(map(shown, then)))
        typer.echo(f"not as then: {name} was {values}, is {shown(now)}")


def _print(original: Original, comparison: Comparison, *, stopped: bool) -> None:
    from rltrain.differences import shown

    entries = f"{comparison.equal:,} entries with {comparison.figures:,} figures"
    if comparison.unlike is None:
        if stopped:
            typer.echo(f"stopped: {entries} of {len(original.lines):,} were compared, and are identical")
            return
        status = original.record.status.value
        how = "" if original.end is not None or original.limit is not None else f"; the run is {status} there"
        typer.echo(f"identical: {entries}, up to step {comparison.step:,}{how}")
        return
    step, metrics = comparison.unlike
    typer.echo(f"differs from step {step:,} on, after {entries} that are identical")
    for name, (then, now) in list(metrics.items())[:SHOWN]:
        apart = f"  ({now - then:+.3g})" if isinstance(then, int | float) and isinstance(now, int | float) else ""
        typer.echo(f"  {name}: {shown(then)} then, {shown(now)} now{apart}")
    if len(metrics) > SHOWN:
        typer.echo(f"  and {len(metrics) - SHOWN} more metrics")


def _as_json(original: Original, comparison: Comparison, elsewhere: Elsewhere) -> dict[str, Any]:
    """What is absent on a side is left out."""
    from rltrain.differences import ABSENT

    def pair(then: Any, now: Any) -> dict[str, Any]:
        return {key: value for key, value in (("then", then), ("now", now)) if value is not ABSENT}

    first = comparison.unlike
    metrics = {} if first is None else {name: pair(*values) for name, values in first.metrics.items()}
    platform = {
        name: {"then": [each for each in then if each is not ABSENT], "now": now}
        for name, (*then, now) in (elsewhere or {}).items()
    }
    return {
        "run": str(original.record.folder),
        "status": original.record.status.value,
        "identical": comparison.identical,
        "entries": len(original.lines),
        "identical_entries": comparison.equal,
        "step": comparison.step,
        "first_difference": None if first is None else {"step": first.step, "metrics": metrics},
        "platform": None if elsewhere is None else platform,
    }
