"""What makes a comparison unfair, or weaker than it looks; and in what settings the methods differ."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from rltrain.comparison.methods import METRIC, Method
from rltrain.comparison.result import Concern, Difference
from rltrain.differences import ABSENT, differing, flatten, shown
from rltrain.records import RunRecord, Status
from rltrain.statistics.intervals import MIN_RUNS

EXACT = "eval/exact_return"
Settings = dict[str, Any]


def concerns(methods: Sequence[Method]) -> list[Concern]:
    """All that is to be known before the verdict."""
    common = common_tasks(methods)
    found = [*_environments(methods, common), *_mixed(methods)]
    for task in common:
        runs = [method.tasks[task] for method in methods]
        found += _unequal(methods, runs, task if len(common) > 1 else None)
    found += [*_seeds(methods), *_left_out(methods), *_unfinished(methods), *_versions(methods)]
    return list(dict.fromkeys(found))


def common_tasks(methods: Sequence[Method]) -> list[str]:
    """Tasks on which every method has a score."""
    return [task for task in methods[0].tasks if all(task in method.tasks for method in methods)]


def _environments(methods: Sequence[Method], common: Sequence[str]) -> Iterator[Concern]:
    every = list(dict.fromkeys(task for method in methods for task in method.tasks))
    for task in every:
        if task not in common:
            who = " and ".join(method.name for method in methods if task in method.tasks)
            yield Concern("environment", f"environments differ: {task} has runs of {who} only, and does not count")


def _mixed(methods: Sequence[Method]) -> Iterator[Concern]:
    """Runs of one method on one task that are not seeds of one configuration."""
    for method in methods:
        for task, runs in method.tasks.items():
            names = list(differing([_plain(run) for run in runs]))
            if names:
                more = f" and {len(names) - 3} more" if len(names) > 3 else ""
                told = ", ".join(names[:3]) + more
                yield Concern("mixed", f"{method.name} on {task} is not one configuration: its runs differ in {told}")


def _unequal(methods: Sequence[Method], runs: Sequence[Sequence[RunRecord]], task: str | None) -> Iterator[Concern]:
    """Budgets and evaluations of one task."""
    where = f" on {task}" if task else ""
    told = {method.name: _each(run.total_steps for run in own) for method, own in zip(methods, runs, strict=True)}
    if len(set(told.values())) > 1:
        yield Concern("budget", f"budgets{where} differ: {_list(told)} environment steps")
    evaluation = methods[0].metric.startswith("eval/")
    protocols = [[flatten(_protocol(run.config, evaluation)) for run in own] for own in runs]
    for name in differing([each for own in protocols for each in own]):
        values = [_each(each.get(name, "not set") for each in own) for own in protocols]
        if len(set(values)) > 1:
            by_name = {method.name: value for method, value in zip(methods, values, strict=True)}
            yield Concern("protocol", f"{name}{where} differs: {_list(by_name)}")
    counts = {method.name: f"{len(own)}" for method, own in zip(methods, runs, strict=True)}
    if len(set(counts.values())) > 1:
        yield Concern("seeds", f"numbers of seeds{where} differ: {_list(counts)}")


def _protocol(config: Settings, evaluation: bool) -> Settings:
    """How scores come about: the settings that change a score and not what is learnt."""
    env = config["env"]
    limits = [part.get("max_episode_steps") for part in env.get("wrappers") or () if part.get("name") == "time_limit"]
    training = {"stop": config["train"].get("stop")} | (
        {} if evaluation else {"log_every": config["train"]["log_every"]}
    )
    return {
        "env": {"max_episode_steps": env.get("max_episode_steps"), "time_limit": limits or None},
        "train": training,
        "eval": config.get("eval", {}) if evaluation else {},
    }


def _seeds(methods: Sequence[Method]) -> Iterator[Concern]:
    for method in methods:
        task, runs = min(method.tasks.items(), key=lambda own: len(own[1]))
        if len(runs) < MIN_RUNS:
            seeds = len({run.seed for run in runs})
            told = f"{seeds} seed{'' if seeds == 1 else 's'}"
            told = told if seeds == len(runs) else f"{len(runs)} runs of {told}"
            where = f" on {task}" if len(method.tasks) > 1 else ""
            why = ": no interval across seeds" if len(runs) == 1 else ", too few for an interval"
            yield Concern("seeds", f"{method.name} has {told}{where}{why}, which takes {MIN_RUNS}")


def _left_out(methods: Sequence[Method]) -> Iterator[Concern]:
    for method in methods:
        if method.unscored:
            seeds = ", ".join(str(run.seed) for run in method.unscored)
            text = f"{len(method.unscored)} of {len(method.runs)} runs of {method.name} never logged {method.metric}"
            yield Concern("missing", f"{text} and do not count (seed {seeds})")
        if method.copies:
            what = "1 run" if method.copies == 1 else f"{method.copies} runs"
            yield Concern("copies", f"{what} of {method.name} left out: settings and seed of another")


def _unfinished(methods: Sequence[Method]) -> Iterator[Concern]:
    for method in methods:
        states = Counter(str(run.status) for run in method.runs if run.status is not Status.FINISHED)
        if states:
            told = ", ".join(f"{count} {state}" for state, count in states.items())
            text = f"{states.total()} of {len(method.runs)} runs of {method.name} have not finished ({told})"
            yield Concern("unfinished", f"{text}: their last {method.metric} counts")


def _versions(methods: Sequence[Method]) -> Iterator[Concern]:
    """Programs that differ between methods; `source` is rltrain's own code."""
    every = [[sitting.get("versions", {}) for run in method.runs for sitting in run.sittings] for method in methods]
    for name in differing([each for own in every for each in own]):
        values = [_each(each.get(name, "none") for each in own) for own in every]
        if len(set(values)) > 1:
            by_name = {method.name: value for method, value in zip(methods, values, strict=True)}
            what = "rltrain's source" if name == "source" else name
            yield Concern("versions", f"versions of {what} differ: {_list(by_name)}")


def notes(methods: Sequence[Method]) -> list[str]:
    """Advice that makes nothing unfair."""
    every = [run for method in methods for runs in method.tasks.values() for run in runs]
    if methods[0].metric == METRIC and all(len(run.curve(EXACT).steps) for run in every):
        return [f"{METRIC} is sampled in episodes; the runs have {EXACT} too, which is not: --metric {EXACT}"]
    return []


def differences(methods: Sequence[Method]) -> list[Difference]:
    """Settings in which the methods differ, seeds aside."""
    found = differing([_of_method(method) for method in methods])
    return [
        Difference(name, tuple("not set" if value is ABSENT else value for value in values))
        for name, values in found.items()
    ]


def _of_method(method: Method) -> Settings:
    """Dotted name -> value of all runs; of several values, text that lists them."""
    flat = [flatten(_plain(run)) for run in method.runs]
    names = dict.fromkeys(name for each in flat for name in each)
    merged = {}
    for name in names:
        values = [each.get(name, ABSENT) for each in flat]
        same = all(value == values[0] for value in values)
        merged[name] = values[0] if same else f"several: {_each('not set' if v is ABSENT else v for v in values)}"
    return merged


def _plain(run: RunRecord) -> Settings:
    """The configuration without what tells seeds apart."""
    return {name: value for name, value in run.config.items() if name not in ("seed", "seeds")}


def _each(values: Any) -> str:
    """Every value once."""
    return " and ".join(dict.fromkeys(f"{value:,}" if type(value) is int else shown(value) for value in values))


def _list(by_name: dict[str, str]) -> str:
    return ", ".join(f"{name} {value}" for name, value in by_name.items())
