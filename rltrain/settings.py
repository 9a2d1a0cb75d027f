"""The base of every settings class: typed, frozen, and strict about what a user wrote."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Settings(BaseModel):
    """Settings of one part. An unknown key, a wrong type or a number out of range is an error.

    A component's settings class may define `problems(self, config, spec)`, yielding a `core.Problem`
    for everything that is wrong with it in the company of the whole configuration and the environment.
    """

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        allow_inf_nan=False,
        validate_default=True,
        use_attribute_docstrings=True,
    )
