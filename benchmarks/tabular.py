"""Tabular agents against the exact optimum: train configurations on many seeds and value every policy exactly.

    .venv/bin/python benchmarks/tabular.py configs/*_frozenlake_4x4.yaml --seeds 100-109

No episode is sampled: a policy's value is computed from the environment's model. Each run is looked at
fifty times; the first time from which on it stays within 1 % of the optimum is its "steps to the optimum". Results
go to benchmarks/results/tabular/<config>.json.
"""

from __future__ import annotations

import argparse
import json
import time
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from rltrain.config.load import load
from rltrain.evaluation import EvalProtocol
from rltrain.exact import ExactEvaluator
from rltrain.experiment import Experiment, build
from rltrain.selection import RowSelector
from rltrain.statistics.intervals import t_interval

HERE = Path(__file__).parent
LOOKS = 50
WITHIN = 99.0
"""Percent of the way from a random policy to the optimum that counts as having reached it."""


def behaviour_value(experiment: Experiment) -> float | None:
    """Expected Q of the exploring policy in the first state: what an on-policy agent thinks its own policy is worth."""
    agent: Any = experiment.agent
    model, selector = experiment.spec.model, getattr(agent, "exploration", None)
    if model is None or not isinstance(selector, RowSelector) or type(selector).probabilities is None:
        return None
    levels, total, policy = selector.levels_at(agent.steps), 0.0, np.zeros(model.actions)
    for state in np.flatnonzero(model.start):
        type(selector).probabilities(agent.memory.q[state], agent.memory.visits[state], levels, policy)
        total += model.start[state] * float(policy @ agent.memory.q[state])
    return total


def one_seed(config: str, seed: int) -> dict[str, Any]:
    """Train one seed; its exact figures over time."""
    experiment = build(load(Path(config), [f"seed={seed}"]).config)
    model, settings = experiment.spec.model, experiment.config
    assert model is not None, f"{config}: the environment does not tell its model"
    horizon = EvalProtocol.of(settings.eval, experiment.spec).max_episode_steps
    exact = ExactEvaluator(model, gamma=settings.agent.gamma, horizon=horizon)  # type: ignore[attr-defined]
    states, total = np.arange(model.states), settings.train.total_steps
    reached, seconds = None, 0.0
    experiment.loop.advance(1)  # a compiled loop is compiled or loaded here
    for look in range(1, LOOKS + 1):
        goal = total * look // LOOKS
        began = time.perf_counter()
        if goal > experiment.loop.steps:
            experiment.loop.advance(goal - experiment.loop.steps)
        seconds += time.perf_counter() - began
        figures = exact(experiment.agent.act(states, explore=False), experiment.agent.values(states))
        if figures["percent_of_optimal"] < WITHIN:
            reached = None
        elif reached is None:
            reached = experiment.loop.steps
    experiment.envs.close()
    return {"seed": seed, "reached": reached, "seconds": seconds, "behaviour_value": behaviour_value(experiment),
            "loop": type(experiment.loop).__name__, **figures}  # fmt: skip


def interval(values: list[float]) -> list[float]:
    """Student's t interval of the mean over seeds, 95 %."""
    found = t_interval(np.array(values))
    return [values[0], values[0]] if found is None else list(found)


def measure(config: str, seeds: range, workers: int) -> dict[str, Any]:
    """All seeds of one configuration."""
    with ProcessPoolExecutor(workers) as pool:
        rows = list(pool.map(partial(one_seed, config), seeds))
    settings = load(Path(config)).config
    values = [row["exact_return"] for row in rows]
    return {
        "config": config,
        "agent": settings.agent.name,  # type: ignore[attr-defined]
        "env": settings.env.id,
        "total_steps": settings.train.total_steps,
        "protocol": "exact value of the final greedy policy within the evaluation's step limit; t interval over seeds",
        "optimal_return": rows[0]["optimal_return"],
        "exact_return_mean": float(np.mean(values)),
        "exact_return_ci95": interval(values),
        "steps_per_second": float(np.median([settings.train.total_steps / row["seconds"] for row in rows])),
        "rows": rows,
    }


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("configs", nargs="+")
    parser.add_argument("--seeds", default="100-109", help="first-last; the settings were chosen on 0-9")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--out", type=Path, default=HERE / "results" / "tabular")
    options = parser.parse_args()
    first, last = map(int, options.seeds.split("-"))
    options.out.mkdir(parents=True, exist_ok=True)
    for config in options.configs:
        result = measure(config, range(first, last + 1), options.workers)
        (options.out / f"{Path(config).stem}.json").write_text(json.dumps(result, indent=2) + "\n")
        worst = max(row["regret"] for row in result["rows"])
        reached = sorted(row["reached"] or 10**12 for row in result["rows"])
        print(
            f"{Path(config).stem:36s} mean {result['exact_return_mean']:.6f} of {result['optimal_return']:.6f}, worst "
            f"regret {worst:.4f}, median steps to 1 % {reached[len(reached) // 2]:,}, "
            f"{result['steps_per_second'] / 1e6:.2f} M steps/s",
            flush=True,
        )


if __name__ == "__main__":
    main()
