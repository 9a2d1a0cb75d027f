"""From a YAML file and overrides to a typed configuration, or to every mistake at once with its place."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cache, lru_cache
from itertools import pairwise
from pathlib import Path as FilePath
from typing import Any

import yaml
from pydantic import ValidationError, create_model

from rltrain.config.errors import dotted, explain_error
from rltrain.config.reader import Path, read, read_file, read_value
from rltrain.config.schema import Config, EnvSettings
from rltrain.core import ConfigError, Problem
from rltrain.registry import Kind, UnknownComponent, settings_class
from rltrain.settings import NO_SOURCE, Settings

_PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_./-]*")
_STEP = re.compile(r"([^.\[\]]+)|\[(\d+)\]")


@dataclass(frozen=True)
class Loaded:
    """A configuration, and where each of its settings was written."""

    config: Config
    source: str
    lines: dict[Path, int] = field(default_factory=dict)
    overrides: dict[Path, str] = field(default_factory=dict)
    """Path -> the words on the command line that set it."""

    def explain(self, problems: Iterable[Problem]) -> list[str]:
        """Problems as lines to print, in the order of the file."""
        placed = [(parse_path(problem.path), problem) for problem in problems]
        ordered = sorted(placed, key=lambda pair: _line(self.lines, pair[0]))
        return [f"{self.where(path)}: {problem.path}: {problem.message}" for path, problem in ordered]

    def where(self, path: Path) -> str:
        """`file:line` of a setting, or the override that set it."""
        return _where(self.source, self.lines, self.overrides, path)


def load(path: FilePath, overrides: Sequence[str] = ()) -> Loaded:
    """Load a configuration file. Raises ConfigError with every mistake."""
    return parse(read_file(path), source=str(path), overrides=overrides)


def parse(text: str, *, source: str, overrides: Sequence[str] = ()) -> Loaded:
    """Load a configuration from YAML text."""
    document = read(text, source)
    return _load(document.data, source, document.lines, overrides)


def from_dict(data: dict[str, Any], *, source: str = "config", overrides: Sequence[str] = ()) -> Loaded:
    """Load a configuration from what `to_dict` returned."""
    return _load(data, source, {}, overrides)


def to_dict(config: Config) -> dict[str, Any]:
    """Every setting of a run, defaults included, as plain data; `seeds` only where there are several."""
    data: dict[str, Any] = config.model_dump(mode="json", by_alias=True, serialize_as_any=True, exclude={"tune"})
    if config.group is None:
        del data["seeds"]
    return data


class _Dumper(yaml.SafeDumper):
    """Writes every scalar as the reader reads it: text in quotes wherever it could be anything else."""

    yaml_implicit_resolvers: dict[Any, Any] = {}


def _represent(dumper: yaml.SafeDumper, value: Any) -> yaml.ScalarNode:
    text = value if isinstance(value, str) else json.dumps(value)
    plain = not isinstance(value, str) or _reads_back(value)
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=None if plain else '"')


@lru_cache(maxsize=1_000)
def _reads_back(text: str) -> bool:
    """Whether text needs no quotes."""
    try:
        return bool(_PLAIN.fullmatch(text)) and read_value(text, "") == text
    except ConfigError:
        return False


for _type in (str, int, float, bool, type(None)):
    _Dumper.add_representer(_type, _represent)


def dump(config: Config, header: str = "") -> str:
    """The configuration as YAML that loads back equal."""
    return dump_data(to_dict(config), header)


def dump_data(data: dict[str, Any], header: str = "") -> str:
    """Plain data as YAML that reads back equal."""
    return header + str(yaml.dump(data, Dumper=_Dumper, sort_keys=False, width=100))


def flow(value: Any) -> str:
    """A value as one line of YAML, as one writes it after a key."""
    return str(yaml.dump(value, Dumper=_Dumper, default_flow_style=True, width=1_000)).removesuffix("...\n").rstrip()


def parse_path(text: str) -> Path:
    """`bonuses[0].scale` -> ("bonuses", 0, "scale")."""
    return tuple(word or int(index) for word, index in _STEP.findall(text))


def _load(data: dict[str, Any], source: str, lines: dict[Path, int], overrides: Sequence[str]) -> Loaded:
    data = json.loads(json.dumps(data))  # a copy, for overrides to change
    origins: dict[Path, str] = {}
    errors: list[tuple[Path, str]] = []
    for text in overrides:
        _override(data, text, origins)
    model = _model(data, errors)
    config = None
    try:
        config = model.model_validate(data)
    except ValidationError as error:
        seen = {path for path, _ in errors}
        for detail in error.errors():
            path, message = explain_error(model, data, detail)
            if path not in seen:
                errors.append((path, message))
    if errors or config is None:
        errors.sort(key=lambda pair: _line(lines, pair[0]))
        raise ConfigError(*(f"{_where(source, lines, origins, path)}: {message}" for path, message in errors))
    return Loaded(config, source, lines, origins)


def _override(data: dict[str, Any], text: str, origins: dict[Path, str]) -> None:
    key, equals, value = text.partition("=")
    path = parse_path(key)
    if not equals or not path or dotted(path) != key:
        example = "agent.learning_rate=3e-4 or bonuses[0].scale=0.1"
        raise ConfigError(f"{text} (command line): expected key=value, for example {example}")
    at: Any = data
    for here, step in pairwise(path):
        if isinstance(at, dict) and isinstance(here, str):
            if at.get(here) is None:
                at[here] = [] if isinstance(step, int) else {}
            at = at[here]
        elif isinstance(at, list) and isinstance(here, int) and here < len(at):
            at = at[here]
        else:
            raise ConfigError(f"{text} (command line): there is no '{here}' to go into")
    last = path[-1]
    parsed = read_value(value, f"{text} (command line)")
    fits = isinstance(at, dict) and isinstance(last, str)
    if not fits and not (isinstance(at, list) and isinstance(last, int) and last < len(at)):
        raise ConfigError(f"{text} (command line): there is no '{last}' to set")
    at[last] = parsed
    for replaced in [origin for origin in origins if origin[: len(path)] == path]:
        del origins[replaced]
    origins[path] = text


def _model(data: dict[str, Any], errors: list[tuple[Path, str]]) -> type[Config]:
    """The configuration's type once its components are known by name."""

    def component(kind: Kind, block: Any, path: Path) -> Any:
        if block is None and kind == "explorations":
            return None
        if not isinstance(block, dict):
            errors.append((path, f"{dotted(path)}: expected a block with a 'name', got {block!r}"))
            return Any
        name = block.get("name")
        if not isinstance(name, str):
            errors.append((path, f"{dotted(path)}: needs a 'name'"))
            return Any
        try:
            return settings_class(kind, name)
        except UnknownComponent as error:
            errors.append(((*path, "name"), f"{dotted((*path, 'name'))}: {error}"))
            return Any

    def several(kind: Kind, blocks: Any, path: Path) -> Any:
        if not isinstance(blocks, list):
            return tuple[Settings, ...]
        types = tuple(component(kind, block, (*path, index)) for index, block in enumerate(blocks))
        return tuple[types] if types else tuple[()]  # type: ignore[valid-type]

    parts: dict[str, Any] = {}
    if "agent" in data:
        parts["agent"] = component("agents", data["agent"], ("agent",))
    if data.get("exploration") is not None:
        parts["exploration"] = component("explorations", data["exploration"], ("exploration",))
    if "bonuses" in data:
        parts["bonuses"] = several("bonuses", data["bonuses"], ("bonuses",))
    env = data.get("env")
    if isinstance(env, dict) and "wrappers" in env:
        parts["wrappers"] = several("wrappers", env["wrappers"], ("env", "wrappers"))
    return _typed(tuple(parts.items()))


