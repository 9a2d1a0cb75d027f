"""`rltrain train`: train from a configuration, or go on with an interrupted run."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from rltrain.cli import engine as engines
from rltrain.cli.common import AsJson, Plugins, is_config, load_config, print_json, refuse_no_seeds, use_plugins
from rltrain.cli.train_seeds import How

if TYPE_CHECKING:
    from rltrain.config.schema import Config

RESUMABLE = ("train.total_steps", "train.stop", "train.stop.return", "train.stop.minutes", "device")
"""What may change when a run goes on: nothing that would have changed its past."""


def train(
    arguments: Annotated[
        list[str] | None,
        typer.Argument(metavar="CONFIG [KEY=VALUE]...", help="YAML file, then settings that replace the file's."),
    ] = None,
    seeds: Annotated[str | None, typer.Option(help="Several seeds, a run each: 0-9, or 0-4,7, or how many.")] = None,
    workers: Annotated[int | None, typer.Option(min=1, max=1_000, help="Seeds at once; by default one a core.")] = None,
    resume: Annotated[
        Path | None,
        typer.Option(
            metavar="RUN|GROUP",
            help="Go on with this run, or with what is missing of this group; needs no CONFIG. "
            "What has finished trains longer with a greater train.total_steps=N.",
        ),
    ] = None,
    run_dir: Annotated[Path | None, typer.Option(help="Exact folder for the run or the group.")] = None,
    engine: engines.Name = "local",
    ray_address: engines.Address = None,
    insecure_ray: engines.Insecure = False,
    device: Annotated[Literal["auto", "cpu", "cuda"] | None, typer.Option(help="Where to compute.")] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but errors.")] = False,
    as_json: AsJson = False,
    plugin: Plugins = None,
) -> None:
    """Train an agent. Writes configuration, metrics, TensorBoard logs and checkpoints to its run folder.

    With several seeds each has a run of its own in the group's folder, and they train at once.
    """
    from rltrain.core import ConfigError

    use_plugins(plugin)
    refuse_no_seeds(seeds)
    overrides = list(arguments or [])
    path = Path(overrides.pop(0)) if overrides and is_config(overrides[0]) else None
    overrides += [f"{key}={value}" for key, value in (("device", device), ("seeds", seeds)) if value is not None]
    how = How(engines.engine_of(engine, ray_address, insecure_ray), workers, plugin or [], quiet, as_json)
    if resume is not None:
        if run_dir is not None and run_dir.resolve() != resume.resolve():
            raise ConfigError(f"--run-dir {run_dir}: what is resumed stays in its folder, {resume}")
        _resume(resume, path, overrides, how)
    elif path is not None:
        _start(load_config(path, overrides, elsewhere=how.engine.elsewhere), path.stem, run_dir, how)
    else:
        raise ConfigError("train needs a CONFIG, for example: rltrain train configs/dqn_cartpole.yaml")


def _start(config: Config, name: str, run_dir: Path | None, how: How) -> None:
    from rltrain.cli.train_seeds import start
    from rltrain.config.load import dump
    from rltrain.rundir import create_run, lock_run, write_atomic

    if config.group is not None:
        start(config, name, run_dir, how)
        return
    with _ready(config, how):
        folder = create_run(Path("runs"), name, config.seed, exact=run_dir)
        with lock_run(folder):
            write_atomic(folder / "config.yaml", dump(config))
            _train(config, folder, None, how)


def _ready(config: Config, how: How) -> AbstractContextManager[None]:
    """What a single run needs. Raises ConfigError for options that it has no use for."""
    from rltrain.core import ConfigError

    ranks = config.train.data_parallel
    if how.workers is not None or (how.engine.name != "local" and ranks == 1):
        option = "--workers" if how.workers is not None else f"--engine {how.engine.name}"
        raise ConfigError(f"{option}: a single run has one process; it goes with several seeds, such as --seeds 0-9")
    return nullcontext() if ranks == 1 else how.engine.ranks(ranks)


def _resume(run: Path, path: Path | None, overrides: Sequence[str], how: How) -> None:
    from rltrain.cli.train_seeds import go_on
    from rltrain.config.load import dump, load
    from rltrain.launch.single import newest_checkpoint
    from rltrain.rundir import GROUP, NoRun, is_group, is_run, lock_run, resolve, write_atomic

    folder = resolve(run)
    if not (is_run(folder) or is_group(folder)):
        raise NoRun(f"{folder}: a checkpoint: name the run that it is of")
    file = folder / (GROUP if is_group(folder) else "config.yaml")
    with lock_run(folder):
        stored = load(file).config
        config = load_config(path or file, overrides, elsewhere=how.engine.elsewhere)
        _refuse_another_past(stored, config, overrides, path or file)
        if is_group(folder):
            go_on(folder, stored, config, how)
            return
        with _ready(config, how):
            saved = newest_checkpoint(folder, config, lambda text: typer.echo(text, err=True))
            if config != stored:
                write_atomic(file, dump(config))
            _train(config, folder, saved, how, resuming=True)


def _refuse_another_past(stored: Config, config: Config, overrides: Sequence[str], path: Path) -> None:
    """What goes on must be what was begun. Raises ConfigError with every setting that is not."""
    from rltrain.config.load import parse_path, to_dict
    from rltrain.core import ConfigError
    from rltrain.differences import ABSENT, differing, shown

    group = stored.group is not None
    found = differing([_schedules_whole(to_dict(each)) for each in (stored, config)])
    free = (*RESUMABLE, *(("seed", "seeds") if group else ()))
    changed = {name: values for name, values in found.items() if name not in free}
    if not changed:
        return
    written = [(parse_path(text.split("=")[0]), f"{text} (command line)") for text in reversed(overrides)]

    def place(name: str) -> str:
        """The last override of the setting, of its block, or of a part of it."""
        at = parse_path(name)
        return next((text for key, text in written if key[: len(at)] == at[: len(key)]), str(path))

    allowed = "train.total_steps, train.stop" + (", seeds and device" if group else " and device")
    told = {name: ["not set" if value is ABSENT else shown(value) for value in row] for name, row in changed.items()}
    raise ConfigError(
        *(
            f"{place(name)}: {name}: was {was}, is {now} now, which would change the past: "
            f"--resume changes only {allowed}"
            for name, (was, now) in told.items()
        )
    )


def _schedules_whole(value: Any) -> Any:
    """The settings with every schedule as one value, as one writes it."""
    from rltrain.config.load import flow
    from rltrain.config.reference import short

    if isinstance(value, list):
        return [_schedules_whole(part) for part in value]
    if not isinstance(value, dict):
        return value
    if "schedule" in value:
        return flow(short(value))
    return {key: _schedules_whole(part) for key, part in value.items()}


def _train(config: Config, folder: Path, saved: Any, how: How, *, resuming: bool = False) -> None:
    from rltrain.cli.display import Display
    from rltrain.cli.signals import Interruption
    from rltrain.launch.single import train_run

    with Interruption() as interruption, Display(config, folder, quiet=how.quiet or how.as_json) as display:
        summary = train_run(config, folder, display, interruption, resuming=resuming, saved=saved)
    display.conclude(summary)
    if how.as_json:
        print_json(summary)
    if interruption():
        raise typer.Exit(interruption.exit_code)
