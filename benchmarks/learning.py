"""Train a configuration on many seeds and evaluate the final and the best policy of each.

    .venv/bin/python benchmarks/learning.py configs/dqn_cartpole.yaml --seeds 20-29

Every seed is evaluated on the same 100 greedy episodes. Results go to benchmarks/results/<config>.json.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from rltrain.statistics.aggregates import interquartile_mean
from rltrain.statistics.intervals import bootstrap_interval

HERE = Path(__file__).parent
ROOT = HERE.parent
RLTRAIN = str(Path(sys.executable).parent / "rltrain")


def rltrain(*arguments: str) -> dict[str, Any]:
    """Run a command and return the JSON it prints."""
    done = subprocess.run([RLTRAIN, *arguments, "--json"], check=True, capture_output=True, text=True, cwd=ROOT)
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def one_seed(config: str, seed: int) -> dict[str, Any]:
    """Train one seed; the return of its last and of its best checkpoint."""
    run = tempfile.mkdtemp()
    trained = rltrain("train", config, f"seed={seed}", "--run-dir", run)
    last, best = (rltrain("eval", run, "--checkpoint", which) for which in ("last", "best"))
    row = {"seed": seed, "seconds": trained["seconds"], "steps": trained["steps"]}
    row |= {"last": last["return_mean"], "best": best["return_mean"], "best_step": best["checkpoint_step"]}
    print(json.dumps(row), flush=True)
    return row


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config")
    parser.add_argument("--seeds", default="0-9", help="first-last")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--bar", type=float, default=475.0, help="return that counts as solved")
    options = parser.parse_args()
    first, last = map(int, options.seeds.split("-"))
    with ThreadPoolExecutor(options.workers) as pool:
        rows = list(pool.map(partial(one_seed, options.config), range(first, last + 1)))
    finals = np.array([row["last"] for row in rows])
    result = {
        "config": options.config,
        "protocol": "100 greedy episodes per seed, final policy; IQM over seeds, bootstrap interval",
        "iqm": float(interquartile_mean(finals)),
        "iqm_ci95": bootstrap_interval(interquartile_mean, finals),
        "bar": options.bar,
        "seeds_at_the_bar": int(np.sum(finals >= options.bar)),
        "rows": rows,
    }
    (HERE / "results").mkdir(exist_ok=True)
    name = "_".join(Path(options.config).with_suffix("").parts[1:])
    (HERE / "results" / f"{name}.json").write_text(json.dumps(result, indent=2) + "\n")
    solved = f"{result['seeds_at_the_bar']} of {len(rows)} at {options.bar:g} or more"
    print(f"IQM {result['iqm']:.1f} {result['iqm_ci95']}, {solved}")


if __name__ == "__main__":
    main()
