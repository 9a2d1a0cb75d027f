"""The search space: from a trial to a configuration, and whether every value that it holds is a right one."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from rltrain.config.load import Loaded, from_dict, parse_path, to_dict
from rltrain.config.reader import Path
from rltrain.config.schema import NONE_EARLY, Config
from rltrain.config.tune import Parameter, TuneSettings, metric_of, wanted
from rltrain.core import ConfigError, EnvSpec, Problem
from rltrain.fitting import environment, misfits
from rltrain.metrics import EXACT_METRICS

if TYPE_CHECKING:
    from optuna.trial import Trial

Values = dict[str, Any]
"""Setting -> value, of the settings that are searched in this trial."""
COMPONENTS = ("agent", "exploration", "bonuses", "env.wrappers")
TRIES = 20
"""Other points at which a value is tried that does not fit the configuration as it stands."""


@dataclass(frozen=True)
class Space:
    """The searched settings and the configuration around them."""

    tune: TuneSettings
    base: dict[str, Any]
    """The configuration as it stands, as plain data."""
    _environments: dict[str, EnvSpec | list[Problem]] = field(default_factory=dict, compare=False, repr=False)

    @classmethod
    def of(cls, config: Config) -> Space:
        """The space of a configuration with a block `tune`."""
        assert config.tune is not None
        return cls(config.tune, to_dict(config))

    @cached_property
    def parameters(self) -> dict[str, Parameter]:
        """In an order in which conditions are known before they are needed."""
        return {name: self.tune.search[name] for name in self.tune.ordered or ()}

    def config(self, values: Values, seed: int | None = None) -> Config:
        """The configuration with these settings. Raises ConfigError.

        A component of another name begins with its defaults: the settings of one mean nothing to another.
        """
        config = from_dict(self.base, overrides=self._overrides(values)).config
        return config if seed is None else config.single(seed)

    def _overrides(self, values: Values) -> list[str]:
        ordered = sorted(values, key=lambda name: (len(parse_path(name)), not name.endswith(".name")))
        texts = []
        for name in ordered:
            block = name.removesuffix(".name")
            if name.endswith(".name") and block.split("[")[0] in COMPONENTS and values[name] != _at(self.base, name):
                texts.append(f"{block}={json.dumps({'name': values[name]})}")
            else:
                texts.append(f"{name}={json.dumps(values[name])}")
        return texts

    def suggest(self, trial: Trial) -> Values:
        """The values of a trial, drawn where it has none yet."""
        values: Values = {}
        for name, parameter in self.parameters.items():
            if parameter.active(values):
                values[name] = _suggest(trial, name, parameter)
        return values

    def stored(self, params: dict[str, Any]) -> Values:
        """The values of a trial as it is stored, of which the last may be missing."""
        found = {}
        for name, parameter in self.parameters.items():
            if name in params:
                found[name] = _decoded(parameter, params[name]) if parameter.discrete else params[name]
        return found

    @cached_property
    def points(self) -> list[Values]:
        """Every point of a grid, always in the same order; what is not searched at a point does not double it."""
        found: list[Values] = [{}]
        for name, parameter in self.parameters.items():
            found = [
                more
                for point in found
                for more in (
                    [{**point, name: value} for value in parameter.points or ()] if parameter.active(point) else [point]
                )
            ]
        return found

    def encoded(self, values: Values) -> dict[str, Any]:
        """Values as they are stored: lists and blocks as JSON."""
        return {name: _encoded(value) if self.parameters[name].discrete else value for name, value in values.items()}

    def drawn(self, rng: np.random.Generator, fixed: Values) -> Values:
        """A point by chance at which `fixed` is so."""
        values: Values = {}
        for name, parameter in self.parameters.items():
            if name in fixed:
                values[name] = fixed[name]
            elif parameter.active(values):
                values[name] = parameter.values[rng.integers(len(parameter.values))]
        return values

    def reaching(self, name: str) -> Values:
        """Values of other settings with which this one is searched, and no more than these."""
        values: Values = {}
        for other, value in self.parameters[name].when.items():
            values |= self.reaching(other) | {other: wanted(value)[0]}
        return values

    def problems(self, loaded: Loaded) -> tuple[list[str], list[str]]:
        """What is wrong in it, each with its place in the file; and what does not fit everywhere.

        Every bound and every value is put into the configuration. What the schema refuses is wrong; so is what fits
        neither the configuration as it stands nor any of some other points.
        """
        unfit = [f"{loaded.where(path)}: {_dotted(path)}: {why}" for path, why in self.tune.problems_of_search()]
        if unfit := unfit or loaded.explain(self._around(loaded.config)):
            return unfit, []
        errors: list[str] = []
        notes: list[str] = []
        for name, parameter in self.parameters.items():
            for index, value in enumerate(parameter.values):
                path: Path = ("tune", "search", name, parameter.kind, index)
                place = f"{loaded.where(path)}: tune.search.{name}"
                wrong, everywhere = self._wrong({**self.reaching(name), name: value})
                (errors if everywhere else notes).extend(f"{place}: {_shown(value)}: {why}" for why in wrong)
        return errors, notes

    def _around(self, config: Config) -> Iterator[Problem]:
        """What of the search does not fit what is around it."""
        metric, searched = metric_of(self.tune.objective), self.tune.search
        early = config.evaluated_early or "train.total_steps" in searched
        if self.tune.pruner != "none" and self.tune.seeds_per_trial == 1 and not early:
            yield Problem("tune.pruner", f"ends trials by their evaluations, and {NONE_EARLY}: or use none")
        if config.seed + self.tune.seeds_per_trial + self.tune.confirm.seeds > 2**63:
            yield Problem(
                "seed", "the seeds of trials count from here, and go beyond 2**63 - 1, the greatest: lower it"
            )
        if metric in EXACT_METRICS and not any(name.split(".")[0] == "env" for name in searched):
            known = self._environment(config)
            if isinstance(known, EnvSpec) and known.model is None:
                why = f"{metric} is for environments that tell their model, and {config.env.id} does not"
                yield Problem("tune.objective", f"{why}: take eval/return")

    def _wrong(self, values: Values) -> tuple[list[str], bool]:
        """What is wrong at a point, and whether it is everywhere."""
        try:
            found = self.misfits(self.config(values))
        except ConfigError as error:
            return [_message(text) for text in error.messages], True
        rng = np.random.default_rng(0)
        return found, not any(self._fits(self.drawn(rng, values)) for _ in range(TRIES if found else 0))

    def misfits(self, config: Config) -> list[str]:
        """What of a configuration does not fit together."""
        known = self._environment(config)
        found = known if isinstance(known, list) else misfits(config, known)
        return [f"{problem.path}: {problem.message}" for problem in found]

    def _environment(self, config: Config) -> EnvSpec | list[Problem]:
        env = config.env.model_dump_json()
        if env not in self._environments:  # to make one may take long, and most searches leave it as it is
            self._environments[env] = environment(config)
        return self._environments[env]

    def _fits(self, values: Values) -> bool:
        try:
            return not self.misfits(self.config(values))
        except ConfigError:
            return False


def _suggest(trial: Trial, name: str, parameter: Parameter) -> Any:
    """Have Optuna choose."""
    if parameter.discrete:
        return _decoded(parameter, trial.suggest_categorical(name, [_encoded(value) for value in parameter.values]))
    low, high = parameter.values
    log = parameter.kind.startswith("log")
    if parameter.kind.endswith("int"):
        return trial.suggest_int(name, low, high, step=int(parameter.step or 1), log=log)
    return trial.suggest_float(name, low, high, step=parameter.step, log=log)


def _encoded(value: Any) -> Any:
    return value if value is None or isinstance(value, bool | int | float | str) else json.dumps(value)


def _decoded(parameter: Parameter, stored: Any) -> Any:
    return next(value for value in parameter.values if _encoded(value) == stored)


def _at(data: Any, name: str) -> Any:
    """What stands at a path; None where there is nothing."""
    for step in parse_path(name):
        inside = step in data if isinstance(data, dict) else isinstance(data, list) and isinstance(step, int)
        if not inside or (isinstance(data, list) and isinstance(step, int) and step >= len(data)):
            return None
        data = data[step]
    return data


def _message(text: str) -> str:
    """A problem without the place at which it was tried."""
    return text.split(" (command line): ", 1)[-1].removeprefix("config: ")


def _shown(value: Any) -> str:
    return json.dumps(value)


def _dotted(path: Sequence[str | int]) -> str:
    return ".".join(map(str, path))