@cache
def _typed(parts: tuple[tuple[str, Any], ...]) -> type[Config]:
    """The type of configurations whose components have these settings; kept, for making it takes some 20 ms."""
    fields: dict[str, Any] = {name: (kind, ...) for name, kind in parts if name != "wrappers"}
    for name, kind in parts:
        if name == "wrappers":
            fields["env"] = (
                create_model("EnvSettings", __base__=EnvSettings, __cls_kwargs__=NO_SOURCE, wrappers=(kind, ...)),
                ...,
            )
    model: type[Config] = create_model("Config", __base__=Config, __cls_kwargs__=NO_SOURCE, **fields)
    return model


def _line(lines: dict[Path, int], path: Path) -> int:
    """Line of the setting, or of the nearest block around it that was written."""
    while path and path not in lines:
        path = path[:-1]
    return lines.get(path, 1)


def _where(source: str, lines: dict[Path, int], overrides: dict[Path, str], path: Path) -> str:
    around = (origin for origin in overrides if path[: len(origin)] == origin)
    within = (origin for origin in overrides if origin[: len(path)] == path and path not in lines)
    origin = max(around, key=len, default=next(within, None))
    if origin is not None:
        return f"{overrides[origin]} (command line)"
    return f"{source}:{_line(lines, path)}" if lines else source
