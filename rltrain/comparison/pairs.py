"""Every two methods against each other, and what may be said of it in plain words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from rltrain.comparison.result import Pair
from rltrain.core import Array
from rltrain.statistics.intervals import MIN_RUNS, Estimate
from rltrain.statistics.power import MAX_MORE, MISS, chance_to_miss, detectable_difference, seeds_to_settle
from rltrain.statistics.significance import (
    ALPHA,
    difference,
    hedges_g,
    holm,
    improvement_estimate,
    permutation_test,
    welch,
)

RISING = ("return", "success_rate", "percent_of_optimal", "optimal_action_share")
"""Ends of the names of metrics of which more is better; of others it is only said which is higher."""


@dataclass(frozen=True)
class _Question:
    """Two methods on common tasks."""

    a: str
    b: str
    x: Sequence[Array]
    y: Sequence[Array]
    p: float  # of the permutation test, corrected
    p_welch: float | None  # corrected
    alpha: float  # level of a test among so many pairs
    metric: str

    @property
    def fewest(self) -> int:
        return min(map(len, (*self.x, *self.y)))

    @property
    def seeds(self) -> str:
        counts = sorted({len(task) for task in (*self.x, *self.y)})
        return f"{' to '.join(str(count) for count in (counts[0], counts[-1])[: len(counts)])} seeds"


def pairs_of(scores: Mapping[str, Sequence[Array]], metric: str) -> list[Pair]:
    """Compare every two methods, from their scores (R,) on each common task.

    A method is better where the permutation test, corrected over all pairs, says so at 5 %, and the probability of
    improvement points the same way; and never with fewer than five seeds.
    """
    chosen = list(combinations(scores, 2))
    tested = [welch(scores[a], scores[b]) for a, b in chosen]
    defined = [p for p in tested if p is not None]
    corrected = dict(zip([k for k, p in enumerate(tested) if p is not None], holm(defined), strict=True))
    permuted = [permutation_test(scores[a], scores[b]) for a, b in chosen]
    found = []
    for index, ((a, b), p) in enumerate(zip(chosen, holm(permuted), strict=True)):
        question = _Question(a, b, scores[a], scores[b], p, corrected.get(index), ALPHA / len(chosen), metric)
        found.append(_pair(question, tested[index], permuted[index]))
    return found


def _pair(question: _Question, p_welch: float | None, p_permutation: float) -> Pair:
    x, y, alpha = question.x, question.y, question.alpha
    gap, chance = difference(x, y), improvement_estimate(x, y)
    several = question.fewest > 1
    missed = chance_to_miss(gap, x, y, alpha=alpha) if several and gap else None
    more = seeds_to_settle(gap, x, y, alpha=alpha) if several else None
    winner = _winner(question, gap, chance)
    return Pair(
        a=question.a,
        b=question.b,
        difference=gap,
        improvement=chance,
        welch=p_welch,
        welch_holm=question.p_welch,
        permutation=p_permutation,
        permutation_holm=question.p,
        effect_size=hedges_g(x, y),
        missed=missed,
        more_seeds=more,
        detectable=detectable_difference(x, y, alpha=alpha) if several else None,
        winner=winner,
        verdict=_verdict(question, winner, gap, chance, missed, more),
    )


def _winner(question: _Question, gap: float, chance: Estimate) -> str | None:
    if question.fewest < MIN_RUNS or question.p >= ALPHA or gap * (chance.value - 0.5) <= 0:
        return None
    return question.a if gap > 0 else question.b


def _verdict(
    question: _Question, winner: str | None, gap: float, chance: Estimate, missed: float | None, more: int | None
) -> str:
    """One sentence or two."""
    a, b = question.a, question.b
    first, second = (a, b) if gap > 0 or (gap == 0 and chance.value >= 0.5) else (b, a)
    chance = chance if first == a else _turned(chance)
    if question.fewest == 1:
        return (
            f"Nothing can be said of {a} and {b}: one seed does not tell what another would give. "
            f"Train at least {MIN_RUNS} seeds of each."
        )
    if not np.ptp(np.concatenate([*question.x, *question.y])):
        return f"{a} and {b} are the same: every run scores {question.x[0][0]:.5g}."
    if question.fewest < MIN_RUNS:
        lead = f"the mean of {first} is {abs(gap):.4g} above that of {second}" if gap else "the means are equal"
        return f"{question.seeds} are too few for a verdict on {a} and {b}, which takes {MIN_RUNS}. So far {lead}."
    told = f"{_chance(chance)}, p = {_p(question.p)}"
    if winner is not None:
        verb = "is better than" if question.metric.endswith(RISING) else f"has a higher {question.metric} than"
        return f"{first} {verb} {second}: {told}{_doubt(question)}{_repeat(question, gap, missed, more)}."
    if question.p < ALPHA:
        return (
            f"{first} has the higher mean (p = {_p(question.p)}), but a run of it is not more often the better one "
            f"(P = {chance.value:.2f}): a few runs decide the mean, so neither can be called better."
        )
    told = f"{first} above {second}: {told}"
    return f"No difference between {a} and {b} can be shown ({told}){_power(question, gap, missed, more)}."


def _doubt(question: _Question) -> str:
    if question.p_welch is None or question.p_welch < ALPHA:
        return ""
    return f" (Welch's test, to which a few runs far away are spread, does not show it: p = {_p(question.p_welch)})"


def _repeat(question: _Question, gap: float, missed: float | None, more: int | None) -> str:
    """How surely the same would be seen again."""
    if missed is None:
        return ""
    text = _missed(question, gap, missed)
    return f"{text}; {more} more of each would bring that to {_percent(MISS)}" if more else text


def _power(question: _Question, gap: float, missed: float | None, more: int | None) -> str:
    if missed is None:
        return ""
    text = _missed(question, gap, missed)
    if more is None:
        return f"{text}, and {MAX_MORE:,} more would not settle it"
    return f"{text}; {more} more {'seed' if more == 1 else 'seeds'} of each would settle it" if more else text


def _turned(chance: Estimate) -> Estimate:
    """The same of the other method."""
    if chance.low is None or chance.high is None:
        return Estimate(1 - chance.value)
    return Estimate(1 - chance.value, 1 - chance.high, 1 - chance.low)


def _missed(question: _Question, gap: float, missed: float) -> str:
    return (
        f"; with these {question.seeds} a difference of {abs(gap):.3g} would be missed {_percent(missed)} of the time"
    )


def _chance(chance: Estimate) -> str:
    """A bootstrap knows nothing beyond the runs at hand: where they are apart altogether, it has no interval."""
    if chance.low is None or chance.high is None or (chance.value == 1 and chance.low == 1):
        return "P = 1.00, every run above every run" if chance.value == 1 else f"P = {chance.value:.2f}"
    return f"P = {chance.value:.2f} [{chance.low:.2f}, {chance.high:.2f}]"


def _p(value: float) -> str:
    return "below 0.001" if value < 0.001 else f"{value:.3f}"


def _percent(share: float) -> str:
    return "less than 1 %" if share < 0.01 else f"{100 * share:.0f} %"


def overall(pairs: Sequence[Pair], leader: str) -> str:
    """The verdict on all methods: the pair's where there are two, else what the highest mean stands for."""
    if len(pairs) == 1:
        return pairs[0].verdict
    own = [pair for pair in pairs if leader in (pair.a, pair.b)]
    beaten = [pair.b if pair.a == leader else pair.a for pair in own if pair.winner == leader]
    open_ = [pair.b if pair.a == leader else pair.a for pair in own if pair.winner != leader]
    parts = [f"better than {_and(beaten)}"] if beaten else []
    parts += [f"not to be told from {_and(open_)}"] if open_ else []
    needs = [pair.more_seeds for pair in own if pair.winner != leader and pair.more_seeds]
    more = f" {max(needs)} more seeds of each would settle it." if needs and len(needs) == len(open_) else ""
    return f"{leader} has the highest mean, and is {' and '.join(parts)}.{more}"


def _and(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
