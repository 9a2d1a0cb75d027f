"""From a name in YAML to the class behind it: the name of a component is the name of its file.

There is no central list. `find("agents", "dqn")` imports `rltrain/agents/dqn.py` and returns the one
class in it that has settings (a class attribute `Config`). A user's own components are added by
`@register("agents")` in a module that is named with `--plugin` or by an installed entry point of
the group `rltrain.plugins`.
"""

from __future__ import annotations

import difflib
import importlib
import inspect
import pkgutil
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path
from traceback import extract_tb
from typing import Any, Literal, TypeVar, get_args

from pydantic import create_model

from rltrain.core import RltrainError, first_line
from rltrain.settings import NO_SOURCE, Settings

Kind = Literal["agents", "explorations", "bonuses", "wrappers"]
KINDS: tuple[Kind, ...] = get_args(Kind)
PACKAGES: dict[str, str] = {
    "agents": "rltrain.agents",
    "explorations": "rltrain.exploration",
    "bonuses": "rltrain.bonuses",
    "wrappers": "rltrain.envs.wrappers",
}
_C = TypeVar("_C", bound=type)
_registered: dict[tuple[str, str], type] = {}


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """A hint at the one of `known` that was meant, or nothing: for slips, half a name, other case, - for _."""
    written = {_plain(name): name for name in known}
    near = difflib.get_close_matches(_plain(word), written, n=1, cutoff=0.65)  # two letters of three are 0.67
    return f", did you mean '{written[near[0]]}'?" if near else ""


def _plain(name: str) -> str:
    return name.lower().replace("-", "_")


class UnknownComponent(LookupError):
    """There is no component of that name; the message names the nearest."""

    def __init__(self, name: str, known: Sequence[str], hint: str = "") -> None:
        hint = did_you_mean(name, known) or hint
        super().__init__(f"unknown '{name}'{hint} (known: {', '.join(known) or 'none'})")


class NameTaken(RltrainError):
    """A component of the user's own has the name of one of rltrain's."""

    exit_code = 2


class BrokenPlugin(RltrainError):
    """A module of the user's own cannot be imported."""

    exit_code = 2


def register(kind: Kind, name: str | None = None) -> Callable[[_C], _C]:
    """Class decorator: make a class of the user's own available in YAML as `name`.

    Without `name` the class name in snake_case is taken (`MyAgent` -> `my_agent`).
    Raises NameTaken when rltrain has a component of that name, ValueError for another kind, and TypeError for a class
    without settings: in a plugin both are told with the line.
    """
    if kind not in KINDS:
        raise ValueError(f"there is no kind '{kind}' of component{did_you_mean(kind, KINDS)} ({', '.join(KINDS)})")

    def add(cls: _C) -> _C:
        key = name or re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", cls.__name__).lower()
        if key in _shipped(kind):
            raise NameTaken(f"rltrain has {kind} of the name '{key}' itself: choose another name")
        config = getattr(cls, "Config", None)
        if not (inspect.isclass(config) and issubclass(config, Settings)):
            raise TypeError(f"{cls.__name__} has no settings: give it a class Config(Settings), empty if it needs none")
        _registered[kind, key] = cls
        return cls

    return add


@cache
def _shipped(kind: str) -> tuple[str, ...]:
    path = importlib.import_module(PACKAGES[kind]).__path__
    return tuple(sorted(module.name for module in pkgutil.iter_modules(path)))


def names(kind: Kind) -> list[str]:
    """All names of this kind, shipped and registered, sorted."""
    return sorted({*_shipped(kind), *(name for k, name in _registered if k == kind)})


def find(kind: Kind, name: str) -> Any:
    """Return the class of component `name`. Raises UnknownComponent, naming the nearest."""
    if (kind, name) in _registered:
        return _registered[kind, name]
    if name not in _shipped(kind):
        raise UnknownComponent(name, names(kind), "; if it is your own, name its module with --plugin")
    module = importlib.import_module(f"{PACKAGES[kind]}.{name}")
    (component,) = (
        value
        for value in vars(module).values()
        if inspect.isclass(value) and value.__module__ == module.__name__ and hasattr(value, "Config")
    )
    return component


class _Named(Settings):
    """Puts the name before all other settings."""

    name: str


@cache
def _settings(component: type, name: str) -> type[Settings]:
    base: type[Settings] = component.Config  # type: ignore[attr-defined]
    fields: Any = {"name": (Literal[name], ...)}
    model: type[Settings] = create_model(
        f"{component.__name__}Config", __base__=(_Named, base), __doc__=base.__doc__, __cls_kwargs__=NO_SOURCE, **fields
    )
    return model


def settings_class(kind: Kind, name: str) -> type[Settings]:
    """The settings of component `name`, with its `name` field. Raises UnknownComponent."""
    return _settings(find(kind, name), name)


plugins: list[str] = []
"""The user's own modules that this process has imported, for those that shall have them too."""


def load_plugins(modules: list[str]) -> None:
    """Import the user's own modules, then those that installed packages name as entry points.

    Raises BrokenPlugin where one cannot be imported.
    """
    for module in modules:
        with _told_as(f"--plugin {module}"):
            importlib.import_module(module)
    plugins.extend(module for module in modules if module not in plugins)
    for entry_point in entry_points(group="rltrain.plugins"):
        with _told_as(f"installed plugin {entry_point.value}"):
            entry_point.load()


@contextmanager
def _told_as(plugin: str) -> Iterator[None]:
    """Raises BrokenPlugin, which tells the plugin and the place, for whatever a module raises while it is imported."""
    try:
        yield
    except RltrainError:
        raise
    except (Exception, SystemExit) as error:
        place, kind, said = _place(error), type(error).__name__, first_line(error)
        if isinstance(error, SyntaxError):
            place, said = f"{error.filename}:{error.lineno}: ", error.msg
        raise BrokenPlugin(f"{plugin}: {place}{kind if said == kind else f'{kind}: {said}'}") from error


def _place(error: BaseException) -> str:
    """The last line that ran of the plugin, and of what lies beside it; empty where nothing ran."""
    machinery = ("<frozen", __file__, str(Path(importlib.__file__).parent))
    frames = [frame for frame in extract_tb(error.__traceback__) if not frame.filename.startswith(machinery)]
    beside = [frame for frame in frames if Path(frame.filename).is_relative_to(Path(frames[0].filename).parent)]
    return f"{beside[-1].filename}:{beside[-1].lineno}: " if beside else ""
