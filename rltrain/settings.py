"""The base of every settings class: typed, frozen, and strict about what a user wrote."""

from __future__ import annotations

import types
from collections.abc import Callable, Iterator
from copy import copy
from functools import cache
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, create_model, field_validator
from pydantic_core import PydanticCustomError

if TYPE_CHECKING:
    from rltrain.core import EnvSpec, Problem

HiddenSizes = tuple[Annotated[int, Field(ge=1)], ...]
"""Type of a setting: units of each hidden layer."""


NO_SOURCE = {"use_attribute_docstrings": False}
"""For types made of others, whose meanings they have: to look for their own source takes longer than the rest."""


class Settings(BaseModel):
    """Settings of one part. An unknown key, a wrong type or a number out of range is an error."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        allow_inf_nan=False,
        validate_default=True,
        use_attribute_docstrings=True,
        validate_by_name=True,
        validate_by_alias=True,
    )

    @field_validator("*", mode="before")
    @classmethod
    def _as_written(cls, value: Any, info: ValidationInfo) -> Any:
        """Pydantic would take true for 1, "3" for 3 and 1 for true; a configuration means what it says."""
        assert info.field_name is not None
        if value is None and get_origin(cls.model_fields[info.field_name].annotation) in (tuple, list):
            return value  # which is no list: what is in one does not matter
        _refuse(value, _scalars(cls, info.field_name))
        return value

    def changed(self, *names: str) -> Iterator[str]:
        """Those of these settings that have another value than their default: to refuse what would do nothing."""
        fields = type(self).model_fields
        return (name for name in names if getattr(self, name) != fields[name].default)

    def problems(self, config: Any, spec: EnvSpec) -> Iterator[Problem]:
        """What is wrong with these settings in the company of the whole configuration and the environment."""
        return iter(())

    def notes(self, spec: EnvSpec) -> Iterator[str]:
        """What a user should be told of these settings in this environment."""
        return iter(())


_S = TypeVar("_S", bound=Settings)


def defaults(**values: Any) -> Callable[[type[_S]], type[_S]]:
    """Class decorator: the same settings, with their types and bounds, beginning at other values."""

    def change(cls: type[_S]) -> type[_S]:
        fields: Any = {}
        for name, value in values.items():
            field = copy(cls.model_fields[name])
            field.default = value
            fields[name] = (field.annotation, field)
        return create_model(cls.__name__, __base__=cls, __doc__=cls.__doc__, __module__=cls.__module__, **fields)

    return change


@cache
def _scalars(cls: type[BaseModel], name: str) -> frozenset[Any]:
    found = frozenset(_leaves(cls.model_fields[name].annotation))
    return found if found & {bool, int, float, str, object} else frozenset({object})  # words alone check themselves


def _leaves(annotation: Any) -> Iterator[Any]:
    """The plain types in an annotation, and the words that it takes; `object` stands for a type that checks itself."""
    origin = get_origin(annotation)
    if annotation in (bool, int, float, str, type(None)):
        yield annotation
    elif origin is Annotated:
        yield from _leaves(get_args(annotation)[0])
    elif origin is Literal:
        yield from get_args(annotation)
    elif origin in (Union, types.UnionType, tuple, list):
        for part in get_args(annotation):
            if part is not Ellipsis:
                yield from _leaves(part)
    else:
        yield object


def _refuse(value: Any, allowed: frozenset[Any]) -> None:
    if isinstance(value, list | tuple):
        for item in value:
            _refuse(item, allowed)
        return
    numeric = bool(allowed & {int, float})
    wanted = "a whole number" if float not in allowed else "a number"
    if object in allowed:
        return
    if (isinstance(value, bool) and bool not in allowed) or (value is None and type(None) not in allowed):
        shown = "null" if value is None else str(value).lower()
        raise PydanticCustomError("as_written", f"expected {_wanted(allowed)}, got {shown}")
    if isinstance(value, str) and str not in allowed and value not in allowed:
        raise PydanticCustomError(
            "as_written", "expected {wanted}, got '{value}'", {"wanted": _wanted(allowed), "value": value}
        )
    if isinstance(value, int | float) and not isinstance(value, bool) and not numeric:
        raise PydanticCustomError("as_written", f"expected {_wanted(allowed)}, got {value}")
    if isinstance(value, float) and float not in allowed and not value.is_integer():
        raise PydanticCustomError("as_written", f"expected {wanted}, got {value}")


def _wanted(allowed: frozenset[Any]) -> str:
    words = {bool: "true or false", int: "a whole number", float: "a number", str: "text", type(None): "null"}
    kinds = [word for kind, word in words.items() if kind in allowed]
    if float in allowed and int in allowed:
        kinds.remove(words[int])
    kinds += sorted(f"'{word}'" for word in allowed if isinstance(word, str))
    return " or ".join(kinds)
