"""What a study leaves: `trials.csv`, `best.yaml` and `summary.json`."""

from __future__ import annotations

import csv
import io
import json
import time
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rltrain.config.load import dump
from rltrain.config.seeds import seeds_text
from rltrain.records import SUMMARY
from rltrain.rundir import write_atomic
from rltrain.sittings import command, versions
from rltrain.statistics.intervals import Estimate
from rltrain.tuning.confirm import Confirmed, fresh_seeds, gain, winner
from rltrain.tuning.space import Values
from rltrain.tuning.study import REASON, SCORES, Study

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

BEST, TRIALS = "best.yaml", "trials.csv"


def counts(study: Study) -> dict[str, int]:
    """State -> number of trials."""
    return dict(Counter(state_of(trial) for trial in study.trials()))


def state_of(trial: FrozenTrial) -> str:
    """A trial's state in a word."""
    return {"FAIL": "failed"}.get(trial.state.name, trial.state.name.lower())


def write_trials(study: Study) -> None:
    """A line for every trial: state, value, the value of each searched setting, each seed's score."""
    names, seeds = list(study.tune.search), study.seeds
    out = io.StringIO()
    table = csv.writer(out)
    table.writerow(["trial", "state", "value", *names, *(f"seed {seed}" for seed in seeds), "seconds", "reason"])
    for trial in study.trials():
        values, scores = study.space.stored(trial.params), trial.user_attrs.get(SCORES, {})
        seconds = "" if trial.duration is None else round(trial.duration.total_seconds(), 3)
        table.writerow(
            [
                trial.number,
                state_of(trial),
                "" if trial.value is None else trial.value,
                *(_text(values[name]) if name in values else "" for name in names),
                *(scores.get(str(seed), "") for seed in seeds),
                seconds,
                trial.user_attrs.get(REASON, ""),
            ]
        )
    write_atomic(study.folder / TRIALS, out.getvalue())


def _text(value: Any) -> Any:
    return value if isinstance(value, str | int | float) and not isinstance(value, bool) else json.dumps(value)


def summarise(study: Study, found: Sequence[Confirmed], status: str) -> dict[str, Any]:
    """All that there is to tell, as plain data."""
    complete = [trial for trial in study.trials() if trial.state.name == "COMPLETE"]
    best = winner(study.objective, found)
    base = next((each for each in found if each.candidate.number is None), None)
    choose = max if study.objective.maximize else min
    top = choose(complete, key=lambda trial: float(trial.value or 0), default=None)
    told = None if top is None else {"trial": top.number, "value": top.value, "values": study.space.stored(top.params)}
    return {
        "study": study.name,
        "folder": str(study.folder),
        "storage": study.store.shown,
        "status": status,
        "objective": study.objective.name,
        "direction": "maximize" if study.objective.maximize else "minimize",
        "budget": study.budget,
        "trials": counts(study),
        "best": told,
        "confirmed": [_told(each) for each in found if each.candidate.number is not None],
        "as_it_stands": None if base is None else _told(base),
        "chosen": None if best is None else best.candidate.number,
        "gain": None if best is None or base is None or not base.scores else _interval(gain(best, base)),
        "verdict": verdict(study, best, base),
    }


def _told(each: Confirmed) -> dict[str, Any]:
    return {
        "trial": each.candidate.number,
        "values": each.candidate.values,
        "tuned": each.candidate.tuned,
        "confirmed": None if each.estimate is None else _interval(each.estimate),
        "winners_curse": each.luck,
        "n": len(each.scores),
        "missing": each.missing,
        "scores": {str(seed): score for seed, score in each.scores.items()},
        "folder": str(each.folder),
    }


def _interval(estimate: Estimate) -> dict[str, float | None]:
    return {"value": estimate.value, "low": estimate.low, "high": estimate.high}


