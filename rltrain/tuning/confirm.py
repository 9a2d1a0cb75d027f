"""The best trials run again on seeds that no trial has seen, beside the configuration as it stands.

The best of many noisy values is too good: it was chosen for its luck as well (the winner's curse). What a trial is
worth is told by runs that had no part in its choice.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from rltrain.config.load import to_dict
from rltrain.config.schema import Config
from rltrain.launch.group import Group
from rltrain.records import RunRecord, Status
from rltrain.statistics.intervals import CONFIDENCE, MIN_RUNS, Estimate
from rltrain.statistics.significance import difference, standard_error
from rltrain.tuning.objective import NoValue, Objective
from rltrain.tuning.space import Values
from rltrain.tuning.study import Study

CONFIRM, BASE = "confirm", "as-it-stands"
"""Folders of the runs that confirm, and in it of the configuration that was searched from."""


@dataclass(frozen=True)
class Candidate:
    """A configuration that is run again."""

    name: str
    number: int | None
    """Its trial; None for the configuration as it stands."""
    values: Values
    config: Config
    tuned: float | None
    """Its value in the study."""


@dataclass(frozen=True)
class Confirmed:
    """What a candidate is worth on fresh seeds."""

    candidate: Candidate
    folder: Path
    scores: dict[int, float]
    """Seed -> score."""
    missing: int
    """Seeds without a score."""
    estimate: Estimate | None

    @property
    def luck(self) -> float | None:
        """The winner's curse: value in the study minus value on fresh seeds."""
        if self.estimate is None or self.candidate.tuned is None:
            return None
        return self.candidate.tuned - self.estimate.value


def fresh_seeds(study: Study) -> list[int]:
    """Seeds that come after those of the trials."""
    first = study.seeds[-1] + 1
    return list(range(first, first + study.tune.confirm.seeds))


def candidates(study: Study) -> list[Candidate]:
    """The best trials, different from each other, and the configuration as it stands where it is none of them."""
    complete = [trial for trial in study.trials() if trial.state.name == "COMPLETE"]
    sign = -1 if study.objective.maximize else 1
    found: list[Candidate] = []
    for trial in sorted(complete, key=lambda trial: (sign * float(trial.value or 0), trial.number)):
        if len(found) == study.tune.confirm.top:
            break
        values = study.space.stored(trial.params)
        config = study.space.config(values)
        if all(to_dict(config) != to_dict(each.config) for each in found):
            found.append(Candidate(f"trial-{trial.number:04}", trial.number, values, config, trial.value))
    base = study.space.config({})
    if found and all(to_dict(base) != to_dict(each.config) for each in found):
        found.append(Candidate(BASE, None, {}, base, None))
    return found


def group_of(study: Study, candidate: Candidate) -> Group:
    """Its group on the fresh seeds, made or added to."""
    group = _group(study, candidate)
    group.folder.mkdir(parents=True, exist_ok=True)
    return Group.write(group.folder, candidate.config, group.seeds)


def _group(study: Study, candidate: Candidate) -> Group:
    return Group.of(study.folder / CONFIRM / candidate.name, candidate.config, fresh_seeds(study))


def so_far(study: Study) -> list[Confirmed]:
    """What the candidates that were begun have come to, as it is on the disk now."""
    found = [(each, _group(study, each)) for each in (candidates(study) if study.tune.confirm.top else [])]
    return [confirmed(study, each, group) for each, group in found if group.folder.is_dir()]


def confirmed(study: Study, candidate: Candidate, group: Group) -> Confirmed:
    """What the runs of a group come to."""
    scores: dict[int, float] = {}
    for seed in group.seeds:
        run = group.run(seed)
        if run is not None and run.status is Status.FINISHED and (score := _score(study.objective, run)) is not None:
            scores[seed] = score
    estimate = study.objective.estimate(list(scores.values())) if scores else None
    return Confirmed(candidate, group.folder, scores, len(group.seeds) - len(scores), estimate)


def _score(objective: Objective, run: RunRecord) -> float | None:
    try:
        return objective.score(run)
    except NoValue:
        return None


def winner(objective: Objective, found: Sequence[Confirmed]) -> Confirmed | None:
    """The trial that is best on fresh seeds, of equal ones that of the best mean; None where none has a value there."""
    sign = -1 if objective.maximize else 1

    def rank(each: Confirmed) -> tuple[float, float]:
        assert each.estimate is not None
        return sign * each.estimate.value, sign * float(np.mean(list(each.scores.values())))

    known = [each for each in found if each.candidate.number is not None and each.estimate is not None]
    return min(known, key=rank, default=None)


def gain(best: Confirmed, base: Confirmed) -> Estimate:
    """Mean of the best minus mean of the configuration as it stands, with Welch's interval where seeds suffice.

    difference +- t(df) * SE, degrees of freedom by Welch and Satterthwaite.
    """
    x, y = (np.array(list(each.scores.values())) for each in (best, base))
    value = difference([x], [y])
    if min(len(x), len(y)) < MIN_RUNS:
        return Estimate(value)
    from scipy.special import stdtrit

    error, freedom = standard_error([x], [y])
    half = float(stdtrit(freedom, (1 + CONFIDENCE) / 2) * error) if error else 0.0
    return Estimate(value, value - half, value + half)
