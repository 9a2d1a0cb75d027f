"""`rltrain sweep`: a plain grid of full runs, compared at the end."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from rltrain.cli import engine as engines
from rltrain.cli.common import (
    AsJson,
    Plugins,
    command,
    is_config,
    load_config,
    print_json,
    refuse_no_seeds,
    use_plugins,
)

if TYPE_CHECKING:
    from rltrain.config.schema import Config
    from rltrain.launch.group import Group
    from rltrain.launch.job import Launcher

MAX_POINTS = 10_000


class How(NamedTuple):
    """What a sweep is trained with and how it is shown; nothing of it changes a run."""

    engine: engines.Engine
    workers: int | None
    plugins: Sequence[str]
    metric: str
    quiet: bool
    as_json: bool


def sweep(
    arguments: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="CONFIG KEY=VALUE,VALUE... [KEY=VALUE,...]...", help="YAML file, then the values of each setting."
        ),
    ] = None,
    seeds: Annotated[str | None, typer.Option(help="Seeds of each point: 0-4, or 0,2,7, or how many.")] = None,
    workers: Annotated[int | None, typer.Option(min=1, max=1_000, help="Runs at once; by default one a core.")] = None,
    resume: Annotated[Path | None, typer.Option(metavar="SWEEP", help="Do what is missing of this sweep.")] = None,
    run_dir: Annotated[Path | None, typer.Option(help="Exact folder for the sweep.")] = None,
    metric: Annotated[str, typer.Option(help="Metric whose last entry is a run's score.")] = "eval/return",
    engine: engines.Name = "local",
    ray_address: engines.Address = None,
    insecure_ray: engines.Insecure = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but errors.")] = False,
    as_json: AsJson = False,
    plugin: Plugins = None,
) -> None:
    """Train every combination of these values, each a group of seeds in one folder, and compare them."""
    from rltrain.core import ConfigError

    use_plugins(plugin)
    refuse_no_seeds(seeds)
    where = engines.engine_of(engine, ray_address, insecure_ray)
    words, how = list(arguments or []), How(where, workers, plugin or [], metric, quiet, as_json)
    if resume is not None:
        if words or seeds is not None or run_dir is not None:
            raise ConfigError("--resume: a sweep goes on as it was begun: without CONFIG, settings, --seeds, --run-dir")
        _go_on(resume, how)
    elif words and is_config(words[0]):
        _begin(Path(words[0]), words[1:], seeds, run_dir, how)
    else:
        raise ConfigError("sweep needs a CONFIG, as in: rltrain sweep configs/dqn_cartpole.yaml agent.gamma=0.9,0.99")


def _go_on(folder: Path, how: How) -> None:
    from rltrain.rundir import lock_run

    groups = _groups_in(_existing(folder))
    with lock_run(folder), how.engine.launcher(how.workers, how.plugins) as launcher:
        _train(folder, groups, launcher, how)


def _begin(path: Path, values: Sequence[str], seeds: str | None, run_dir: Path | None, how: How) -> None:
    from rltrain.rundir import create_run, lock_run

    own = [f"seeds={seeds}"] if seeds is not None else []
    points = {name: [*overrides, *own] for name, overrides in _points(values).items()}
    configs = {name: _one_of_many(path, overrides, how) for name, overrides in points.items()}
    _refuse_twins(configs)
    with how.engine.launcher(how.workers, how.plugins) as launcher:  # before there is a folder: it may be refused
        folder = create_run(Path("runs"), path.stem, None, exact=run_dir)
        with lock_run(folder):
            groups = {name: _group(folder / name, config) for name, config in configs.items()}
            _train(folder, groups, launcher, how)


def _refuse_twins(configs: Mapping[str, Config]) -> None:
    """Raises ConfigError where two points are one, which would be compared with itself."""
    from rltrain.config.load import dump
    from rltrain.core import ConfigError

    seen: dict[str, str] = {}
    for name, config in configs.items():
        if (other := seen.setdefault(dump(config), name)) != name:
            raise ConfigError(f"{other} and {name} are the same configuration: a value is given twice")


def _one_of_many(path: Path, overrides: list[str], how: How) -> Config:
    from rltrain.core import ConfigError
    from rltrain.fitting import of_many

    config = load_config(path, overrides, elsewhere=how.engine.elsewhere)
    if found := of_many(config):
        raise ConfigError(*(f"{path}: {problem.path}: {problem.message}" for problem in found))
    return config


def _existing(folder: Path) -> Path:
    from rltrain.rundir import NoRun

    if not folder.is_dir():
        raise NoRun(f"{folder}: no such sweep")
    return folder


def _group(folder: Path, config: Config) -> Group:
    from rltrain.launch.group import Group

    folder.mkdir()
    return Group.write(folder, config, config.group or [config.seed])


def _groups_in(folder: Path) -> dict[str, Group]:
    """The groups of a sweep. Raises NoRun where there are none."""
    from rltrain.config.load import load
    from rltrain.launch.group import Group
    from rltrain.rundir import GROUP, NoRun, is_group

    groups = [child for child in sorted(folder.iterdir()) if is_group(child)]
    found = {child.name: Group(child, load(child / GROUP).config) for child in groups}
    if not found:
        raise NoRun(f"{folder}: no group in this folder")
    return found


def _points(words: Sequence[str]) -> dict[str, list[str]]:
    """Name of each point -> the overrides that make it. Raises ConfigError."""
    from rltrain.core import ConfigError

    columns = []
    for word in words:
        key, equals, text = word.partition("=")
        values = split_values(text)
        if not equals or not key or not all(values):
            raise ConfigError(f"{word} (command line): expected key=value,value, for example agent.gamma=0.9,0.99")
        columns.append([(key, value) for value in values])
    if not any(len(column) > 1 for column in columns):
        raise ConfigError("sweep needs a setting with several values, as in: agent.gamma=0.9,0.99")
    combinations = list(itertools.islice(itertools.product(*columns), MAX_POINTS + 1))
    if len(combinations) > MAX_POINTS:
        raise ConfigError(f"more than {MAX_POINTS:,} combinations")
    points: dict[str, list[str]] = {}
    for combination in combinations:
        varied = [pair for pair, column in zip(combination, columns, strict=True) if len(column) > 1]
        name = "_".join(f"{key.rpartition('.')[2] or key}={value}" for key, value in varied)
        name = re.sub(r"[^A-Za-z0-9._=+-]+", "-", name)[:100].strip(".-") or "point"
        if name in points:
            name += f"-{len(points)}"
        points[name] = [f"{key}={value}" for key, value in combination]
    return points


def split_values(text: str) -> list[str]:
    """`0.9,0.99` -> two values; commas inside brackets and quotes separate nothing."""
    values, depth, quote = [""], 0, ""
    for character in text:
        if quote:
            quote = "" if character == quote else quote
        elif character in "\"'":
            quote = character
        elif character in "[{":
            depth += 1
        elif character in "]}":
            depth -= 1
        elif character == "," and depth == 0:
            values.append("")
            continue
        values[-1] += character
    return [value.strip() for value in values]


def _train(folder: Path, groups: dict[str, Group], launcher: Launcher, how: How) -> None:
    from rltrain.cli.screen import GroupsBoard
    from rltrain.cli.signals import Interruption
    from rltrain.launch.group import train_groups

    parts, silent = list(groups.values()), how.quiet or how.as_json
    with Interruption() as interruption, GroupsBoard(list(groups), parts, quiet=silent) as board:
        runs = sum(len(group.seeds) for group in parts)
        board.say(f"sweep of {len(parts)} points, {runs} runs, {launcher.workers} workers; folder: {folder}")
        summaries = train_groups(parts, launcher, board, interruption)
    states = {summary["status"] for summary in summaries}
    status = next((state for state in ("interrupted", "failed") if state in states), "finished")
    told: dict[str, Any] = {"sweep": str(folder), "status": status}
    told["points"] = dict(zip(groups, summaries, strict=True))
    if status == "interrupted":
        board.say(f"go on with: {command('sweep', '--resume', folder)}")
    else:
        told["comparison"] = _compare(folder, groups, how.metric, board.say, shown=not silent)
    if how.as_json:
        print_json(told)
    if interruption():
        raise typer.Exit(interruption.exit_code)
    if status != "finished":
        raise typer.Exit(1)


def _compare(
    folder: Path, groups: dict[str, Group], metric: str, say: Callable[[str], None], *, shown: bool
) -> dict[str, Any] | None:
    """Compare the points that have runs."""
    from rltrain.cli.compare import show
    from rltrain.comparison.compare import compare
    from rltrain.records import Status, find_runs

    named = {}
    for name, group in groups.items():
        if any((run := group.run(seed)) is not None and run.status is Status.FINISHED for seed in group.seeds):
            named[name] = find_runs(group.folder)
    if len(named) < 2:
        say("nothing to compare: fewer than two points have finished runs")
        return None
    found = compare(named, metric=metric)
    if shown:
        show(found)
    say(f"next: rltrain compare {folder}/*")
    return found.to_dict()
