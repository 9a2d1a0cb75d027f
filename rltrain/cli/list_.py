"""`rltrain list`: what there is to put into a configuration."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
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
        width = max((len(name) for name, _ in rows), default=0)
        for name, text in rows:
            typer.echo(f"  {name:<{width}}  {text}".rstrip())


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
        for path in _configs():
            first = next((line[1:].strip() for line in path.read_text().splitlines() if _prose(line)), "")
            yield str(path), first
    else:
        from rltrain.registry import find, names

        for name in names(kind):  # type: ignore[arg-type]
            doc = inspect.getdoc(find(kind, name)) or ""  # type: ignore[arg-type]
            yield name, doc.splitlines()[0] if doc else ""


def _prose(line: str) -> bool:
    return line.startswith("#") and "yaml-language-server" not in line and len(line) > 2


def _configs() -> list[Path]:
    """The configurations of the checkout, or else those that were installed."""
    here = Path("configs")
    folder = here if here.is_dir() else Path(__file__).parent.parent / "configs"
    return sorted(folder.rglob("*.yaml"))
