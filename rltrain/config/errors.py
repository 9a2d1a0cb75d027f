"""Pydantic's findings in the words of the user's file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, get_args

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from rltrain.config.reader import Path
from rltrain.registry import Kind, did_you_mean, find, names


def explain_error(model: type[BaseModel], data: Any, detail: Mapping[str, Any]) -> tuple[Path, str]:
    """The path of an error in the file, and what to tell the user about it."""
    path, missing = _path(data, detail["loc"])
    kind, context, value = detail["type"], detail.get("ctx", {}), detail.get("input")
    name = dotted(path)
    if kind == "extra_forbidden":
        known = _keys(model, path[:-1], data)
        hint = did_you_mean(str(path[-1]), known) or _owners(data, path) or f" (known: {', '.join(sorted(known))})"
        return path, f"{name}: unknown key{hint}"
    if kind == "missing":
        key = missing or str(detail["loc"][-1])
        return path, f"{dotted((*path, key))}: missing"
    if kind == "union_tag_invalid":
        hint = did_you_mean(str(context["tag"]), context["expected_tags"].replace("'", "").split(", "))
        return path, f"{name}: unknown schedule '{context['tag']}'{hint} (known: {context['expected_tags']})"
    hint = ""
    if kind == "model_type":
        hint = _switch_hint(dict(_fields(model, path[:-1], data)).get(str(path[-1])), value, name)
    return path, f"{name}: {_sentence(kind, context, value, str(detail['msg']))}{hint}"


_BOUNDS = {
    "greater_than": ("gt", "more than"),
    "greater_than_equal": ("ge", "at least"),
    "less_than": ("lt", "less than"),
    "less_than_equal": ("le", "at most"),
}
_ON = ("true", "on", "yes")
_OFF = ("false", "off", "no", "none")


def _sentence(kind: str, context: Mapping[str, Any], value: Any, message: str) -> str:
    if kind in _BOUNDS:
        key, words = _BOUNDS[kind]
        bound = context[key]
        return f"must be {words} {f'{bound:,}' if isinstance(bound, int) else f'{bound:g}'}, got {_shown(value)}"
    if kind == "value_error":
        return str(context.get("error", message))
    if kind == "as_written":
        return message
    if kind == "literal_error":
        hint = did_you_mean(str(value), context["expected"].replace("'", "").replace(" or ", ", ").split(", "))
        return f"expected {context['expected']}, got {_shown(value)}{hint}"
    if kind == "finite_number":
        return f"expected a finite number, got {_shown(value)}"
    if kind in ("too_long", "too_short"):
        key, words = ("max_length", "at most") if kind == "too_long" else ("min_length", "at least")
        return f"expected a list of {words} {context[key]}, got {_shown(value)}"
    expected = {
        "int": "a whole number",
        "float": "a number",
        "bool": "true or false",
        "string": "text",
        "tuple": "a list",
        "list": "a list",
        "dict": "a block of key: value",
        "model": "a block of key: value",
        "schedule": "a number or a schedule, such as {schedule: linear, start: 1.0, end: 0.05, steps: 10_000}",
    }
    for start, word in expected.items():
        if kind.startswith(start):
            return f"expected {word}, got {_shown(value)}"
    return f"{message[:1].lower()}{message[1:]}"


def _shown(value: Any) -> str:
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "null"}[value]
    if isinstance(value, dict):
        return "a block"
    if isinstance(value, list | tuple):
        return f"a list of {len(value)}"
    return f"'{value}'" if isinstance(value, str) else f"{value}"


def _switch_hint(field: FieldInfo | None, value: Any, name: str) -> str:
    """What was meant by on or off in the place of a block."""
    block = None if field is None else next(_models(field.annotation), None)
    if field is None or block is None:
        return ""
    word = str(value).lower()
    if word in _ON and not any(inner.is_required() for inner in block.model_fields.values()):
        return ": {} takes the default settings"
    if word in _OFF and type(None) in get_args(field.annotation):
        return ": null is without"
    if word in _OFF and "every" in block.model_fields:
        return f": there is always one at the end, and with {name}.every: null no other"
    return ""


def _path(data: Any, loc: tuple[str | int, ...]) -> tuple[Path, str | None]:
    """The part of `loc` that stands in the data: union tags in between do not."""
    path: Path = ()
    for step in loc:
        inside = isinstance(data, dict) and step in data
        if inside or (isinstance(data, list | tuple) and isinstance(step, int) and step < len(data)):
            data = data[step]
            path = (*path, step)
    last = loc[-1] if loc else None
    return path, last if isinstance(last, str) and (not path or path[-1] != last) else None


_KINDS: dict[Path, Kind] = {("agent",): "agents", ("exploration",): "explorations"}


def _owners(data: Any, path: Path) -> str:
    """The other components of the kind that have the setting."""
    if (kind := _KINDS.get(path[:-1])) is None:
        return ""
    own = data[path[0]].get("name")
    owners = [name for name in names(kind) if path[-1] in find(kind, name).Config.model_fields]
    return f" of {own}; {', '.join(owners)} {'has' if len(owners) == 1 else 'have'} it" if owners else ""


def _keys(model: Any, path: Path, data: Any) -> list[str]:
    """The keys that the block at `path` may have."""
    return [key for key, _ in _fields(model, path, data)]


def _fields(model: Any, path: Path, data: Any) -> list[tuple[str, FieldInfo]]:
    """The settings that the block at `path` may have, by key."""
    candidates: list[Any] = [model]
    for step in path:
        data = data[step]
        if isinstance(step, int):  # the types of a list stand in its order
            candidates = candidates[step : step + 1]
        else:
            below = [kind for candidate in candidates for kind in _below(candidate, step)]
            candidates = below or candidates  # a key of the user's own leads to the type that stands for all of them
    return [
        (field.alias or name, field)
        for kind in candidates
        if _matches(kind, data)
        for name, field in kind.model_fields.items()
    ]


def _matches(kind: Any, data: Any) -> bool:
    """Among several schedules, the one whose name the block gives."""
    tag = kind.model_fields.get("schedule")
    return tag is None or not isinstance(data, dict) or data.get("schedule") in get_args(tag.annotation)


def _below(kind: Any, step: str) -> Iterator[Any]:
    for name, field in kind.model_fields.items():
        if step in (name, field.alias):
            yield from _models(field.annotation)


def _models(annotation: Any) -> Iterator[Any]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in get_args(annotation):
        yield from _models(part)


def dotted(path: Path) -> str:
    """("bonuses", 0, "scale") -> `bonuses[0].scale`."""
    text = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path)
    return text.removeprefix(".")
