"""What a comparison finds, as plain data: printed by `rltrain compare`, drawn by the report, dumped as JSON."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from rltrain.statistics.intervals import Estimate


@dataclass(frozen=True)
class Concern:
    """Something that makes the comparison unfair, or weaker than it looks."""

    kind: str
    """environment, budget, protocol, seeds, unfinished, missing, copies, mixed or versions."""
    text: str


@dataclass(frozen=True)
class Row:
    """One method on one task, or on all of them."""

    method: str
    n: int
    """Runs; on several tasks of all together."""
    mean: Estimate
    """Of one task with Student's t interval, of several with the stratified bootstrap's."""
    iqm: Estimate
    """With the bootstrap's interval."""
    median: float
    area: Estimate
    """Mean of the curve over the budget."""
    median_interval: tuple[float, float] | None = None
    """Of the bootstrap; None for too few seeds."""
    seeds: tuple[int, ...] = ()
    scores: tuple[float, ...] = ()
    """One for each seed."""
    steps: tuple[int | None, ...] = ()
    """Environment steps to the threshold for each seed, None where it was not reached; empty without a threshold."""
    reached: int | None = None
    """How many seeds reached it."""
    median_steps: float | None = None
    """None where no more than half of them did, or there is no threshold."""


@dataclass(frozen=True)
class Table:
    """The methods on one task; the last of several tables is all common tasks at once, in normalised scores."""

    task: str
    unit: str
    """The metric, or what normalised scores are."""
    budget: int | None
    """Environment steps: the greatest among the methods. None for several tasks."""
    threshold: float | None
    threshold_source: str | None
    low: float
    """Least score of all methods: 0 when normalised."""
    high: float
    """Greatest score of all methods: 1 when normalised."""
    rows: tuple[Row, ...]


@dataclass(frozen=True)
class Pair:
    """Two methods. Differences are a minus b, in the unit of the last table."""

    a: str
    b: str
    difference: float
    improvement: Estimate
    """Probability that a run of a is better than a run of b, ties half."""
    welch: float | None
    """p of Welch's test; None where one has a single run."""
    welch_holm: float | None
    """The same, corrected for the number of pairs."""
    permutation: float
    permutation_holm: float
    effect_size: float | None
    """Hedges' g; None without any spread."""
    area_difference: float
    """Of the areas under the curves, in the same unit."""
    area_holm: float
    """p for the areas, corrected: by permutation; where numbers of seeds differ, the greater of that and Welch's."""
    missed: float | None
    """Chance that Welch's test misses a true difference of the size seen, with these seeds and this many pairs."""
    more_seeds: int | None
    """Seeds for each method with which it would be missed one time in five; None where no number will do."""
    detectable: float | None
    """The difference that these seeds miss one time in five."""
    winner: str | None
    """The one that is better, where that can be said."""
    verdict: str


@dataclass(frozen=True)
class ProfileLine:
    """Share of one method's runs above each threshold, as a mean over tasks, with its interval."""

    method: str
    thresholds: tuple[float, ...]
    shares: tuple[float, ...]
    low: tuple[float, ...] | None
    high: tuple[float, ...] | None


@dataclass(frozen=True)
class Difference:
    """A setting in which the methods differ."""

    name: str
    """Dotted."""
    values: tuple[Any, ...]
    """One for each method; text where a method does not have it, or has several."""


@dataclass(frozen=True)
class Comparison:
    """Everything that is said of methods against each other."""

    metric: str
    confidence: float
    methods: tuple[str, ...]
    concerns: tuple[Concern, ...]
    tables: tuple[Table, ...]
    pairs: tuple[Pair, ...]
    """Every two methods, in their order; empty where they have no task in common."""
    profile: tuple[ProfileLine, ...]
    differences: tuple[Difference, ...]
    verdict: str
    notes: tuple[str, ...] = ()
    """Advice."""

    def to_dict(self) -> dict[str, Any]:
        """Plain data, as `rltrain compare --json` prints it."""
        return asdict(self)
