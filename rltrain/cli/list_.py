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
    plugin: Plugins = None,
) -> None:
    """List agents, explorations, bonuses, wrappers, environments or shipped configurations."""
    from rltrain.core import ConfigError

    use_plugins(plugin)
    if kind is not None and kind not in KINDS:
        raise ConfigError(f"unknown '{kind}' (known: {', '.join(KINDS)})")
    for each in (kind,) if kind else KINDS[:4]:
        if kind is None:
            typer.secho(each, bold=True)
        rows = list(_rows(each))
        width = max((len(name) for name, _ in rows), default=0)
        for name, text in rows:
            typer.echo(f"  {name:<{width}}  {text}".rstrip())


def _rows(kind: str) -> Iterator[tuple[str, str]]:
    if kind == "envs":
        import gymnasium as gym

        for name, spec in sorted(gym.registry.items()):
            if "/" not in name or not name.startswith(("phys2d/", "tabular/")):
                limit = f"{spec.max_episode_steps:,} steps" if spec.max_episode_steps else "no step limit"
                yield name, limit
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
