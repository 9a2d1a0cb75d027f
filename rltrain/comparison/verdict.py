"""What may be said of methods in plain words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rltrain.comparison.result import Pair
from rltrain.core import Array
from rltrain.metrics import rises
from rltrain.statistics.intervals import MIN_RUNS, Estimate
from rltrain.statistics.power import MAX_MORE, MISS
from rltrain.statistics.significance import ALPHA


def _beats(metric: str) -> str:
    return "is better than" if rises(metric) else f"has a higher {metric} than"


@dataclass(frozen=True)
class _Case:
    """A pair, seen from the method that is ahead."""

    pair: Pair
    counts: Sequence[int]
    """Runs of each method and task."""
    metric: str
    balanced: bool
    unit: str
    """Before a difference: "normalised " for several tasks."""

    @property
    def names(self) -> tuple[str, str]:
        """The one ahead by its mean, or else by P, and the other."""
        a, b, gap = self.pair.a, self.pair.b, self.pair.difference
        return (a, b) if gap > 0 or (gap == 0 and self.pair.improvement.value >= 0.5) else (b, a)

    @property
    def chance(self) -> str:
        """P that the one ahead is better. Where the runs are apart altogether, a bootstrap has no interval."""
        found = self.pair.improvement
        if self.names[0] != self.pair.a:
            low, high = (None if bound is None else 1 - bound for bound in (found.high, found.low))
            found = Estimate(1 - found.value, low, high)
        if found.value == 1:
            return "P = 1.00, every run above every run"
        return f"P = {found.value:.2f} [{found.low:.2f}, {found.high:.2f}]"

    @property
    def seeds(self) -> str:
        few, many = min(self.counts), max(self.counts)
        return f"{few} seeds" if few == many else f"{few} to {many} seeds"

    @property
    def missed(self) -> str:
        """How often these seeds would not show it."""
        assert self.pair.missed is not None
        size, share = abs(self.pair.difference), self.pair.missed
        told = "less than 1 %" if share < 0.01 else f"{100 * share:.0f} %"
        return f"with these {self.seeds} a {self.unit}difference of {size:.3g} would be missed {told} of the time"


def balanced(x: Sequence[Array], y: Sequence[Array]) -> bool:
    """Whether two methods have the same number of seeds on each task."""
    return all(len(a) == len(b) for a, b in zip(x, y, strict=True))


def verdict(pair: Pair, x: Sequence[Array], y: Sequence[Array], metric: str) -> str:
    """On two methods, from their scores (R,) on each task: who is better, or what it would take to know."""
    case = _Case(pair, [len(task) for task in (*x, *y)], metric, balanced(x, y), "normalised " if len(x) > 1 else "")
    fewest, a, b = min(case.counts), pair.a, pair.b
    if fewest == 1:
        return (
            f"Nothing can be said of {a} and {b}: one seed does not tell what another would give. "
            f"Train at least {MIN_RUNS} seeds of each."
        )
    if fewest < MIN_RUNS:
        first, second = case.names
        gap = abs(pair.difference)
        lead = f"the mean of {first} is {gap:.4g} above that of {second}" if gap else "the means are equal"
        return f"{case.seeds} are too few for a verdict on {a} and {b}, which takes {MIN_RUNS}. So far {lead}."
    return f"{_final(case, same=not np.ptp(np.concatenate([*x, *y])))}{_over_the_budget(case)}"


def _final(case: _Case, *, same: bool) -> str:
    """On the scores at the end."""
    pair, (first, second) = case.pair, case.names
    told = f"{case.chance}, {_p(pair.permutation_holm)}"
    if same:
        return f"{pair.a} and {pair.b} are the same: every run has the same score."
    if pair.winner is not None:
        return f"{first} {_beats(case.metric)} {second}: {told}{_doubt(pair)}; {_repeated(case)}."
    if not case.balanced and pair.welch_holm is not None and pair.permutation_holm < ALPHA <= pair.welch_holm:
        doubt = (
            f"{_p(pair.permutation_holm)} by permutation, which takes unequal spread for a difference where numbers "
        )
        doubt += f"of seeds differ; {_p(pair.welch_holm)} by Welch's test"
        return f"No difference between {pair.a} and {pair.b} can be shown ({doubt}){_power(case)}."
    if pair.permutation_holm < ALPHA:
        return (
            f"{first} has the higher mean ({_p(pair.permutation_holm)}), but a run of it is not more often the "
            "better one: a few runs decide the mean, so neither can be called better."
        )
    return f"No difference between {pair.a} and {pair.b} can be shown ({first} above {second}: {told}){_power(case)}."


def _doubt(pair: Pair) -> str:
    if pair.welch_holm is None or pair.welch_holm < ALPHA:
        return ""
    return f" (Welch's test, from which a few runs far off can hide it, does not show it: {_p(pair.welch_holm)})"


def _repeated(case: _Case) -> str:
    """How surely the same would be seen again."""
    more = case.pair.more_seeds
    return f"{case.missed}; {more} more of each would bring that to {100 * MISS:.0f} %" if more else case.missed


def _power(case: _Case) -> str:
    """What it would take to know."""
    more = case.pair.more_seeds
    if case.pair.missed is None:
        return ""
    if more is None:
        return f"; {case.missed}, and {MAX_MORE:,} more would not settle it"
    return f"; {case.missed}; {more} more {'seed' if more == 1 else 'seeds'} of each would settle it" if more else ""


def _over_the_budget(case: _Case) -> str:
    """On the areas under the curves: who was ahead all along."""
    pair = case.pair
    if pair.area_holm >= ALPHA:
        return ""
    ahead = pair.a if pair.area_difference > 0 else pair.b
    word = "But over" if pair.winner not in (None, ahead) else "Over"
    what = "ahead" if rises(case.metric) else "higher"
    size = f"area under the curve {abs(pair.area_difference):.3g} more, {_p(pair.area_holm)}"
    return f" {word} the whole budget {ahead} is {what} ({size})."


def _p(value: float) -> str:
    return "p < 0.001" if value < 0.001 else f"p = {value:.3f}"


def overall(pairs: Sequence[Pair], leader: str, metric: str) -> str:
    """On all methods: of two what is said of the pair, else what the highest mean stands for."""
    if len(pairs) == 1:
        return pairs[0].verdict
    own = [pair for pair in pairs if leader in (pair.a, pair.b)]
    beaten = [pair.b if pair.a == leader else pair.a for pair in own if pair.winner == leader]
    open_ = [pair.b if pair.a == leader else pair.a for pair in own if pair.winner != leader]
    parts = [f"{_beats(metric)} {_and(beaten)}"] if beaten else []
    parts += [f"cannot be told from {_and(open_)}"] if open_ else []
    needs = [pair.more_seeds for pair in own if pair.winner != leader and pair.more_seeds]
    more = f" {max(needs)} more seeds of each would settle it." if needs and len(needs) == len(open_) else ""
    return f"{leader} has the highest mean, and {' and '.join(parts)}.{more}"


def _and(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
