"""The JSON Schema of a configuration, with every component that can be named in it."""

from __future__ import annotations

from typing import Any

from pydantic.json_schema import models_json_schema

from rltrain.config.schema import Config, EnvSettings
from rltrain.registry import KINDS, Kind, names, settings_class
from rltrain.settings import Settings

_PLACES: tuple[tuple[str, str, Kind, bool], ...] = (
    ("Config", "agent", "agents", False),
    ("Config", "exploration", "explorations", False),
    ("Config", "bonuses", "bonuses", True),
    ("EnvSettings", "wrappers", "wrappers", True),
)
"""Model, field, kind of component, and whether it holds several."""


def json_schema() -> dict[str, Any]:
    """One schema for a whole file, for editors; `rltrain check` knows more than it can say."""
    components = {kind: [settings_class(kind, name) for name in names(kind)] for kind in KINDS}
    models: list[type[Settings]] = [Config, EnvSettings, *(model for group in components.values() for model in group)]
    references, document = models_json_schema(
        [(model, "validation") for model in models], ref_template="#/$defs/{model}"
    )
    definitions: dict[str, Any] = document["$defs"]
    for owner, field, kind, several in _PLACES:
        options = [references[model, "validation"] for model in components[kind]]
        choice: dict[str, Any] = {"oneOf": options}
        if field == "exploration":
            choice = {"oneOf": [*options, {"type": "null"}]}
        place = definitions[owner]["properties"][field]
        text = {"description": place["description"]} if "description" in place else {}
        definitions[owner]["properties"][field] = text | ({"type": "array", "items": choice} if several else choice)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "rltrain configuration",
        "$ref": "#/$defs/Config",
        "$defs": definitions,
    }
