"""Schedules by hand, and that they depend on the step alone."""

import math

import pytest
from pydantic import TypeAdapter, ValidationError

from rltrain.schedules import ScheduleSetting

read = TypeAdapter(ScheduleSetting).validate_python


@pytest.mark.parametrize(
    ("block", "values"),
    [
        (0.3, {0: 0.3, 10**9: 0.3}),
        ({"schedule": "constant", "value": 2}, {5: 2.0}),
        ({"schedule": "linear", "start": 1.0, "end": 0.0, "steps": 100}, {0: 1.0, 25: 0.75, 100: 0.0, 500: 0.0}),
        ({"schedule": "exponential", "start": 1.0, "end": 0.01, "steps": 2}, {0: 1.0, 1: 0.1, 2: 0.01, 9: 0.01}),
        ({"schedule": "cosine", "start": 2.0, "end": 0.0, "steps": 4}, {0: 2.0, 1: 1 + math.sqrt(0.5), 2: 1.0, 4: 0.0}),
    ],
)
def test_values(block, values):
    schedule = read(block)
    for step, value in values.items():
        assert schedule(step) == pytest.approx(value)
    low, high = schedule.bounds
    assert all(low <= schedule(step) <= high for step in range(0, 1_000, 7))


@pytest.mark.parametrize(
    "block",
    [
        "0.1", True, {"schedule": "linear", "start": 1}, {"schedule": "exponential", "start": 0, "end": 1, "steps": 3},
        {"schedule": "linear", "start": 1, "end": 0, "steps": 0}, {"schedule": "spline"}, float("nan"),
    ],
)  # fmt: skip
def test_nonsense_is_refused(block):
    with pytest.raises(ValidationError):
        read(block)
