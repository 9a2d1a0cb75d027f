"""`rltrain train` on several seeds: begin a group, or do what is missing of one."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import typer

from rltrain.cli.common import counted, print_json
from rltrain.cli.engine import Engine

if TYPE_CHECKING:
    from rltrain.config.schema import Config
    from rltrain.launch.group import Group
    from rltrain.launch.job import Job, Launcher


class How(NamedTuple):
    """What a group is trained with and how it is shown; nothing of it changes a run."""

    engine: Engine
    workers: int | None
    plugins: Sequence[str]
    quiet: bool
    as_json: bool


def start(config: Config, name: str, run_dir: Path | None, how: How) -> None:
    """Make a folder for the group and train its seeds."""
    from rltrain.launch.group import Group
    from rltrain.rundir import create_run, lock_run

    seeds = config.group or []
    with _launcher(how, len(seeds)) as launcher:  # before there is a folder: a cluster may be refused
        folder = create_run(Path("runs"), name, None, exact=run_dir)
        with lock_run(folder):
            group = Group.write(folder, config, seeds)
            _train(group, group.jobs(), launcher, how)


def go_on(folder: Path, stored: Config, config: Config, how: How) -> None:
    """Train what is missing of a group that the caller has locked.

    Seeds that `config` has more than the group join it. Where something else has changed, such as a longer training,
    finished seeds go on too.
    """
    from rltrain.config.load import to_dict
    from rltrain.core import ConfigError
    from rltrain.launch.group import Group

    seeds = sorted({*(stored.group or []), *(config.group or [])})
    for seed in seeds:
        run = Group.of(folder, config, seeds).run(seed)
        if run is not None and run.standing.steps > config.train.total_steps:
            raise ConfigError(f"train.total_steps: seed {seed} is at step {run.standing.steps:,} already")
    with _launcher(how, len(seeds)) as launcher:
        group = Group.write(folder, config, seeds)
        changed = to_dict(config.single(0)) != to_dict(stored.single(0))
        _train(group, group.jobs(all_seeds=changed), launcher, how)


def _launcher(how: How, jobs: int) -> AbstractContextManager[Launcher]:
    """What trains so many seeds, of which each takes one worker."""
    from rltrain.sittings import usable_cores

    here = how.engine.address is None  # a cluster tells how many it has
    workers = how.workers or (usable_cores() if here else None)
    return how.engine.launcher(workers and min(workers, max(jobs, 1)), how.plugins)


def _train(group: Group, jobs: list[Job], launcher: Launcher, how: How) -> None:
    from rltrain.cli.board import Board
    from rltrain.cli.signals import Interruption

    workers = min(launcher.workers, max(len(jobs), 1))
    config, todo = group.config, [job.config.seed for job in jobs]
    with Interruption() as interruption, Board(group, todo, quiet=how.quiet or how.as_json) as board:
        name = config.agent.name  # type: ignore[attr-defined]
        done = "" if len(jobs) == len(group.seeds) else f" ({len(group.seeds) - len(jobs)} of them done)"
        board.say(f"{name} on {config.env.id}, {config.train.total_steps:,} steps, seeds {config.seeds}{done}")
        board.say(f"group folder: {group.folder}, {counted(workers, 'worker')}")
        summary = group.train(jobs, launcher, board, interruption)
    board.conclude(summary)
    if how.quiet or how.as_json:
        for row in summary["seeds"]:
            if row["status"] == "failed":
                typer.echo(f"error: seed {row['seed']} failed: {row.get('reason')}", err=True)
    if how.as_json:
        print_json(summary)
    if interruption():
        raise typer.Exit(interruption.exit_code)
    if summary["status"] != "finished":
        raise typer.Exit(1)
