"""Every strategy on every task: choose its settings on some seeds, measure it on others, write the results.

    .venv/bin/python benchmarks/exploration/run.py [--only PATTERN] [--again] [--workers 2]
    .venv/bin/python benchmarks/exploration/page.py     # tables, plots and what theory says of them

A cell is a task, an agent and a strategy, written as task/agent/strategy; `--only 'deep_sea_*/q_learning/*'` takes some
of them. Cells that are there already are left alone, so an interrupted command goes on where it stopped.
Results go to benchmarks/results/exploration/, a file a cell.
"""

from __future__ import annotations

import argparse
import json
import math
import os
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import numpy as np
from grid import STRATEGIES, TASKS, Candidate, Task, configuration
from measure import one_run

RESULTS = Path(__file__).parent.parent / "results" / "exploration"
CHOOSING = range(5)
REPORTED = range(100, 110)
"""Ten seeds that no setting was chosen on."""


def cells(pattern: str) -> Iterator[tuple[str, str, str, list[Candidate]]]:
    """Task, agent, strategy and its candidates."""
    for task_name, task in TASKS.items():
        for agent in task.steps:
            for strategy, candidates in STRATEGIES[agent](task).items():
                if fnmatch(f"{task_name}/{agent}/{strategy}", pattern):
                    yield task_name, agent, strategy, candidates


def _run(arguments: tuple[dict[str, Any], float | None]) -> dict[str, Any]:
    return one_run(*arguments)


def measured(pool: ProcessPoolExecutor, task: Task, agent: str, candidate: Candidate, seeds: range) -> list[Any]:
    """Rows of all seeds."""
    jobs = [(configuration(task, agent, candidate, seed), task.success) for seed in seeds]
    return list(pool.map(_run, jobs))


def chosen(pool: ProcessPoolExecutor, task: Task, agent: str, candidates: list[Candidate]) -> Candidate:
    """The candidate with the greatest mean return while learning; the first of equally good ones."""
    if len(candidates) == 1:
        return candidates[0]
    jobs = [(configuration(task, agent, each, seed), task.success) for each in candidates for seed in CHOOSING]
    rows = np.array([row["learning_return"] for row in pool.map(_run, jobs)]).reshape(len(candidates), -1)
    means = [mean if math.isfinite(mean) else -math.inf for mean in rows.mean(1)]
    return candidates[int(np.argmax(means))]


def write(file: Path, result: dict[str, Any]) -> None:
    """Whole or not at all."""
    file.parent.mkdir(parents=True, exist_ok=True)
    partial = file.with_suffix(".partial")
    partial.write_text(json.dumps(result) + "\n")
    partial.replace(file)


def main() -> None:
    """Measure and write, one cell after the other."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="*", help="task/agent/strategy, with * and ?")
    parser.add_argument("--again", action="store_true", help="also cells that have a result")
    parser.add_argument("--workers", type=int, default=os.cpu_count())
    options = parser.parse_args()
    with ProcessPoolExecutor(options.workers) as pool:
        for name, agent, strategy, candidates in cells(options.only):
            file = RESULTS / f"{name}.{agent}.{strategy}.json"
            if file.exists() and not options.again:
                continue
            task = TASKS[name]
            best = chosen(pool, task, agent, candidates)
            rows = measured(pool, task, agent, best, REPORTED)
            result = {"task": name, "agent": agent, "strategy": strategy, "steps": task.steps[agent]}
            result |= {"success": task.success, "bar": task.success if task.bar is None else task.bar}
            write(file, result | {"settings": asdict(best), "rows": rows})
            found = [row["first_success"] for row in rows if row["first_success"] is not None]
            print(f"{file.stem:44s} found by {len(found)} of {len(rows)}", end=", ")
            print(f"return while learning {np.mean([row['learning_return'] for row in rows]):.3g}", end=", ")
            print(f"final {np.mean([row['final'] for row in rows]):.4g}", flush=True)


if __name__ == "__main__":
    main()
