"""PPO and A2C against Stable-Baselines3, collection alone, and the time to a proven CartPole.

    .venv/bin/python benchmarks/policy_gradient.py --peer PATH/TO/PEER/bin/python [--pairs 5] [--seeds 20]

Both programs run in turn on one thread, so that a machine whose speed drifts slows both; a ratio is taken pair by
pair. A proven CartPole is `configs/ppo_cartpole_fast.yaml`, process start to exit, in turn with `import torch`.
Results go to benchmarks/results/policy_gradient.json.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

from speed import HERE, ONE_THREAD, ROOT, seconds, train_command

PEER = str(HERE / "peers" / "sb3_policy_gradient.py")
COLLECT = """
import json, sys, time
from pathlib import Path
from rltrain.config.load import load
from rltrain.experiment import build
from rltrain.agents.{module} import {agent}
{agent}._learn = lambda self: {{}}
loop = build(load(Path(sys.argv[1])).config).loop
loop.advance(10_000)
began = time.perf_counter()
loop.advance(100_000)
print(json.dumps({{"steps_per_second": 100_000 / (time.perf_counter() - began)}}))
"""


def printed(command: list[str]) -> dict[str, Any]:
    """The JSON that a command prints last."""
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=ONE_THREAD, cwd=ROOT)
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def fresh() -> Path:
    """A folder for a run."""
    return Path(tempfile.mkdtemp()) / "run"


def whole_runs(agent: str, peer: str, pairs: int) -> dict[str, Any]:
    """100,000 steps with the published settings, process start to exit."""
    rows = []
    for seed in range(pairs):
        folder = fresh()
        mine = seconds([*train_command(f"configs/published/{agent}_cartpole.yaml", folder), f"seed={seed}"])
        its = seconds([peer, PEER, agent, "--seed", str(seed)])
        rows.append({"rltrain": mine, "stable_baselines3": its, "ratio": its / mine})
        rows[-1]["rltrain_return"] = json.loads((folder / "summary.json").read_text())["eval_return"]
        print(agent, json.dumps(rows[-1]), flush=True)
    return {"pairs": rows, "median_ratio": median(row["ratio"] for row in rows)}


def collection(agent: str, peer: str, pairs: int) -> dict[str, Any]:
    """Policy and environment without an update, 8 environments."""
    code = COLLECT.format(module=agent, agent=agent.upper())
    rows = []
    for _ in range(pairs):
        mine = printed([sys.executable, "-c", code, f"configs/published/{agent}_cartpole.yaml"])["steps_per_second"]
        its = printed([peer, PEER, agent, "--collect", "--steps", "20000"])["steps_per_second"]
        rows.append({"rltrain": mine, "stable_baselines3": its, "ratio": mine / its})
        print("collect", agent, json.dumps(rows[-1]), flush=True)
    return {"pairs": rows, "median_ratio": median(row["ratio"] for row in rows)}


def proven(seeds: int) -> dict[str, Any]:
    """Seeds 1000 and on, none of which the settings were chosen on."""
    rows = []
    torch = [sys.executable, "-c", "import torch"]
    seconds(torch)
    seconds(train_command("configs/ppo_cartpole_fast.yaml", fresh()))
    for seed in range(1000, 1000 + seeds):
        imported, folder = seconds(torch), fresh()
        began = time.perf_counter()
        seconds([*train_command("configs/ppo_cartpole_fast.yaml", folder), f"seed={seed}"])
        whole = time.perf_counter() - began
        summary = json.loads((folder / "summary.json").read_text())
        lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
        confirmed = [line["eval/return_confirmed"] for line in lines if "eval/return_confirmed" in line]
        rows.append({"seed": seed, "seconds": whole, "import_torch": imported, "ratio": whole / imported})
        rows[-1] |= {"steps": summary["steps"], "proven_return": confirmed[-1] if confirmed else None}
        print(json.dumps(rows[-1]), flush=True)
    solved = [row for row in rows if row["proven_return"] is not None and row["proven_return"] >= 475]
    return {
        "seeds": rows,
        "solved": len(solved),
        "median_seconds": median(row["seconds"] for row in rows),
        "median_steps": median(row["steps"] for row in rows),
        "median_ratio": median(row["ratio"] for row in rows),
    }


def main() -> None:
    """Measure and write, one part after the other."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer", help="python of an environment with stable-baselines3")
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--seeds", type=int, default=20)
    options = parser.parse_args()
    file = HERE / "results" / "policy_gradient.json"
    result: dict[str, Any] = json.loads(file.read_text()) if file.exists() else {}
    parts = {"proven_cartpole": lambda: proven(options.seeds)}
    if options.peer:
        for agent in ("ppo", "a2c"):
            parts[f"collection_{agent}"] = lambda agent=agent: collection(agent, options.peer, options.pairs)
            parts[f"whole_run_{agent}"] = lambda agent=agent: whole_runs(agent, options.peer, options.pairs)
    for name, measure in parts.items():
        result[name] = measure()
        file.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
