"""What can be set, in words: every setting of a block or a component, what it takes, its default and its meaning."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator
from typing import Any, NamedTuple, get_args

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from rltrain.config.load import flow
from rltrain.config.schema import Config
from rltrain.registry import KINDS, UnknownComponent, find, names, settings_class
from rltrain.settings import Settings

_WORDS = {
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
    "string": "text",
    "null": "null",
    "object": "a block",
}
_BOUNDS = {"minimum": "at least", "exclusiveMinimum": "above", "maximum": "at most", "exclusiveMaximum": "below"}


class Setting(NamedTuple):
    """One setting as a user writes it."""

    path: str
    """Within its block, with dots."""
    takes: str
    default: str
    """As YAML has it; empty where there is none, so that it has to be written."""
    meaning: str


class Part(NamedTuple):
    """A block of a configuration or a component that can be named in one."""

    name: str
    kind: str
    about: str
    settings: list[Setting]


def parts() -> list[str]:
    """Everything that `part` knows: the blocks of a file, then the components by kind."""
    return [*_blocks(), *(name for kind in KINDS for name in names(kind))]


def part(name: str) -> Part:
    """A block or component, explained. Raises UnknownComponent, naming the nearest."""
    if name in (blocks := _blocks()):
        model = blocks[name]
        found = [setting for setting in _settings(model) if model is not Config or "." not in setting.path]
        return Part(name, "block", inspect.getdoc(model) or "", found)
    for kind in KINDS:
        if name in names(kind):
            component = find(kind, name)
            about = inspect.getdoc(component) or ""
            module = inspect.getdoc(sys.modules[component.__module__]) or ""
            return Part(name, kind, max(module, about, key=len), list(_settings(settings_class(kind, name))))
    raise UnknownComponent(name, parts())


def _blocks() -> dict[str, type[BaseModel]]:
    models = {name: _model(field) for name, field in Config.model_fields.items()}
    return {"file": Config} | {name: model for name, model in models.items() if model not in (None, Settings)}


def _model(field: FieldInfo) -> type[BaseModel] | None:
    """The block that a setting is, where it is one of its own."""
    options = [field.annotation, *get_args(field.annotation)]
    found = [each for each in options if inspect.isclass(each) and issubclass(each, BaseModel)]
    return found[0] if len(found) == 1 else None


def _settings(model: type[BaseModel], prefix: str = "") -> Iterator[Setting]:
    properties = model.model_json_schema()["properties"]
    for field_name, field in model.model_fields.items():
        name = field.alias or field_name
        if name == "name":
            continue
        schema, below = properties[name], _model(field)
        default = "" if field.is_required() else flow(short(schema["default"]))
        meaning = schema.get("description") or inspect.getdoc(below) or ""
        yield Setting(f"{prefix}{name}", _takes(schema), default, meaning)
        if below not in (None, Settings):
            yield from _settings(below, f"{prefix}{name}.")


def short(value: Any) -> Any:
    """A schedule that does not change is written as a number."""
    constant = isinstance(value, dict) and value.keys() == {"schedule", "value"}
    return value["value"] if constant else value


def _takes(schema: dict[str, Any]) -> str:
    """What a JSON Schema accepts, in words."""
    if "enum" in schema:
        return " | ".join(map(str, schema["enum"]))
    if "anyOf" in schema:
        return " or ".join(dict.fromkeys(_takes(option) for option in schema["anyOf"]))
    if schema.get("type") == "array":
        if not (items := schema.get("items", {})):
            return "a list"
        kind, *bounds = _takes(items).split(", ")
        return ", ".join([f"a list of {kind.removeprefix('a ')}s", *(f"each {bound}" for bound in bounds)])
    if "$ref" in schema:
        return "a block"
    if "type" not in schema:
        return "a number or a schedule"
    return ", ".join([_WORDS[schema["type"]], *_bounds(schema)])


def _bounds(schema: dict[str, Any]) -> list[str]:
    if "minimum" in schema and "maximum" in schema:
        return [f"{schema['minimum']:,} to {schema['maximum']:,}"]
    return [f"{words} {schema[key]:,}" for key, words in _BOUNDS.items() if key in schema]
