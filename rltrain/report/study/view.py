"""A study as its page sees it: trials by what became of them, the chosen one, and the scales of the settings."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from rltrain.config.tune import Parameter
from rltrain.tuning.confirm import Confirmed, so_far, winner
from rltrain.tuning.results import state_of
from rltrain.tuning.space import Values
from rltrain.tuning.study import Study

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial


@dataclass(frozen=True)
class Scale:
    """Where the values of a searched setting stand, from 0 to 1."""

    name: str
    """The setting."""
    label: str
    """As much of its name as tells it from the others."""
    parameter: Parameter

    @property
    def log(self) -> bool:
        """Whether equal factors are equal distances."""
        return self.parameter.kind.startswith("log")

    def place(self, value: Any) -> float:
        """Where a value stands; written values are as far apart as each other."""
        if self.parameter.discrete:
            index = [json.dumps(each) for each in self.parameter.values].index(json.dumps(value))
            return (index + 0.5) / len(self.parameter.values)
        low, high = self.parameter.values
        if self.log:
            return math.log(value / low) / math.log(high / low)
        return float((value - low) / (high - low))

    def value(self, place: float) -> float:
        """The number that stands at a place, also beyond the bounds."""
        low, high = self.parameter.values
        return float(low * (high / low) ** place if self.log else low + (high - low) * place)

    @property
    def marks(self) -> list[tuple[float, str]]:
        """Places and labels: every value that was written, or both bounds and the middle between them."""
        if self.parameter.discrete:
            return [(self.place(value), value_text(value)) for value in self.parameter.values]
        low, high = self.parameter.values
        return [(0.0, value_text(low)), (0.5, value_text(self.value(0.5))), (1.0, value_text(high))]


def value_text(value: Any) -> str:
    """A value as it is told: numbers to three digits, everything else as YAML says it."""
    if isinstance(value, float):
        return f"{value:.3g}"
    return value if isinstance(value, str) else json.dumps(value)


def short_names(names: Sequence[str]) -> dict[str, str]:
    """Setting -> the shortest end of its name that no other has; `name` alone would say nothing."""
    found = {}
    for name in names:
        words = name.split(".")
        ends = [".".join(words[at:]) for at in range(len(words) - (2 if words[-1] == "name" else 1), -1, -1)]
        alone = (end for end in ends if not any(other != name and f".{other}".endswith(f".{end}") for other in names))
        found[name] = next(alone, name)
    return found


@dataclass(frozen=True)
class View:
    """A study that is read once."""

    study: Study

    @cached_property
    def trials(self) -> list[FrozenTrial]:
        """All trials that count."""
        return self.study.trials()

    def of(self, state: str) -> list[FrozenTrial]:
        """The trials that are complete, pruned, failed or running."""
        return [trial for trial in self.trials if state_of(trial) == state]

    @cached_property
    def complete(self) -> list[FrozenTrial]:
        """The trials that have a value."""
        return self.of("complete")

    @cached_property
    def found(self) -> list[Confirmed]:
        """What was confirmed so far."""
        return so_far(self.study)

    @cached_property
    def best(self) -> FrozenTrial | None:
        """The trial of the best value in the study."""
        sign = -1 if self.study.objective.maximize else 1
        return min(self.complete, key=lambda trial: (sign * float(trial.value or 0), trial.number), default=None)

    @cached_property
    def chosen(self) -> FrozenTrial | None:
        """The trial that `best.yaml` is made of: the best on fresh seeds, where there are any, else in the study."""
        confirmed = winner(self.study.objective, self.found)
        if confirmed is None:
            return self.best
        return next(trial for trial in self.complete if trial.number == confirmed.candidate.number)

    @cached_property
    def scales(self) -> list[Scale]:
        """The searched settings, as they are written."""
        labels = short_names(list(self.study.tune.search))
        return [Scale(name, labels[name], parameter) for name, parameter in self.study.tune.search.items()]

    def values(self, trial: FrozenTrial) -> Values:
        """Setting -> value, of those that this trial searched."""
        return self.study.space.stored(trial.params)

    @property
    def constant(self) -> bool:
        """Whether all values are the same."""
        return len({trial.value for trial in self.complete}) == 1
