"""Many seeds at once against one after the other, and what memory they take.

    .venv/bin/python benchmarks/seeds.py                    # 10 seeds of ppo_cartpole on 2 workers, 3 rounds
    .venv/bin/python benchmarks/seeds.py --steps 20_000     # shorter

Three ways in turn, in every round: a single run for each seed in a loop of the shell, the group with one worker, and
the group with as many workers as asked for. Times are whole commands, process start to exit; the processors' seconds
hardly depend on what else the machine does. Results go to benchmarks/results/seeds.json.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

HERE = Path(__file__).parent
RLTRAIN = [sys.executable, "-c", "from rltrain.cli.main import main; main()"]
LOOK_SECONDS = 0.3


def peak(pid: int) -> tuple[int, float]:
    """Parent of a process, and the most memory that it has had resident, in MiB. Raises OSError when it is gone."""
    told = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return int(told["PPid"]), int(told.get("VmHWM", "0 kB").split()[0]) / 1024


class Measured(NamedTuple):
    """What one command took."""

    seconds: float  # on the clock
    cpu_seconds: float  # of all its processes
    parent_mib: float  # peak memory of the command itself
    worker_mib: float  # the greatest peak of the processes that it started; 0 without any


def command(*arguments: str) -> Measured:
    """Run `rltrain`, and look at its processes while it runs."""
    began, before = time.perf_counter(), os.times()
    process = subprocess.Popen([*RLTRAIN, *arguments, "--quiet"])
    own = worker = 0.0
    while True:
        try:
            process.wait(LOOK_SECONDS)
            break
        except subprocess.TimeoutExpired:
            for entry in filter(str.isdigit, os.listdir("/proc")):
                with suppress(OSError, KeyError):  # it may have ended
                    parent, memory = peak(int(entry))
                    own = max(own, memory) if int(entry) == process.pid else own
                    worker = max(worker, memory) if parent == process.pid else worker
    seconds, after = time.perf_counter() - began, os.times()
    if process.returncode:
        sys.exit(f"rltrain {' '.join(arguments)} ended with {process.returncode}")
    busy = after.children_user + after.children_system - before.children_user - before.children_system
    return Measured(seconds, busy, own, worker)


def one_round(config: str, seeds: int, workers: int, overrides: list[str]) -> dict[str, Any]:
    """Every way once."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        train = ("train", config, *overrides)
        single = [command(*train, f"seed={seed}", "--run-dir", f"{name}/single-{seed}") for seed in range(seeds)]
        many = (*train, "--seeds", f"0-{seeds - 1}", "--workers")
        one = command(*many, "1", "--run-dir", f"{name}/one")
        group = command(*many, str(workers), "--run-dir", f"{name}/group")
        for seed in range(seeds):
            runs = (f"single-{seed}", f"one/seed-{seed}", f"group/seed-{seed}")
            logs = [folder / run / "metrics.jsonl" for run in runs]
            assert len({log.read_bytes() for log in logs}) == 1, f"seed {seed} differs"
    loop = sum(run.seconds for run in single)
    return {
        "loop_seconds": loop,
        "one_worker_seconds": one.seconds,
        "group_seconds": group.seconds,
        "times_the_loop": loop / group.seconds,
        "times_one_worker": one.seconds / group.seconds,
        "loop_cpu_seconds": sum(run.cpu_seconds for run in single),
        "group_cpu_seconds": group.cpu_seconds,
        "single_peak_mib": max(run.parent_mib for run in single),
        "worker_peak_mib": group.worker_mib,
        "parent_peak_mib": group.parent_mib,
        "load_average": os.getloadavg()[0],
    }


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", default="configs/ppo_cartpole.yaml")
    parser.add_argument("--steps", type=int, help="instead of the configuration's")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    overrides = [f"train.total_steps={options.steps}"] if options.steps else []
    rounds = []
    for _ in range(options.rounds):
        rounds.append(one_round(options.config, options.seeds, options.workers, overrides))
        print(json.dumps(rounds[-1]), flush=True)
    result = {
        **vars(options),
        "cores": len(os.sched_getaffinity(0)),
        **{name: statistics.median(row[name] for row in rounds) for name in rounds[0]},
        "rounds_measured": rounds,
    }
    (HERE / "results" / "seeds.json").write_text(json.dumps(result, indent=2) + "\n")
    print(f"{result['times_the_loop']:.2f} times the loop, {result['times_one_worker']:.2f} times one worker")


if __name__ == "__main__":
    main()
