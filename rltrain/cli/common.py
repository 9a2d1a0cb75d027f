"""What several verbs share: loading a configuration, and the option for a user's own code."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rltrain.config.schema import Config

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
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else on stdout.")]


def use_plugins(plugins: Sequence[str] | None) -> None:
    """Import the user's modules, which may lie in the current folder, and the installed ones."""
    from rltrain.core import ConfigError
    from rltrain.registry import load_plugins

    if plugins:
        sys.path.insert(0, str(Path.cwd()))
    try:
        load_plugins(list(plugins or []))
    except ImportError as error:
        raise ConfigError(f"--plugin: {error}") from error


def load_config(path: Path, overrides: Sequence[str]) -> Config:
    """Load a configuration and check it against the real environment. Raises ConfigError."""
    from rltrain.config.load import load
    from rltrain.core import ConfigError
    from rltrain.fitting import problems

    loaded = load(path, overrides)
    if found := problems(loaded.config):
        raise ConfigError(*loaded.explain(found))
    return loaded.config
