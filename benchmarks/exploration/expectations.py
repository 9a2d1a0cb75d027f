"""What theory says of the strategies, as claims about the results that hold or do not."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from rltrain.statistics.significance import difference, welch

Key = tuple[str, str, str]
Results = dict[Key, dict[str, Any]]
Verdict = tuple[bool | None, str]
"""Whether a claim holds, None where it was not measured; and the claim."""


def judged(results: Results) -> list[Verdict]:
    """Every claim with whether it holds; or could not be judged yet."""
    return [*_deep_sea(results), *_regret(results), *_sparse(results)]


def _solved(data: dict[str, Any]) -> int:
    return sum(row["final"] >= data["bar"] - 1e-9 for row in data["rows"])


def _found(data: dict[str, Any]) -> int:
    return sum(row["first_success"] is not None for row in data["rows"])


def _seeds(results: Results, key: Key, counted: Callable[[dict[str, Any]], int], least: int, most: int) -> Verdict:
    """Of how many seeds it holds that they found, or solved, the task: at least and at most so many."""
    name = " / ".join(key)
    if key not in results:
        return None, name
    count, of = counted(results[key]), len(results[key]["rows"])
    bound = f"at least {least}" if most >= of else f"at most {most}"
    verb = "is solved by" if counted is _solved else "is found by"
    return least <= count <= most, f"{name} {verb} {bound} of {of} seeds (seen: {count})"


def _deep_sea(results: Results) -> Iterator[Verdict]:
    """Dithering needs about 2^20 episodes; optimism, posteriors and counts need few."""
    for agent in ("q_learning", "dqn"):
        yield _seeds(results, ("deep_sea_20", agent, "epsilon_greedy"), _found, 0, 0)
    for agent, strategy in (("q_learning", "count"), ("q_learning", "thompson"), ("dqn", "bootstrapped")):
        yield _seeds(results, ("deep_sea_20", agent, strategy), _solved, 9, 10)


def _regret(results: Results) -> Iterator[Verdict]:
    """Welch test at 5 %, in the right direction."""
    for strategy in ("ucb", "thompson"):
        pair = [results.get(("river_swim", "q_learning", name)) for name in (strategy, "epsilon_greedy")]
        if pair[0] is None or pair[1] is None:
            yield None, f"river_swim / q_learning / {strategy}"
            continue
        mine, its = (np.array([row["regret"] for row in data["rows"]]) for data in pair if data is not None)
        p = welch([mine], [its]) or 0.0
        yield (
            p < 0.05 and difference([mine], [its]) < 0,
            f"river_swim / q_learning: {strategy} has less regret than epsilon_greedy "
            f"(seen: {np.mean(mine):,.0f} and {np.mean(its):,.0f}, p = {p:.2g})",
        )


def _sparse(results: Results) -> Iterator[Verdict]:
    """A reward that undirected noise does not find."""
    for agent, plain in (("ppo", "none_raw_observations"), ("dqn", "epsilon_greedy")):
        yield _seeds(results, ("mountain_car", agent, plain), _solved, 0, 2)
        bonuses = [key for key in results if key[:2] == ("mountain_car", agent) and key[2] in ("rnd", "hashed_count")]
        if not bonuses:
            yield None, f"mountain_car / {agent} / rnd or hashed_count"
            continue
        best = max(bonuses, key=lambda key: _solved(results[key]))
        yield _seeds(results, best, _solved, 9, 10)
