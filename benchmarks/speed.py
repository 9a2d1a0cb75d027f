"""Whole-run speed against Stable-Baselines3, start-up, evaluation, checkpoints and logging.

    .venv/bin/python benchmarks/speed.py --peer PATH/TO/PEER/bin/python [--pairs 3]

Both programs run in turn on one thread, so that a machine whose speed drifts slows both; the ratio is
taken pair by pair. Results go to benchmarks/results/speed.json.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

HERE = Path(__file__).parent
ROOT = HERE.parent
RLTRAIN = str(Path(sys.executable).parent / "rltrain")
ONE_THREAD = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}


def seconds(command: list[str]) -> float:
    """Wall seconds of a whole process. Raises CalledProcessError when it fails."""
    began = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True, env=ONE_THREAD, cwd=ROOT)
    return time.perf_counter() - began


def several(command: list[str], times: int = 7) -> float:
    """Median wall seconds, after one run that does not count."""
    seconds(command)
    return median(seconds(command) for _ in range(times))


def train_command(config: str, folder: Path) -> list[str]:
    """Train quietly into a fresh folder."""
    return [RLTRAIN, "train", config, "--quiet", "--run-dir", str(folder)]


def whole_runs(peer: str, pairs: int) -> dict[str, Any]:
    """The published DQN settings, 50,000 steps, process start to exit, in turn with the peer."""
    rows = []
    for pair in range(pairs):
        folder = Path(tempfile.mkdtemp()) / "run"
        mine = seconds(train_command("configs/published/dqn_cartpole.yaml", folder))
        its = seconds([peer, str(HERE / "peers" / "sb3_dqn.py")])
        rows.append({"rltrain": mine, "stable_baselines3": its, "ratio": its / mine})
        print(f"pair {pair + 1}: rltrain {mine:.1f} s, peer {its:.1f} s, ratio {its / mine:.2f}", flush=True)
    return {"pairs": rows, "median_ratio": median(row["ratio"] for row in rows)}


def small_figures() -> dict[str, float]:
    """Start-up, evaluation, checkpoints and logging."""
    folder = Path(tempfile.mkdtemp())
    config = "configs/dqn_cartpole.yaml"
    first = ["train.total_steps=1002", "eval.every=null", "train.log_every=100000"]
    imported = several([sys.executable, "-c", "import torch"])
    begun = []
    for number in range(6):
        code = (
            "import sys, os; from rltrain.agents.dqn import DQN; step = DQN._gradient_step\n"
            "def stop(self, *parts): step(self, *parts); os._exit(0)\n"
            "DQN._gradient_step = stop; from rltrain.cli.main import main; main()"
        )
        arguments = ["train", config, *first, "agent.learning_starts=2", "--quiet", "--run-dir"]
        begun.append(seconds([sys.executable, "-c", code, *arguments, str(folder / f"start{number}")]))
    run = folder / "run"
    seconds(train_command(config, run))
    return {
        "help_seconds": several([RLTRAIN, "--help"]),
        "check_seconds": several([RLTRAIN, "check", config]),
        "import_torch_seconds": imported,
        "first_gradient_step_seconds": median(begun[1:]),
        "first_gradient_step_over_import_torch": median(begun[1:]) / imported,
        **inside(run),
    }


def inside(run: Path) -> dict[str, float]:
    """Figures taken inside one process: 100 episodes in one vector, a checkpoint of 100 kB, a log entry."""
    import numpy as np

    from rltrain import checkpoint
    from rltrain.logger import RunLogger
    from rltrain.saved import SavedPolicy
    from rltrain.seeding import Stream, env_seeds

    with SavedPolicy.open(run) as policy:
        seeds = env_seeds(0, Stream.REPORT_EVAL, 100)
        policy.evaluator(seeds, policy.wrappers)
        began = time.perf_counter()
        length = policy.evaluator(seeds, policy.wrappers)["length_mean"]
        evaluation = time.perf_counter() - began
    folder = Path(tempfile.mkdtemp())
    state = {"weights": np.random.default_rng(0).random(25_000).astype(np.float32)}
    saves = []
    for step in range(20):
        began = time.perf_counter()
        checkpoint.save(folder, step, state, config={}, score=None)
        saves.append(time.perf_counter() - began)
    logger = RunLogger(folder)
    metrics = {f"group/metric{index}": float(index) for index in range(10)}
    logger.log(0, metrics)
    began = time.perf_counter()
    for step in range(1_000):
        logger.log(step, metrics)
    logged = (time.perf_counter() - began) / 1_000
    logger.close()
    return {
        "evaluation_100_episodes_seconds": evaluation,
        "evaluation_mean_length": length,
        "checkpoint_100kB_milliseconds": 1e3 * median(saves),
        "log_entry_microseconds": 1e6 * logged,
    }


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer", help="python of an environment with stable-baselines3")
    parser.add_argument("--pairs", type=int, default=3)
    options = parser.parse_args()
    result: dict[str, Any] = {
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "python": sys.version.split()[0],
    }
    result |= small_figures()
    if options.peer:
        result["whole_run_published_dqn_cartpole"] = whole_runs(options.peer, options.pairs)
    (HERE / "results").mkdir(exist_ok=True)
    (HERE / "results" / "speed.json").write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
