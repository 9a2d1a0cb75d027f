"""What a search costs beside the training: the overhead of a trial, and how busy its workers are.

    .venv/bin/python benchmarks/tuning.py                     # 40 empty trials and 12 real ones, 3 rounds
    .venv/bin/python benchmarks/tuning.py --rounds 1

An empty trial is one seed of one environment step: what is left is the sampler, the storage, the folders and files of a
run, and the way between the processes. The first one is not counted: it starts the worker. Processors' seconds hardly
depend on what else the machine does, times on the clock do; a loop in pure Python, timed beside each round, tells how
slow the machine was just then. Workers' efficiency is the time of a search with one worker over twice that with two,
from the begin of its first trial to the end of its last. Results go to benchmarks/results/tuning.json.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from rltrain.tuning.reading import read_study

HERE = Path(__file__).parent
RLTRAIN = [sys.executable, "-c", "from rltrain.cli.main import main; main()"]
EMPTY = """
env: {id: FrozenLake-v1}
agent: {name: q_learning, learning_rate: 0.1}
exploration: {name: epsilon_greedy, epsilon: 0.2}
train: {total_steps: 1}
eval: {episodes: 1}
device: cpu
tune:
  sampler: random
  trials: 40
  seeds_per_trial: 1
  objective: eval/return
  confirm: {top: 0}
  search:
    agent.gamma: {uniform: [0.5, 1.0]}
"""
REAL = (
    "tune.pruner=none", "tune.sampler=random", "tune.seeds_per_trial=1", "tune.confirm.top=0",
    "tune.search={agent.gamma: {uniform: [0.95, 0.99]}}",
)  # fmt: skip
"""Trials that take the same time, so that none keeps a worker waiting at the end."""


def yardstick() -> float:
    """Seconds of a fixed loop in pure Python, the median of three."""
    times = []
    for _ in range(3):
        began = time.perf_counter()
        total = 0
        for number in range(1_000_000):
            total += number & 7
        times.append(time.perf_counter() - began)
    return statistics.median(times)


def search(folder: Path, config: Path, name: str, workers: int, *overrides: str) -> dict[str, float]:
    """Run a study; times between its trials, and processors' seconds of the whole command."""
    before, began = os.times(), time.perf_counter()
    options = ["--study", name, "--workers", str(workers), "--quiet"]
    subprocess.run([*RLTRAIN, "tune", str(config), *overrides, *options], cwd=folder, check=True)
    whole, after = time.perf_counter() - began, os.times()
    study = folder / "runs" / config.stem / "tune" / name
    trials = read_study(study, None).trials()
    ends = sorted(trial.datetime_complete for trial in trials if trial.datetime_complete is not None)
    begins = [trial.datetime_start for trial in trials if trial.datetime_start is not None]
    assert all(trial.state.name == "COMPLETE" for trial in trials), name
    sittings = [json.loads(path.read_bytes())["sittings"][0] for path in study.glob("trial-*/seed-*/sittings.json")]
    between = [(b - a).total_seconds() for a, b in itertools.pairwise(ends)]
    return {
        "trials": len(trials),
        "seconds": (ends[-1] - min(begins)).total_seconds(),
        "whole_seconds": whole,
        "median_between_ends": statistics.median(between),
        "training_seconds": sum(sitting["seconds"] for sitting in sittings),
        "cpu_seconds": sum(after[2:4]) - sum(before[2:4]),
    }


def one_round(config: Path, steps: int, trials: int) -> dict[str, Any]:
    """Empty trials with few and with many in a study, and real ones with one worker and with two."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "empty.yaml").write_text(EMPTY)
        slow = yardstick()
        few = search(folder, folder / "empty.yaml", "few", 1, "tune.trials=2")
        empty = search(folder, folder / "empty.yaml", "many", 1)
        real = (*REAL, f"train.total_steps={steps}", f"tune.trials={trials}")
        one = search(folder, config, "one", 1, *real)
        two = search(folder, config, "two", 2, *real)
        slow = (slow + yardstick()) / 2
    more = empty["trials"] - few["trials"]
    return {
        "trial_seconds": empty["median_between_ends"],
        "trial_cpu_seconds": (empty["cpu_seconds"] - few["cpu_seconds"]) / more,
        "trial_in_loops": empty["median_between_ends"] / slow,
        "one_worker_seconds": one["seconds"],
        "two_workers_seconds": two["seconds"],
        "efficiency": one["seconds"] / (2 * two["seconds"]),
        "busy_with_two": two["training_seconds"] / (2 * two["seconds"]),
        "cpu_with_two_over_one": two["cpu_seconds"] / one["cpu_seconds"],
        "loop_seconds": slow,
        "load_average": os.getloadavg()[0],
    }


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", default="configs/tune/dqn_cartpole.yaml")
    parser.add_argument("--steps", type=int, default=10_000)
    parser.add_argument("--trials", type=int, default=12)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    rounds = []
    for _ in range(options.rounds):
        rounds.append(one_round(Path(options.config).resolve(), options.steps, options.trials))
        print(json.dumps(rounds[-1]), flush=True)
    result = {
        **vars(options),
        "cores": len(os.sched_getaffinity(0)),
        **{name: statistics.median(row[name] for row in rounds) for name in rounds[0]},
        "rounds_measured": rounds,
    }
    (HERE / "results" / "tuning.json").write_text(json.dumps(result, indent=2) + "\n")
    print(f"a trial costs {result['trial_seconds']:.3f} s ({result['trial_cpu_seconds']:.3f} s of processors)")
    print(f"two workers: efficiency {result['efficiency']:.2f}, training {result['busy_with_two']:.0%} of the time")


if __name__ == "__main__":
    main()
