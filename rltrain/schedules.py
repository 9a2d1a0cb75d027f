"""Numbers that change while training: pure functions of the environment step.

In YAML a schedule is a plain number, or a block such as
`{schedule: linear, start: 1.0, end: 0.05, steps: 10_000}`.
"""

from __future__ import annotations

import math
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, BeforeValidator, Discriminator, Field, Tag, model_validator
from pydantic_core import PydanticCustomError

from rltrain.compilable import compilable
from rltrain.settings import Settings

CONSTANT, LINEAR, EXPONENTIAL, COSINE = 0.0, 1.0, 2.0, 3.0
"""First of the four numbers of a schedule."""

STEP_SIZES = ("learning_rate", "clip_range")
"""Names of settings under whose 0 nothing is learnt."""

WITHOUT = {
    "learning_rate": "nothing is learnt",
    "critic_learning_rate": "the critic learns nothing",
    "clip_range": "nothing is learnt",
    "scale": "nothing is paid",
    "epsilon": "nothing is explored",
}
"""Name of a setting -> what it means that it is always 0."""

Numbers = tuple[float, float, float, float]
"""Shape, start, end, steps: a schedule in the form in which a compiled loop takes it."""


@compilable
def schedule_value(numbers: Any, step: int) -> float:
    """The value at an environment step; the equations stand at the classes below."""
    shape, start, end = numbers[0], numbers[1], numbers[2]
    if shape == CONSTANT:
        return float(start)
    fraction = min(max(step / numbers[3], 0.0), 1.0)
    if fraction == 1.0:
        return float(end)
    if shape == LINEAR:
        return float(start + (end - start) * fraction)
    if shape == EXPONENTIAL:
        return float(start * (end / start) ** fraction)
    return float(end + (start - end) * (1 + math.cos(math.pi * fraction)) / 2)


class Constant(Settings):
    """Always `value`."""

    schedule: Literal["constant"] = "constant"
    value: float

    def __call__(self, step: int) -> float:
        return self.value

    def misfit(self, name: str, total_steps: int) -> str | None:
        """What a user should know of it: that with 0 something never happens."""
        told = WITHOUT.get(name.rpartition(".")[2])
        return f"{name} is 0: {told}" if self.value == 0 and told else None

    @property
    def numbers(self) -> Numbers:
        """Shape, start, end, steps."""
        return CONSTANT, self.value, self.value, 1.0

    @property
    def bounds(self) -> tuple[float, float]:
        """Smallest and greatest value."""
        return self.value, self.value


class Ramp(Settings):
    """From `start` to `end` in so many steps, and `end` ever after."""

    start: float
    """Value at step 0."""
    end: float
    """Value from `steps` on."""
    steps: int = Field(gt=0)
    """Environment steps from `start` to `end`."""

    @property
    def bounds(self) -> tuple[float, float]:
        """Smallest and greatest value."""
        return min(self.start, self.end), max(self.start, self.end)

    def misfit(self, name: str, total_steps: int) -> str | None:
        """What a user should know of this schedule in a run of so many steps; None where it fits."""
        if self.steps > total_steps:
            way = f"{self.start:g} to {self.end:g} in {self.steps:,} steps"
            return f"{name} goes from {way}, of which the run has {total_steps:,}: it ends at {self(total_steps):.3g}"
        if self.end == 0 and self.steps < total_steps and name.endswith(STEP_SIZES):
            return f"{name} is 0 from step {self.steps:,} of {total_steps:,} on: it moves nothing any more"
        return None

    _shape: ClassVar[float]

    @property
    def numbers(self) -> Numbers:
        """Shape, start, end, steps."""
        return self._shape, self.start, self.end, float(self.steps)

    def __call__(self, step: int) -> float:
        return schedule_value(self.numbers, step)


class Linear(Ramp):
    """From `start` to `end` in a straight line: start + (end - start) * t / steps."""

    schedule: Literal["linear"]
    _shape: ClassVar[float] = LINEAR


class Exponential(Ramp):
    """From `start` to `end` by a constant factor per step: start * (end / start) ** (t / steps)."""

    schedule: Literal["exponential"]
    _shape: ClassVar[float] = EXPONENTIAL

    @model_validator(mode="after")
    def _positive(self) -> Exponential:
        if self.start <= 0 or self.end <= 0:
            raise ValueError("an exponential schedule needs 'start' and 'end' above 0")
        return self


class Cosine(Ramp):
    """From `start` to `end` along half a cosine: end + (start - end) * (1 + cos(pi * t / steps)) / 2.

    Source: Loshchilov and Hutter 2017, "SGDR", equation 5, one cycle. https://arxiv.org/abs/1608.03983
    """

    schedule: Literal["cosine"]
    _shape: ClassVar[float] = COSINE


def _kind(value: Any) -> str:
    if isinstance(value, dict):
        return str(value.get("schedule", "missing"))
    return str(getattr(value, "schedule", "constant"))


def _number(value: Any) -> Any:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return {"schedule": "constant", "value": value}
    if not isinstance(value, dict | Settings):
        raise PydanticCustomError("schedule_type", "Input should be a number or a schedule")
    return value


ScheduleSetting = Annotated[
    Annotated[Constant, Tag("constant")]
    | Annotated[Linear, Tag("linear")]
    | Annotated[Exponential, Tag("exponential")]
    | Annotated[Cosine, Tag("cosine")],
    Discriminator(_kind),
    BeforeValidator(_number, json_schema_input_type=Any),
]
"""Type of a setting that may be a number or a schedule."""


def _not_negative(schedule: Any) -> Any:
    if schedule.bounds[0] < 0:
        raise ValueError("must not be negative")
    return schedule


LearningRate = Annotated[ScheduleSetting, AfterValidator(_not_negative)]
"""Type of a step size: a number or a schedule, which never goes below 0."""
