"""The block `tune`: which settings are searched, how, and what makes a trial a good one."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from rltrain.config.reader import Path
from rltrain.metrics import EVALUATION, KNOWN, OWN, rises
from rltrain.registry import did_you_mean
from rltrain.settings import Settings

KINDS = ("uniform", "log_uniform", "int", "log_int", "choice", "grid")
STEPS = "steps_to_threshold"
AREA = "area_under_curve"
IQM = "_iqm"
"""After the name of a metric: not the mean over the seeds, but the interquartile mean."""
FIXED = {
    "seed": "trials have seeds of their own: seeds_per_trial",
    "seeds": "trials have seeds of their own: seeds_per_trial",
    "eval": "trials that are measured in different ways cannot be compared",
    "device": "it decides no result",
    "checkpoint": "it decides no result",
    "tune": "a search cannot search itself",
}
"""Blocks that cannot be searched, and why."""


class Parameter(Settings):
    """The values that one setting may take: exactly one of the kinds."""

    uniform: tuple[float, float] | None = None
    """[low, high], both included; with `step` only low, low + step, ..."""
    log_uniform: tuple[float, float] | None = None
    """[low, high], uniform in the logarithm."""
    int_: tuple[int, int] | None = Field(default=None, alias="int")
    """[low, high], both included; with `step` every so many."""
    log_int: tuple[int, int] | None = None
    """[low, high], uniform in the logarithm."""
    choice: tuple[Any, ...] | None = None
    """These values, which may be lists and blocks too."""
    grid: tuple[Any, ...] | None = None
    """These values; the same as `choice`, as one writes it for the sampler `grid`."""
    step: float | None = Field(default=None, gt=0)
    """Distance between the values of `uniform` or `int`."""
    when: dict[str, Any] = {}
    """Other searched setting -> the value, or the list of values, with which this one is searched at all."""

    @property
    def kind(self) -> str:
        """Which kind it is."""
        return next(name for name in KINDS if getattr(self, "int_" if name == "int" else name) is not None)

    @property
    def values(self) -> tuple[Any, ...]:
        """What was written after the kind: two bounds, or the values themselves."""
        return tuple(getattr(self, "int_" if self.kind == "int" else self.kind))

    @property
    def discrete(self) -> bool:
        """Whether the values themselves were written."""
        return self.kind in ("choice", "grid")

    @field_validator("uniform", "log_uniform", "int_", "log_int", mode="before")
    @classmethod
    def _two_bounds(cls, value: Any) -> Any:
        if isinstance(value, list | tuple) and len(value) != 2:
            raise ValueError(f"expected [low, high], got a list of {len(value)}")
        return value

    @model_validator(mode="after")
    def _one_kind(self) -> Parameter:
        given = [name for name in KINDS if getattr(self, "int_" if name == "int" else name) is not None]
        if len(given) != 1:
            raise ValueError(f"expected one of {', '.join(KINDS)}, got {' and '.join(given) or 'none of them'}")
        if self.step is not None and self.kind not in ("uniform", "int"):
            raise ValueError(f"step goes with uniform and int, not with {self.kind}")
        if self.discrete:
            texts = [json.dumps(value, sort_keys=True) for value in self.values]
            twice = [text for text in texts if texts.count(text) > 1]
            if not texts or twice:
                raise ValueError(f"{self.kind}: {f'{twice[0]} twice' if twice else 'expected at least one value'}")
        else:
            self._check_bounds(*self.values)
        return self

    def _check_bounds(self, low: float, high: float) -> None:
        if low >= high:
            raise ValueError(f"{self.kind}: expected [low, high] with low < high, got [{low:g}, {high:g}]")
        if self.kind.startswith("log") and low <= 0:
            raise ValueError(f"{self.kind}: the lower bound must be more than 0, got {low:g}")
        if self.step is None:
            return
        steps = (high - low) / self.step
        if self.kind == "int" and not float(self.step).is_integer():
            raise ValueError(f"step: expected a whole number with int, got {self.step:g}")
        if round(steps) < 1 or not math.isclose(steps, round(steps), rel_tol=1e-9):
            raise ValueError(f"step: {self.step:g} does not lead from {low:g} to {high:g} in whole steps")

    @property
    def points(self) -> list[Any] | None:
        """Every value where there are finitely many as it is written; None for the others."""
        if self.discrete:
            return list(self.values)
        low, high = self.values
        if self.kind == "int":
            return list(range(low, high + 1, int(self.step or 1)))
        if self.step is None:
            return None
        count = round((high - low) / self.step)
        return [low + (high - low) * index / count for index in range(count + 1)]

    def takes(self, value: Any) -> bool:
        """Whether this may be its value."""
        if self.discrete:
            return value in self.values
        low, high = self.values
        return isinstance(value, int | float) and not isinstance(value, bool) and low <= value <= high

    def active(self, chosen: dict[str, Any]) -> bool:
        """Whether it is searched where the others are so."""
        return all(name in chosen and chosen[name] in wanted(value) for name, value in self.when.items())


def wanted(value: Any) -> list[Any]:
    """The values of a condition: a list of them, or one."""
    return value if isinstance(value, list) else [value]


def metric_of(objective: str) -> str:
    """The metric of a run that an objective is made of."""
    return EVALUATION[0] if objective in (STEPS, AREA) else objective.removesuffix(IQM)


class ConfirmSettings(Settings):
    """The best trials run again, on seeds that no trial has seen."""

    top: int = Field(default=3, ge=0, le=100)
    """How many of the best; 0 for none."""
    seeds: int = Field(default=10, ge=1, le=1_000)
    """Fresh seeds for each; fewer than 5 give no interval."""


class TuneSettings(Settings):
    """A search for better settings: `rltrain tune`."""

    sampler: Literal["grid", "random", "tpe", "gp", "cmaes"] = "tpe"
    """grid: every combination once; random; tpe: tree-structured Parzen estimators; gp: Gaussian processes; cmaes."""
    pruner: Literal["none", "median", "hyperband"] = "none"
    """Which trials end early: those below the median of the earlier ones, or those that hyperband leaves behind.

    The median ends none in the first quarter of its runs.
    """
    trials: int | None = Field(default=None, ge=1, le=100_000)
    """How many in all; null for every combination of a grid."""
    seeds_per_trial: int = Field(default=3, ge=1, le=1_000)
    """Each trial trains as many seeds, the same in all trials: `seed`, `seed` + 1, ..."""
    objective: str = "eval/return_iqm"
    """The last entry of a metric, averaged over the seeds, as an interquartile mean where `_iqm` follows its name.

    Or `steps_to_threshold`: environment steps until `eval/return` reaches `threshold`, twice the budget where it never
    does; or `area_under_curve`: the mean of `eval/return` over the budget.
    """
    direction: Literal["maximize", "minimize"] | None = None
    """null minimises `steps_to_threshold` and maximises what is better the more of it there is, as returns are.

    For every other metric, such as `train/td_error`, it must be said.
    """
    threshold: float | None = None
    """For `steps_to_threshold`; null takes what counts as a success."""
    confirm: ConfirmSettings = ConfirmSettings()
    search: dict[str, Parameter]
    """Setting, as in `agent.learning_rate` -> its values."""

    def problems_of_search(self) -> Iterator[tuple[Path, str]]:
        """What does not fit together in it: the path of a setting, and what is wrong."""
        if not self.search:
            yield ("tune", "search"), "expected at least one setting"
        yield from self._problems_of_objective()
        if self.threshold is not None and self.objective != STEPS:
            yield ("tune", "threshold"), f"goes with the objective {STEPS}"
        if self.pruner != "none" and self.objective == STEPS:
            yield ("tune", "pruner"), f"a run has no {STEPS} before its end: use none, or another objective"
        if self.sampler != "grid" and self.trials is None:
            yield ("tune", "trials"), "missing: how many trials? (only a grid has an end of its own)"
        if self.sampler == "cmaes" and self.search and not self._moved_by_cmaes:
            why = "moves numbers, and none is searched that every trial has, so all would be drawn at random"
            yield ("tune", "sampler"), f"cmaes {why}: use tpe or random"
        for name, parameter in self.search.items():
            yield from self._problems_of(name, parameter)
        if self.ordered is None:
            yield ("tune", "search"), "conditions that go in a circle"

    def _problems_of_objective(self) -> Iterator[tuple[Path, str]]:
        path: Path = ("tune", "objective")
        metric = metric_of(self.objective)
        near = did_you_mean(self.objective, (STEPS, AREA, *KNOWN))
        if metric not in KNOWN and metric.startswith(OWN):
            yield path, f"no run logs {metric}{near} (known: {', '.join(KNOWN)})"
        elif metric not in KNOWN and "/" not in self.objective and near:
            yield path, f"unknown objective '{self.objective}'{near}"
        elif self.objective == STEPS and self.direction == "maximize":
            yield ("tune", "direction"), f"the fewer {STEPS}, the better: leave it out"
        elif self.direction is None and self.objective != STEPS and not rises(metric):
            yield ("tune", "direction"), f"missing: is more of {metric} better? say maximize or minimize"

    @property
    def _moved_by_cmaes(self) -> list[str]:
        """The searched settings that cmaes does not draw at random: numbers that every trial has."""
        return [name for name, parameter in self.search.items() if not (parameter.discrete or parameter.when)]

    def notes_of_search(self, early: bool) -> Iterator[str]:
        """What a user should be told of a search that is right; `early`: runs are evaluated before their end."""
        if self.pruner != "none" and not early:
            yield "tune.pruner: nothing is evaluated before a run's end, so only seeds that have not begun are saved"
        if self.sampler == "cmaes":
            others = [name for name in self.search if name not in self._moved_by_cmaes]
            if others:
                why = "cmaes moves only numbers that every trial has"
                yield f"tune.sampler: {', '.join(others)}: drawn at random, for {why}; tpe learns of all"

    def _problems_of(self, name: str, parameter: Parameter) -> Iterator[tuple[Path, str]]:
        path: Path = ("tune", "search", name)
        if (reason := FIXED.get(re.split(r"[.\[]", name)[0])) is not None:
            yield path, f"cannot be searched: {reason}"
        if self.sampler == "grid" and parameter.points is None:
            yield (*path, parameter.kind), "has no end of values: give grid: [...], or a step with uniform"
        for other, value in parameter.when.items():
            place = (*path, "when", other)
            if other not in self.search:
                yield place, f"is not searched (searched: {', '.join(self.search)})"
            elif not all(self.search[other].takes(one) for one in wanted(value)):
                yield place, f"never is {json.dumps(value)}"

    @property
    def ordered(self) -> list[str] | None:
        """The searched settings, each after those that decide whether it is searched; None where that is a circle."""
        found: list[str] = []
        while len(found) < len(self.search):
            ready = [
                name
                for name, parameter in self.search.items()
                if name not in found and all(other in found or other not in self.search for other in parameter.when)
            ]
            if not ready:
                return None
            found.append(ready[0])
        return found
