"""`rltrain tune`: search for better settings, and test what was found on fresh seeds."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from rltrain.cli import engine as engines
from rltrain.cli.common import AsJson, Plugins, Storage, command, print_json, unfit, use_plugins

if TYPE_CHECKING:
    from rltrain.cli.tune_board import TrialBoard
    from rltrain.config.load import Loaded
    from rltrain.config.schema import Config
    from rltrain.launch.job import Event, Launcher
    from rltrain.tuning.confirm import Confirmed
    from rltrain.tuning.study import Study

_NAME = re.compile(r"(?!-)(?!\.+$)[A-Za-z0-9._-]{1,100}")
_DURATION = re.compile(r"(?:(\d+(?:\.\d+)?)h)?(?:(\d+(?:\.\d+)?)m)?(?:(\d+(?:\.\d+)?)s)?")


class How(NamedTuple):
    """With what a study is worked on and how it is shown; nothing of it changes a result."""

    launcher: Launcher
    seconds: float | None
    """No trial begins after this time."""
    quiet: bool
    again: str
    """The command that goes on with it."""


def tune(
    arguments: Annotated[
        list[str],
        typer.Argument(metavar="CONFIG [KEY=VALUE]...", help="YAML file with a block tune, then other settings."),
    ],
    trials: Annotated[int | None, typer.Option(min=1, help="Trials in all, over every process of the study.")] = None,
    timeout: Annotated[str | None, typer.Option(help="Begin no trial after this time: 2h, 30m, 1h30m, 90s.")] = None,
    workers: Annotated[int | None, typer.Option(min=1, max=1_000, help="Seeds at once; by default one a core.")] = None,
    storage: Storage = None,
    study: Annotated[str | None, typer.Option(help="Name of the study; by default the time.")] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with the study, or join it; by default the newest one.")
    ] = False,
    engine: engines.Name = "local",
    ray_address: engines.Address = None,
    insecure_ray: engines.Insecure = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but errors.")] = False,
    as_json: AsJson = False,
    plugin: Plugins = None,
) -> None:
    """Search for better settings: each trial trains several seeds, and the best are confirmed on fresh ones.

    Any number of processes may share a study: start each with the same --study and --resume.
    """
    use_plugins(plugin)
    seconds = None if timeout is None else seconds_of(timeout)
    path, overrides = Path(arguments[0]), [*arguments[1:], *([f"tune.trials={trials}"] if trials is not None else [])]
    where = engines.engine_of(engine, ray_address, insecure_ray)
    loaded, notes = load_search(path, overrides, elsewhere=where.elsewhere)
    with where.launcher(workers, plugin or []) as launcher:  # before there is a study: a cluster may be refused
        opened = _open(loaded.config, path.stem, storage, study, resume)
        given = [
            *(["--trials", str(trials)] if trials else []),
            *(["--storage", opened.store.shown] if storage else []),
        ]
        again = command("tune", *arguments, "--study", opened.name, "--resume", *given, *where.options)
        summary, exit_code = _tune(opened, notes, How(launcher, seconds, quiet or as_json, again))
    if as_json:
        print_json(summary)
    if exit_code:
        raise typer.Exit(exit_code)


def _tune(study: Study, notes: list[str], how: How) -> tuple[dict[str, Any], int]:
    """Search, confirm, and tell what came of it. Returns the summary and the exit code."""
    from rltrain.cli.signals import Interruption
    from rltrain.cli.tune_board import TrialBoard

    with Interruption() as interruption, TrialBoard(study, how.again, quiet=how.quiet) as board:
        study.warn, study.interrupted = board.say, interruption
        for note in notes:
            board.say(f"note: {note}")
        summary = _run(study, how, board, interruption)
    board.conclude(summary)
    return summary, interruption.exit_code or int(summary["status"] == "failed")


def load_search(path: Path, overrides: list[str], *, elsewhere: bool) -> tuple[Loaded, list[str]]:
    """A configuration whose search is right, and what is to be said of it. Raises ConfigError."""
    from rltrain.config.load import load
    from rltrain.core import ConfigError
    from rltrain.fitting import of_many

    loaded = load(path, overrides)
    if loaded.config.tune is None:
        raise ConfigError(f"{path}: has no block 'tune', which says what to search")
    if found := unfit(loaded.config, elsewhere=elsewhere) or of_many(loaded.config):
        raise ConfigError(*loaded.explain(found))
    return loaded, check_search(loaded)


def check_search(loaded: Loaded) -> list[str]:
    """What is to be said of the search. Raises ConfigError with all that is wrong in it."""
    from rltrain.core import ConfigError
    from rltrain.tuning.objective import Objective
    from rltrain.tuning.space import Space

    Objective.of(loaded.config)
    assert loaded.config.tune is not None
    errors, notes = Space.of(loaded.config).problems(loaded)
    if errors:
        raise ConfigError(*errors)
    unfit = [f"{note} (not everywhere: trials in which it does not fit will fail)" for note in notes]
    return [*loaded.config.tune.notes_of_search(loaded.config.evaluated_early), *unfit]


def seconds_of(text: str) -> float:
    """`2h`, `1h30m`, `90s` -> seconds. Raises ConfigError."""
    from rltrain.core import ConfigError

    found = _DURATION.fullmatch(text)
    if not text or found is None:
        raise ConfigError(f"--timeout {text}: expected a time such as 2h, 30m, 1h30m or 90s")
    hours, minutes, seconds = (float(part or 0) for part in found.groups())
    return 3600 * hours + 60 * minutes + seconds


def _open(config: Config, name: str, storage: str | None, study: str | None, resume: bool) -> Study:
    """Open the study that is meant. Raises ConfigError."""
    from rltrain.core import ConfigError

    if study is not None and not _NAME.fullmatch(study):
        raise ConfigError(f"--study {study}: expected letters, digits, '.', '_' and '-', 100 at most")
    try:
        import optuna  # noqa: F401
    except ImportError:
        raise ConfigError("tune needs Optuna: pip install 'rltrain[tune]'") from None
    from rltrain.rundir import newest_study
    from rltrain.tuning.storage import open_store
    from rltrain.tuning.study import open_study

    folder = Path("runs") / name / "tune"
    store = open_store(storage, folder)
    chosen = study
    if chosen is None and resume:
        if (newest := newest_study(folder)) is None:
            raise ConfigError(f"--resume: there is no study in {folder}")
        chosen = newest.name
    chosen = chosen or time.strftime("%Y%m%d-%H%M%S")
    return open_study(store, chosen, config, folder / chosen, lambda text: typer.echo(text, err=True), resume=resume)


def _run(study: Study, how: How, board: TrialBoard, interrupted: Callable[[], bool]) -> dict[str, Any]:
    """Trials, then the test of the best. Returns the summary."""
    from rltrain.core import ConfigError
    from rltrain.launch.group import recorded
    from rltrain.tuning.results import write_results
    from rltrain.tuning.tuner import Tuner

    launcher, deadline = how.launcher, None if how.seconds is None else time.monotonic() + how.seconds
    tuner = Tuner(study, launcher.workers, board, deadline)
    board.begin(launcher.workers)

    def listen(event: Event) -> None:
        tuner(event)
        board.listen(event)

    try:
        launcher.run(tuner.next_job, recorded(listen), interrupted, tuner.unwanted)
    finally:
        tuner.leave()
    found: list[Confirmed] = []
    if tuner.hopeless is not None:
        write_results(study, found, "failed")
        raise ConfigError(f"tune.objective: {tuner.hopeless}; no other trial was begun")
    running = sum(trial.state.name == "RUNNING" for trial in study.trials())
    if interrupted():
        return write_results(study, found, "interrupted")
    if running:
        return write_results(study, found, "running elsewhere")
    if not any(trial.state.name == "COMPLETE" for trial in study.trials()):
        return write_results(study, found, "failed")
    return _confirm(study, launcher, board, interrupted)


def _confirm(study: Study, launcher: Launcher, board: TrialBoard, interrupted: Callable[[], bool]) -> dict[str, Any]:
    from rltrain.launch.group import train_groups
    from rltrain.rundir import RunLocked, lock_run
    from rltrain.tuning.confirm import CONFIRM, candidates, confirmed, group_of
    from rltrain.tuning.results import write_results

    chosen = candidates(study) if study.tune.confirm.top else []
    (study.folder / CONFIRM).mkdir(exist_ok=True)
    try:
        with lock_run(study.folder / CONFIRM):
            groups = [group_of(study, each) for each in chosen]
            board.confirming([each.name for each in chosen], groups)
            train_groups(groups, launcher, board.listen, interrupted)
            found = [confirmed(study, each, group) for each, group in zip(chosen, groups, strict=True)]
            return write_results(study, found, "interrupted" if interrupted() else "finished")
    except RunLocked:
        return write_results(study, [], "confirmed elsewhere")
