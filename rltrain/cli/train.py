"""`rltrain train`: train from a configuration, or go on with an interrupted run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from rltrain.cli.common import AsJson, Plugins, load_config, use_plugins

if TYPE_CHECKING:
    from rltrain.config.schema import Config

RESUMABLE = ("train.total_steps", "train.stop", "train.stop.return", "train.stop.minutes", "device")
"""What may change when a run goes on: nothing that would have changed its past."""


def train(
    arguments: Annotated[
        list[str] | None,
        typer.Argument(metavar="CONFIG [KEY=VALUE]...", help="YAML file, then settings that replace the file's."),
    ] = None,
    resume: Annotated[Path | None, typer.Option(metavar="RUN", help="Go on with this run; no CONFIG then.")] = None,
    run_dir: Annotated[Path | None, typer.Option(help="Exact folder for the run.")] = None,
    device: Annotated[Literal["auto", "cpu", "cuda"] | None, typer.Option(help="Where to compute.")] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but errors.")] = False,
    as_json: AsJson = False,
    plugin: Plugins = None,
) -> None:
    """Train an agent. Writes configuration, metrics, TensorBoard logs and checkpoints to its run folder."""
    from rltrain.core import ConfigError

    use_plugins(plugin)
    overrides = list(arguments or [])
    if device is not None:
        overrides.append(f"device={device}")
    if resume is not None:
        if run_dir is not None:
            raise ConfigError("--run-dir: a resumed run stays in its folder")
        _resume(resume, overrides, quiet=quiet, as_json=as_json)
        return
    if not arguments or "=" in arguments[0]:
        raise ConfigError("train needs a CONFIG, for example: rltrain train configs/dqn_cartpole.yaml")
    path = Path(overrides.pop(0))
    config = load_config(path, overrides)
    _start(config, path.stem, run_dir, quiet=quiet, as_json=as_json)


def _start(config: Config, name: str, run_dir: Path | None, *, quiet: bool, as_json: bool) -> None:
    from rltrain.config.load import dump
    from rltrain.rundir import create_run, lock_run, write_atomic

    folder = create_run(Path("runs"), name, config.seed, exact=run_dir)
    with lock_run(folder):
        write_atomic(folder / "config.yaml", dump(config))
        _train(config, folder, None, quiet=quiet, as_json=as_json)


def _resume(run: Path, overrides: Sequence[str], *, quiet: bool, as_json: bool) -> None:
    from rltrain import checkpoint
    from rltrain.config.load import dump
    from rltrain.core import ConfigError
    from rltrain.rundir import lock_run, resolve_run, write_atomic

    folder = resolve_run(run)
    refused = [text for text in overrides if text.split("=")[0] not in RESUMABLE]
    if refused:
        allowed = ", ".join(RESUMABLE)
        raise ConfigError(
            *(f"{text} (command line): would change the run's past; with --resume only {allowed}" for text in refused)
        )
    with lock_run(folder):
        config = load_config(folder / "config.yaml", overrides)
        saved = checkpoint.newest(
            folder / "checkpoints",
            on_corrupt=lambda path, why: typer.echo(f"warning: {path}: {why}; set aside", err=True),
        )
        if saved is not None and saved.step > config.train.total_steps:
            raise ConfigError(f"train.total_steps: the run is at step {saved.step:,} already")
        if overrides:
            write_atomic(folder / "config.yaml", dump(config))
        _train(config, folder, saved, quiet=quiet, as_json=as_json, resuming=True)


def _train(config: Config, folder: Path, saved: Any, *, quiet: bool, as_json: bool, resuming: bool = False) -> None:
    import json

    from rltrain.cli.display import Display
    from rltrain.cli.signals import Interruption
    from rltrain.experiment import Run

    with Interruption() as interruption, Display(config, folder, quiet=quiet or as_json) as display:
        run = Run(config, folder, [display])
        try:
            if resuming:
                run.resume(saved)
            display.watch(run)
            summary = run.train(interruption)
        finally:
            run.close()
    display.conclude(summary)
    if as_json:
        typer.echo(json.dumps(summary))
    if interruption():
        raise typer.Exit(interruption.exit_code)
