"""What several verbs share: loading a configuration, and the option for a user's own code."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TextIO

import typer

if TYPE_CHECKING:
    from rltrain.config.schema import Config
    from rltrain.core import Problem

Plugins = Annotated[
    list[str] | None,
    typer.Option("--plugin", metavar="MODULE", help="Import a module of yours that adds environments or components."),
]
Runs = Annotated[
    list[Path],
    typer.Argument(metavar="RUN|GROUP...", help="Each is one method: a run, a group, or a folder with runs."),
]
Storage = Annotated[
    str | None,
    typer.Option(
        metavar="URL",
        envvar="RLTRAIN_STORAGE",
        help="Of studies: a journal file, sqlite:///FILE or postgresql+psycopg://...; else a journal beside them.",
    ),
]


_stdout: list[TextIO] = []
"""Where the JSON object goes that a command was asked for."""


def _object_alone(context: typer.Context, wanted: bool) -> bool:
    """What an environment of the user's prints meanwhile goes to standard error."""
    if wanted:
        _stdout[:] = [sys.stdout]
        context.call_on_close(_stdout.clear)
        context.with_resource(redirect_stdout(sys.stderr))
    return wanted


def print_json(found: Any, indent: int | None = None) -> None:
    """Print what `--json` asks for."""
    typer.echo(json.dumps(found, indent=indent), file=_stdout[0] if _stdout else None)


AsJson = Annotated[
    bool,
    typer.Option("--json", help="Print one JSON object and nothing else on stdout.", callback=_object_alone),
]

_plugins: list[str] = []
"""Modules that this command was given."""


def counted(number: int, what: str) -> str:
    """`1 episode`, `2 episodes`."""
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def is_config(word: str) -> bool:
    """Whether an argument names a file, and is not key=value; folders of a sweep have both in their names."""
    return "=" not in word or Path(word).is_file()


def refuse_no_seeds(seeds: str | None) -> None:
    """Raises ConfigError for seeds that are none, as of a variable of the shell that is not set."""
    from rltrain.core import ConfigError

    if seeds is not None and not seeds.strip():
        raise ConfigError("--seeds: nothing is given; expected 0-9, or 0-4,7, or how many")


def use_plugins(plugins: Sequence[str] | None) -> None:
    """Import the user's modules, which may lie in the current folder, and the installed ones."""
    from rltrain.core import ConfigError
    from rltrain.registry import load_plugins

    if plugins:
        sys.path.insert(0, str(Path.cwd()))
    if bad := [name for name in plugins or [] if not all(part.isidentifier() for part in name.split("."))]:
        raise ConfigError(f"--plugin '{bad[0]}': expected the name of a module, such as mine or pkg.mine")
    load_plugins(list(plugins or []))
    _plugins[:] = plugins or []


def command(*words: object) -> str:
    """A command for the shell that goes on from this one, with the user's modules that this one needed."""
    modules = [word for name in _plugins for word in ("--plugin", name)]
    return shlex.join(["rltrain", *map(str, words), *modules])


def load_config(path: Path, overrides: Sequence[str], *, elsewhere: bool = False) -> Config:
    """Load a configuration and check it against the real environment. Raises ConfigError.

    What trains `elsewhere` may have a GPU there.
    """
    from rltrain.config.load import load
    from rltrain.core import ConfigError

    loaded = load(path, overrides)
    if found := unfit(loaded.config, elsewhere=elsewhere):
        raise ConfigError(*loaded.explain(found))
    return loaded.config


def unfit(config: Config, *, elsewhere: bool) -> list[Problem]:
    """What does not fit the environment, or this machine; a GPU may be `elsewhere`."""
    from rltrain.core import Problem
    from rltrain.fitting import problems
    from rltrain.nn.arrays import NO_GPU, has_gpu

    missing = config.device == "cuda" and not elsewhere and not has_gpu()
    return [*([Problem("device", NO_GPU)] if missing else []), *problems(config)]
