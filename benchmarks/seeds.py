"""Many seeds at once against one after the other, and what memory they take.

    .venv/bin/python benchmarks/seeds.py                    # 10 seeds of ppo_cartpole on 2 workers, 3 rounds
    .venv/bin/python benchmarks/seeds.py --steps 20_000     # shorter

Three ways in turn, in every round: a single run for each seed in a loop of the shell, the group with one worker, and
the group with as many workers as asked for. Times are whole commands, process start to exit. Results go to
benchmarks/results/seeds.json.
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
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
RLTRAIN = [sys.executable, "-c", "from rltrain.cli.main import main; main()"]
LOOK_SECONDS = 0.1


def peak(pid: int) -> tuple[int, float]:
    """Parent of a process, and the most memory that it has had resident, in MiB. Raises OSError when it is gone."""
    told = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return int(told["PPid"]), int(told.get("VmHWM", "0 kB").split()[0]) / 1024


def command(*arguments: str) -> tuple[float, dict[int, float], int]:
    """Seconds that a command takes; the peak memory of every process that it started, and its own process."""
    began = time.perf_counter()
    process = subprocess.Popen([*RLTRAIN, *arguments, "--quiet"])
    peaks: dict[int, float] = {}
    while process.poll() is None:
        for entry in os.listdir("/proc"):
            try:
                parent, memory = peak(int(entry))
            except (OSError, ValueError):
                continue
            if process.pid in (int(entry), parent):
                peaks[int(entry)] = memory
        time.sleep(LOOK_SECONDS)
    seconds = time.perf_counter() - began
    if process.returncode:
        sys.exit(f"rltrain {' '.join(arguments)} ended with {process.returncode}")
    return seconds, peaks, process.pid


def one_round(config: str, seeds: int, workers: int, overrides: list[str]) -> dict[str, Any]:
    """Every way once."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        loop = 0.0
        single: list[float] = []
        for seed in range(seeds):
            seconds, peaks, _ = command(
                "train", config, f"seed={seed}", *overrides, "--run-dir", str(folder / f"single-{seed}")
            )
            loop += seconds
            single += peaks.values()
        many = ("train", config, *overrides, "--seeds", f"0-{seeds - 1}")
        one, _, _ = command(*many, "--workers", "1", "--run-dir", str(folder / "one"))
        group, peaks, own = command(*many, "--workers", str(workers), "--run-dir", str(folder / "group"))
        for seed in range(seeds):
            runs = (f"single-{seed}", f"one/seed-{seed}", f"group/seed-{seed}")
            logs = [folder / run / "metrics.jsonl" for run in runs]
            assert len({log.read_bytes() for log in logs}) == 1, f"seed {seed} differs"
    return {
        "loop_seconds": loop,
        "one_worker_seconds": one,
        "group_seconds": group,
        "times_the_loop": loop / group,
        "times_one_worker": one / group,
        "single_peak_mib": max(single),
        "worker_peak_mib": max(memory for pid, memory in peaks.items() if pid != own),
        "parent_peak_mib": peaks[own],
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
