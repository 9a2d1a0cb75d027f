"""Gradient steps a second of sac and td3 on Pendulum beside Stable-Baselines3's, same settings, one thread.

    .venv/bin/python benchmarks/continuous.py --peer PATH/TO/PEER/bin/python [--pairs 5]

Both run in turn, each in a process of its own, and the ratio is taken pair by pair. On a machine that others use too,
the ratio of processor time is the one to read. Results go to benchmarks/results/continuous.json.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from pathlib import Path
from statistics import median
from typing import Any

HERE = Path(__file__).parent
ONE_THREAD = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
CASES = {  # agent, hidden sizes
    "sac, 2 x 256 units": ("sac", (256, 256)),
    "td3, 2 x 256 units": ("td3", (256, 256)),
    "td3, 400 and 300 units (published)": ("td3", (400, 300)),
}


def mine(agent: str, hidden: list[int], gradient_steps: int) -> dict[str, float]:
    """Gradient steps a second of wall and of processor time, in this process."""
    from rltrain.config.load import from_dict
    from rltrain.experiment import build

    settings: dict[str, Any] = {"name": agent, "learning_rate": 1e-3, "hidden_sizes": hidden, "batch_size": 256}
    data: dict[str, Any] = {"env": {"id": "Pendulum-v1"}, "train": {"total_steps": 1_000}, "seed": 0, "device": "cpu"}
    data["agent"] = settings | {"learning_starts": 100, "buffer_size": 20_000, "gamma": 0.99, "tau": 0.005}
    if agent == "td3":
        data["exploration"] = {"name": "gaussian_noise", "sigma": 0.1}
    experiment = build(from_dict(data).config)
    experiment.loop.advance(150)
    learner: Any = experiment.agent
    for _ in range(100):  # until loops are compiled, as in a run of any length
        learner._gradient_steps(1)
    began = time.perf_counter(), time.process_time()
    for _ in range(gradient_steps):
        learner._gradient_steps(1)
    wall, cpu = time.perf_counter() - began[0], time.process_time() - began[1]
    return {"wall": gradient_steps / wall, "cpu": gradient_steps / cpu}


def told(command: list[str]) -> dict[str, float]:
    """The last line that a process prints, as JSON."""
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=ONE_THREAD)
    figures: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return figures


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer", help="python of an environment with stable-baselines3")
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--gradient-steps", type=int, default=300)
    parser.add_argument("--alone", nargs="+", help=argparse.SUPPRESS)  # agent and hidden sizes, in a fresh process
    options = parser.parse_args()
    if options.alone:
        agent, *hidden = options.alone
        print(json.dumps(mine(agent, [int(size) for size in hidden], options.gradient_steps)))
        return
    cases: dict[str, Any] = {}
    for case, (agent, hidden) in CASES.items():
        sizes, count = [str(size) for size in hidden], ["--gradient-steps", str(options.gradient_steps)]
        own = [sys.executable, __file__, *count, "--alone", agent, *sizes]
        its = [options.peer, str(HERE / "peers" / "sb3_continuous.py"), agent, *count, "--hidden", *sizes]
        rows = [{"rltrain": told(own), "stable_baselines3": told(its)} for _ in range(options.pairs)]
        ratios = {
            key: median(row["rltrain"][key] / row["stable_baselines3"][key] for row in rows) for key in ("wall", "cpu")
        }
        cases[case] = {"unit": "gradient steps a second", "median_ratio": ratios, "pairs": rows}
        print(f"{case:36} ratio by wall {ratios['wall']:.2f}, by processor time {ratios['cpu']:.2f}", flush=True)
    machine = {"machine": f"{platform.machine()}, {os.cpu_count()} cores", "load_at_the_end": os.getloadavg()[0]}
    (HERE / "results" / "continuous.json").write_text(json.dumps(machine | {"cases": cases}, indent=1) + "\n")


if __name__ == "__main__":
    main()
