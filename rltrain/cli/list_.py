"""`rltrain list`: what there is to put into a configuration."""

from __future__ import annotations

import inspect
import re
import sys
import textwrap
from collections.abc import Iterator, Sequence
from itertools import takewhile
from pathlib import Path
from typing import Annotated

import typer

from rltrain.cli.common import Plugins, use_plugins

KINDS = ("agents", "explorations", "bonuses", "wrappers", "envs", "configs")


def list_(
    kind: Annotated[str | None, typer.Argument(metavar="[agents|explorations|bonuses|wrappers|envs|configs]")] = None,
    for_: Annotated[
        str | None, typer.Option("--for", metavar="NAME", help="Show which explorations, bonuses or agents go with it.")
    ] = None,
    plugin: Plugins = None,
) -> None:
    """List agents, explorations, bonuses, wrappers, environments or shipped configurations.

    `rltrain list explorations --for dqn` shows which explorations go with an agent, and why others do not; so do
    `list bonuses --for dqn` and `list agents --for thompson`.
    """
    from rltrain.core import ConfigError

    use_plugins(plugin)
    if kind is not None and kind not in KINDS:
        raise ConfigError(f"unknown '{kind}' (known: {', '.join(KINDS)})")
    if for_ is not None:
        _show_pairs(kind, for_)
        return
    for each in (kind,) if kind else KINDS[:4]:
        if kind is None:
            typer.secho(each, bold=True)
        rows = list(_rows(each))
        _print(rows)


def _print(rows: Sequence[tuple[str, str]]) -> None:
    """Names and texts, which are wrapped where a terminal is narrower."""
    from rltrain.cli.tables import terminal_width

    left = max((len(name) for name, _ in rows), default=0) + 4
    room = max((terminal_width() or sys.maxsize) - left, 40)
    for name, text in rows:
        for line, part in enumerate(textwrap.wrap(text, room) or [""]):
            typer.echo(f"  {'' if line else name:<{left - 2}}{part}".rstrip())


def _show_pairs(kind: str | None, name: str) -> None:
    from rltrain.core import ConfigError
    from rltrain.fitting import pairs

    if kind not in ("explorations", "bonuses", "agents"):
        raise ConfigError("--for goes with explorations, bonuses or agents: rltrain list explorations --for dqn")
    rows = pairs(kind, name)
    width = max((len(other) for other in rows), default=0)
    for other, reason in rows.items():
        typer.echo(f"  {other:<{width}}  {'yes' if reason is None else f'no   {reason}'}")


def _rows(kind: str) -> Iterator[tuple[str, str]]:
    if kind == "envs":
        from rltrain.envs.own import makeable

        for spec in makeable():
            yield spec.id, f"{spec.max_episode_steps:,} steps" if spec.max_episode_steps else "no step limit"
    elif kind == "configs":
        from rltrain.config.reader import shipped

        folder = shipped()
        within = folder.parent == Path.cwd()
        for path in sorted(folder.rglob("*.yaml")):
            yield str(path.relative_to(folder.parent) if within else path), _first_sentence(path.read_text())
    else:
        from rltrain.registry import find, names

        for name in names(kind):  # type: ignore[arg-type]
            doc = inspect.getdoc(find(kind, name)) or ""  # type: ignore[arg-type]
            yield name, doc.splitlines()[0] if doc else ""


def _first_sentence(text: str) -> str:
    """Of the comment at the head of a configuration, which may go over several lines."""
    comment = takewhile(lambda line: line.startswith("# "), text.splitlines()[1:])  # after the editors' line
    prose = " ".join(line[2:] for line in comment if not line.startswith("#  "))  # without commands
    return re.split(r"(?<=[.?])\s+(?=[A-Z`])", prose, maxsplit=1)[0]
