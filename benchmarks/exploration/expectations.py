"""What theory says of the strategies, as claims about the results that hold or do not."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from scipy.stats import ttest_ind

Results = dict[tuple[str, str, str], dict[str, Any]]


def judged(results: Results) -> list[tuple[bool, str]]:
    """Every claim with whether it holds; a claim without results does not."""
    return [*_deep_sea(results), *_regret(results), *_sparse(results)]


def _solved(data: dict[str, Any]) -> int:
    return sum(row["final"] >= data["bar"] - 1e-9 for row in data["rows"])


def _at_least(results: Results, key: tuple[str, str, str], least: int) -> tuple[bool, str]:
    name = " / ".join(key)
    if key not in results:
        return False, f"{name}: not measured"
    data = results[key]
    count = _solved(data)
    return count >= least, f"{name} is solved by at least {least} of {len(data['rows'])} seeds (seen: {count})"


def _at_most(results: Results, key: tuple[str, str, str], most: int) -> tuple[bool, str]:
    name = " / ".join(key)
    if key not in results:
        return False, f"{name}: not measured"
    data = results[key]
    count = _solved(data)
    return count <= most, f"{name} is solved by at most {most} of {len(data['rows'])} seeds (seen: {count})"


def _never(results: Results, key: tuple[str, str, str]) -> tuple[bool, str]:
    name = " / ".join(key)
    if key not in results:
        return False, f"{name}: not measured"
    rows = results[key]["rows"]
    count = sum(row["first_success"] is not None for row in rows)
    return count == 0, f"{name} finds nothing within the budget on any seed (seen: {count} of {len(rows)} found it)"


def _deep_sea(results: Results) -> Iterator[tuple[bool, str]]:
    """Dithering needs about 2^20 episodes; optimism, posteriors and counts need few."""
    for agent in ("q_learning", "dqn"):
        yield _never(results, ("deep_sea_20", agent, "epsilon_greedy"))
    for agent, strategy in (("q_learning", "count"), ("q_learning", "thompson"), ("dqn", "bootstrapped")):
        yield _at_least(results, ("deep_sea_20", agent, strategy), 9)


def _regret(results: Results) -> Iterator[tuple[bool, str]]:
    """One-sided Welch test at 2.5 %."""
    for strategy in ("ucb", "thompson"):
        pair = [results.get(("river_swim", "q_learning", name)) for name in (strategy, "epsilon_greedy")]
        if pair[0] is None or pair[1] is None:
            yield False, f"river_swim / q_learning / {strategy}: not measured"
            continue
        mine, its = ([row["regret"] for row in data["rows"]] for data in pair if data is not None)
        p = float(ttest_ind(mine, its, equal_var=False, alternative="less").pvalue)
        yield (
            p < 0.025,
            f"river_swim / q_learning: {strategy} has less regret than epsilon_greedy "
            f"(seen: {np.mean(mine):,.0f} and {np.mean(its):,.0f}, p = {p:.2g})",
        )


def _sparse(results: Results) -> Iterator[tuple[bool, str]]:
    """A reward that undirected noise does not find."""
    for agent, plain in (("ppo", "none"), ("dqn", "epsilon_greedy")):
        yield _at_most(results, ("mountain_car", agent, plain), 2)
        bonuses = [key for key in results if key[:2] == ("mountain_car", agent) and key[2] in ("rnd", "hashed_count")]
        if not bonuses:
            yield False, f"mountain_car / {agent} / rnd or hashed_count: not measured"
            continue
        best = max(bonuses, key=lambda key: _solved(results[key]))
        yield _at_least(results, best, 9)
