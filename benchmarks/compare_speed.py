"""How long `rltrain compare` takes for two groups of 10 runs with 1 million steps each, 1,000 log entries a run.

    .venv/bin/python benchmarks/compare_speed.py [--times 5]

The runs are written, not trained: the same files, with numbers that look like a learning curve. Whole processes.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from rltrain.config.load import dump, load

ROOT = Path(__file__).parent.parent
RLTRAIN = str(Path(sys.executable).parent / "rltrain")
STEPS, ENTRIES, EVALUATIONS, SEEDS = 1_000_000, 1_000, 100, 10
NAMES = ("rollout/length", "train/loss", "train/q_mean", "exploration/epsilon", "exploration/exploratory_share",
         "exploration/action_entropy", "exploration/distinct_states")  # fmt: skip


def write_run(folder: Path, seed: int, speed: float) -> None:
    """A run of DQN that gets to about 500 at its own pace."""
    rng = random.Random(f"{seed} {speed}")
    config = load(ROOT / "configs" / "dqn_cartpole.yaml", [f"seed={seed}", f"train.total_steps={STEPS}"]).config
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(dump(config))
    lines = []
    for entry in range(1, ENTRIES + 1):
        step = entry * STEPS // ENTRIES
        value = 500 * (1 - math.exp(-speed * entry / ENTRIES)) - 20 * rng.random()
        lines.append({"step": step, "rollout/return": value, **{name: rng.random() for name in NAMES}})
        if entry % (ENTRIES // EVALUATIONS) == 0:
            lines.append({"step": step, "eval/return": value, "eval/return_iqm": value, "eval/length": value})
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (folder / "summary.json").write_text(json.dumps({"status": "finished", "steps": STEPS}))


def main() -> None:
    """Write the runs, and time."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=int, default=5)
    times = parser.parse_args().times
    root = Path(tempfile.mkdtemp())
    for group, speed in (("slow", 3.0), ("fast", 3.2)):
        for seed in range(SEEDS):
            write_run(root / group / f"seed-{seed}", seed, speed)
    found = []
    for _ in range(times):
        began = time.perf_counter()
        subprocess.run([RLTRAIN, "compare", root / "slow", root / "fast"], check=True, capture_output=True)
        found.append(time.perf_counter() - began)
    spread = f"from {min(found):.2f} to {max(found):.2f} s"
    print(f"median {statistics.median(found):.2f} s, {spread}, {times} times; runs in {root}")


if __name__ == "__main__":
    main()
