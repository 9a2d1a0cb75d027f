"""The section on what was searched: the settings with their values, and how, in words."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from rltrain.config.load import parse_path
from rltrain.config.seeds import seeds_text
from rltrain.config.tune import AREA, IQM, STEPS, Parameter, wanted
from rltrain.report.blocks import DASH, Cell, Section, Table, Text
from rltrain.report.study.view import Scale, View, value_text

SAMPLERS = {
    "grid": "Every combination of the written values is tried once.",
    "random": "Values are drawn at random, each by itself.",
    "tpe": "Values are drawn by a tree-structured Parzen estimator (TPE): near good trials, away from bad ones.",
    "gp": "Values are chosen by a Gaussian process that is fitted to the trials so far.",
    "cmaes": "Values are drawn by CMA-ES: from a normal distribution that moves towards the good trials.",
}
PRUNERS = {
    "none": "No trial ends early.",
    "median": "A trial ends early where it is below the median of the earlier ones at the same step; none in its first "
    "quarter, and not before five are complete.",
    "hyperband": "Trials end early by hyperband: at each rung about a third goes on.",
}


def searched_section(view: View) -> Section:
    """The space and the settings of the search."""
    return Section("searched", "What was searched", [Text(list(_words(view))), _table(view)])


def _words(view: View) -> Iterator[str]:
    study, tune = view.study, view.study.tune
    steps, seeds = study.config.train.total_steps, study.seeds
    many = f"{len(seeds)} seeds ({seeds_text(seeds)}), the same in all trials" if len(seeds) > 1 else f"seed {seeds[0]}"
    yield (
        f"Trials: {study.budget:,}, each of {steps:,} environment steps on {many}. "
        f"{SAMPLERS[tune.sampler]} {PRUNERS[tune.pruner]}"
    )
    yield f"A trial is worth: {_objective(view)}; {'higher' if study.objective.maximize else 'lower'} is better."
    if tune.confirm.top:
        yield (
            f"At the end the best {tune.confirm.top} are run again on {tune.confirm.seeds} fresh seeds, beside the "
            "configuration as it stands."
        )


def _objective(view: View) -> str:
    objective = view.study.objective
    over = "" if len(view.study.seeds) == 1 else ", its mean over the seeds"
    if objective.name == STEPS:
        return f"environment steps until eval/return reaches {objective.threshold:g}, else twice the budget{over}"
    if objective.name == AREA:
        return f"the mean of eval/return over the budget{over}"
    if objective.name.endswith(IQM):
        return f"the last {objective.metric}, its interquartile mean over the seeds"
    return f"the last {objective.metric}{over}"


def _table(view: View) -> Table:
    chosen = {} if view.chosen is None else view.values(view.chosen)
    head = ["setting", "values", "searched when", "as it stands", "chosen"]
    rows = [_row(scale, view.study.space.base, chosen) for scale in view.scales]
    return Table("searched", "Settings that were searched", head, rows)


def _row(scale: Scale, base: dict[str, Any], chosen: dict[str, Any]) -> Sequence[Cell]:
    parameter = scale.parameter
    when = " and ".join(f"{name} is {_either(value)}" for name, value in parameter.when.items())
    stands = _standing(base, scale.name)
    told = value_text(chosen[scale.name]) if scale.name in chosen else DASH
    return [Cell(scale.name), Cell(range_text(parameter)), Cell(when or "always"), Cell(stands), Cell(told)]


def _either(value: Any) -> str:
    return " or ".join(map(value_text, wanted(value)))


def range_text(parameter: Parameter) -> str:
    """The values of a setting in words."""
    if parameter.discrete:
        return ", ".join(map(value_text, parameter.values))
    low, high = map(value_text, parameter.values)
    whole = "whole numbers " if parameter.kind.endswith("int") else ""
    how = ", uniform in the logarithm" if parameter.kind.startswith("log") else ""
    step = "" if parameter.step is None else f" in steps of {parameter.step:g}"
    return f"{whole}{low} to {high}{step}{how}"


def _standing(base: dict[str, Any], name: str) -> str:
    """What the configuration has as it stands; a dash where it has no such setting."""
    value: Any = base
    for step in parse_path(name):
        try:
            value = value[step]
        except (KeyError, IndexError, TypeError):
            return DASH
    if isinstance(value, dict) and value.get("schedule") == "constant":
        value = value["value"]
    return value_text(value)