def verdict(study: Study, best: Confirmed | None, base: Confirmed | None) -> str:
    """Whether the search was worth it, in a sentence."""
    if best is None:
        return "nothing was confirmed"
    if base is None:
        return "the configuration as it stands is among the best trials: there is nothing to compare it with"
    if not base.scores:
        return "the configuration as it stands has no value on fresh seeds"
    found = gain(best, base)
    if found.low is None or found.high is None:
        return f"the difference of means, {found.value:+.4g}, has no interval: that needs 5 seeds"
    text = f"difference of means {_with_interval(found, sign='+')} on fresh seeds"
    good, bad = (found.low, -found.high) if study.objective.maximize else (-found.high, found.low)
    if good > 0:
        return f"better than the configuration as it stands: {text}"
    if bad > 0:
        return f"worse than the configuration as it stands: {text}"
    return f"not shown to be better than the configuration as it stands: {text}"


def _with_interval(estimate: Estimate, sign: str = "") -> str:
    if estimate.low is None or estimate.high is None:
        return f"{estimate.value:{sign}.5g}"
    return f"{estimate.value:{sign}.5g} [{estimate.low:.5g}, {estimate.high:.5g}]"


def values_text(values: Values) -> str:
    """Settings and values in a line."""
    return ", ".join(f"{name} {_short(value)}" for name, value in values.items())


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else value if isinstance(value, str) else json.dumps(value)


def write_best(study: Study, found: Sequence[Confirmed]) -> bool:
    """Write the best trial's whole configuration, with what it is worth above it. Returns whether there is one."""
    best = winner(study.objective, found)
    if best is not None:
        number, values = best.candidate.number, best.candidate.values
    else:
        told = summarise(study, found, "")["best"]
        if told is None:
            return False
        number, values = told["trial"], told["values"]
    lines = [
        f"Trial {number} of study {study.name}: {values_text(values)}",
        *_worth(study, found, best),
        f"{study.tune.sampler}, {_trials(study)}, {study.tune.seeds_per_trial} seeds each; {_made()}",
        f"  rltrain train {study.folder / BEST}",
    ]
    header = "".join(f"# {line}\n" for line in lines)
    write_atomic(study.folder / BEST, dump(study.space.config(values), header))
    return True


def _trials(study: Study) -> str:
    return f"{len(study.trials())} trials ({', '.join(f'{count} {state}' for state, count in counts(study).items())})"


def _made() -> str:
    return f"rltrain {versions().get('rltrain', '')}, {time.strftime('%Y-%m-%d')}, {command()}"


def _worth(study: Study, found: Sequence[Confirmed], best: Confirmed | None) -> list[str]:
    name = study.objective.name
    if best is None or best.estimate is None:
        return [f"{name} in the study only, where it was chosen for it, so that it is too good; not confirmed."]
    base = next((each for each in found if each.candidate.number is None), None)
    lines = [
        f"{name}: {_with_interval(best.estimate)} on {len(best.scores)} fresh seeds "
        f"({seeds_text(fresh_seeds(study))}){', 95 % interval' if best.estimate.low is not None else ''}.",
    ]
    if best.candidate.tuned is not None and best.luck is not None:
        lines.append(f"In the study it was {best.candidate.tuned:.5g}: the winner's curse is {best.luck:+.4g}.")
    others = sum(each.candidate.number is not None for each in found)
    if others > 1:
        lines.append(f"It is the best of {others} that were confirmed, so that a little of this is luck still.")
    if base is not None and base.estimate is not None:
        lines.append(f"The configuration as it stands: {_with_interval(base.estimate)} on the same seeds.")
    sentence = verdict(study, best, base)
    return [*lines, f"{sentence[:1].upper()}{sentence[1:]}."]


def write_results(study: Study, found: Sequence[Confirmed], status: str) -> dict[str, Any]:
    """Write what this process knows: all files where the study is finished, else the trials so far."""
    write_trials(study)
    summary = summarise(study, found, status)
    if status == "finished":
        write_best(study, found)
        write_atomic(study.folder / SUMMARY, json.dumps(summary, indent=2) + "\n")
    return summary
