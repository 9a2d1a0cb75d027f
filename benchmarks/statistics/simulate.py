"""Do the intervals cover what they say, and do the tests cry wolf as seldom as they say? On data whose truth is known.

    .venv/bin/python benchmarks/statistics/simulate.py

Three kinds of scores: normal; bimodal, as of an agent that fails on one seed in five (500 or 100, and a little noise);
and lognormal, with a long tail. Results go to benchmarks/results/statistics.json, tables to docs/statistics.md.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from rltrain.statistics.aggregates import interquartile_mean, mean
from rltrain.statistics.intervals import CURVE_REPETITIONS, Statistic, draw, percentile_interval, replicates, t_interval
from rltrain.statistics.power import chance_to_miss
from rltrain.statistics.significance import ALPHA, holm, improvement_replicates, permutation_test, welch

ROOT = Path(__file__).parent.parent.parent
RESULTS = ROOT / "benchmarks" / "results" / "statistics.json"
PAGE = ROOT / "docs" / "statistics.md"
SEEDS = (3, 5, 10, 20)
CHUNK = 100
"""Data sets that are bootstrapped at once."""
Draw = Callable[[np.random.Generator, tuple[int, ...]], np.ndarray]


def bimodal(rng: np.random.Generator, size: tuple[int, ...]) -> np.ndarray:
    """500 on four seeds of five, 100 on the fifth, with a standard deviation of 5."""
    return np.where(rng.random(size) < 0.8, 500.0, 100.0) + rng.normal(0, 5, size)


KINDS: dict[str, Draw] = {
    "normal": lambda rng, size: rng.normal(0, 1, size),
    "bimodal": bimodal,
    "lognormal": lambda rng, size: rng.lognormal(0, 1, size),
}


def truth(kind: str, statistic: Statistic) -> float:
    """The figure of endlessly many seeds, from four million."""
    return float(statistic(KINDS[kind](np.random.default_rng(1), (4_000_000,))))


def bootstrapped(statistic: Statistic, data: np.ndarray) -> Iterator[tuple[float, float]]:
    """The percentile interval of every data set (D, R), with the draws that the shipped functions would use."""
    draws = draw(np.random.default_rng(0), [data[0]], CURVE_REPETITIONS)
    for begin in range(0, len(data), CHUNK):
        low, high = percentile_interval(replicates(statistic, [data[begin : begin + CHUNK]], draws))
        yield from zip(low, high, strict=True)


def coverage(kind: str, seeds: int, sets: int) -> dict[str, float]:
    """Share of data sets whose 95 % interval holds the truth."""
    data = KINDS[kind](np.random.default_rng(seeds), (sets, seeds))
    center, middle = truth(kind, mean), truth(kind, interquartile_mean)
    t = [bounds for row in data if (bounds := t_interval(row)) is not None]
    intervals = {
        "t interval of the mean": (t, center),
        "bootstrap of the mean": (bootstrapped(mean, data), center),
        "bootstrap of the IQM": (bootstrapped(interquartile_mean, data), middle),
    }
    return {
        name: float(np.mean([low <= true <= high for low, high in found])) for name, (found, true) in intervals.items()
    }


def false_alarms(kind: str, seeds: int, triples: int) -> dict[str, float]:
    """Share of equal methods that a test at 5 % tells apart; three methods at a time, so three pairs each."""
    data = KINDS[kind](np.random.default_rng(seeds), (triples, 3, seeds))
    rng = np.random.default_rng(0)
    draws = [draw(rng, [data[0, 0]], CURVE_REPETITIONS) for _ in range(2)]
    alarms: dict[str, list[bool]] = {}
    for methods in data:
        pairs = [([methods[a]], [methods[b]]) for a, b in combinations(range(3), 2)]
        tests = {"Welch": [welch(*pair) or 0.0 for pair in pairs]}
        tests["permutation"] = [permutation_test(*pair) for pair in pairs]
        for name, p in tests.items():
            alarms.setdefault(name, []).extend(each < ALPHA for each in p)
            alarms.setdefault(f"any of 3 pairs, {name} with Holm", []).append(min(holm(p)) < ALPHA)
            alarms.setdefault(f"any of 3 pairs, {name} without", []).append(min(p) < ALPHA)
        for pair in pairs:
            low, high = percentile_interval(improvement_replicates(*pair, *draws))
            alarms.setdefault("interval of P leaves out 0.5", []).append(not low <= 0.5 <= high)
    return {name: float(np.mean(found)) for name, found in alarms.items()}


def unequal_spread(pairs: int) -> dict[str, dict[str, float]]:
    """Share of false alarms where means are equal and one method has three times the spread of the other."""
    found = {}
    for wide, narrow in ((10, 10), (5, 20), (20, 5)):
        rng = np.random.default_rng(wide)
        data = [([rng.normal(0, 3, wide)], [rng.normal(0, 1, narrow)]) for _ in range(pairs)]
        p = np.array([(welch(*pair), permutation_test(*pair)) for pair in data], np.float64)
        either, both = (p < ALPHA).mean(axis=0), (p < ALPHA).all(axis=1).mean()
        found[f"{wide} and {narrow}"] = {
            "Welch": float(either[0]),
            "permutation": float(either[1]),
            "both": float(both),
        }
    return found


def missed(effect: float, seeds: int) -> float:
    """Chance to miss a difference of so many standard deviations."""
    scores = np.linspace(-1, 1, seeds)
    return chance_to_miss(effect, [scores / scores.std(ddof=1)], [scores / scores.std(ddof=1)])


def simulate(sets: int = 10_000, triples: int = 3_334) -> dict[str, Any]:
    """All of it."""
    result: dict[str, Any] = {"sets": sets, "pairs": 3 * triples, "seeds_of_pairs": 10, "coverage": {}, "alarms": {}}
    for kind in KINDS:
        result["coverage"][kind] = {str(seeds): coverage(kind, seeds, sets) for seeds in SEEDS}
        result["alarms"][kind] = false_alarms(kind, 10, triples)
        print(kind, json.dumps({name: result[name][kind] for name in ("coverage", "alarms")}), flush=True)
    result["unequal_spread"] = unequal_spread(triples)
    result["missed"] = {f"{d:g}": {str(n): missed(d, n) for n in (5, 10, 20, 40)} for d in (0.5, 1.0, 1.5, 2.0)}
    return result


def table(heads: list[str], rows: list[list[str]]) -> str:
    """In Markdown."""
    return "\n".join(f"| {' | '.join(row)} |" for row in [heads, ["---"] * len(heads), *rows])


def tables(result: dict[str, Any]) -> dict[str, str]:
    """Marker of the page -> table."""
    percent = "{:.1f} %".format
    covered = [
        [kind, name, *(percent(100 * result["coverage"][kind][str(seeds)][name]) for seeds in SEEDS)]
        for kind in KINDS
        for name in result["coverage"][kind]["3"]
    ]
    names = list(result["alarms"]["normal"])
    alarms = [[name, *(percent(100 * result["alarms"][kind][name]) for kind in KINDS)] for name in names]
    uneven = [[n, *(percent(100 * share) for share in row.values())] for n, row in result["unequal_spread"].items()]
    lost = [[f"{d} s", *(f"{100 * share:.0f} %" for share in row.values())] for d, row in result["missed"].items()]
    return {
        "coverage": table(["scores", "95 % interval", *(f"{seeds} seeds" for seeds in SEEDS)], covered),
        "alarms": table(["test at 5 %, 10 seeds each", *KINDS], alarms),
        "unequal spread": table(["seeds of the wide and the narrow one", "Welch", "permutation", "both"], uneven),
        "missed": table(["true difference", *(f"{n} seeds each" for n in (5, 10, 20, 40))], lost),
    }


def main() -> None:
    """Simulate, and write results and tables."""
    result = simulate()
    RESULTS.write_text(json.dumps(result, indent=2) + "\n")
    text = PAGE.read_text()
    for name, found in tables(result).items():
        text = re.sub(rf"<!-- {name} -->\n(\n(\|.*\n)+)?", lambda _, n=name, t=found: f"<!-- {n} -->\n\n{t}\n", text)
    PAGE.write_text(text)


if __name__ == "__main__":
    main()
