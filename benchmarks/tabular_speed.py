"""The compiled tabular loop against a plain Python loop and against the readable loop, and whole tabular runs.

    .venv/bin/python benchmarks/tabular_speed.py [--quick] [--table]

The three loops run in turn in one process, and each ratio is taken within a round, so that a machine whose
speed drifts slows all of them. A loop's seconds are those of the processor: what others do on the machine
meanwhile is left out. Whole runs are wall seconds, process start to exit. The plain loops stand in
plain_tabular.py. Results go to benchmarks/results/tabular_speed.json.
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
from collections.abc import Callable
from functools import partial
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import plain_tabular as plain
import yaml
from speed import ONE_THREAD, RLTRAIN, ROOT, seconds

from rltrain.config.load import from_dict
from rltrain.experiment import build
from rltrain.kernels.tabular import TabularLoop
from rltrain.loop import EnvironmentLoop

HERE = Path(__file__).parent
RESULT = HERE / "results" / "tabular_speed.json"
WHOLE_RUN = ROOT / "configs" / "q_learning_frozenlake_4x4.yaml"
WHOLE_RUN_STEPS = 10_000_000
LIMIT = 200
"""Steps of an episode outside FrozenLake, which has its own limit of 100."""
EXPLORATIONS: dict[str, dict[str, Any]] = {
    "epsilon_greedy": {"epsilon": plain.EPSILON},
    "boltzmann": {"temperature": plain.TEMPERATURE},
    "ucb": {"c": float(plain.UCB_C)},
    "thompson": {"prior_mean": 0.0, "prior_std": plain.PRIOR_STD, "noise_std": plain.NOISE_STD},
}
RULE_SETTINGS: dict[str, dict[str, Any]] = {
    "n_step_sarsa": {"n_step": plain.N_STEP},
    "sarsa_lambda": {"trace_decay": plain.LAMBDA, "traces": "replacing"},
    "watkins_q_lambda": {"trace_decay": plain.LAMBDA, "traces": "replacing"},
    "dyna_q": {"planning_steps": plain.PLANNING_STEPS},
}
FIRST_STEP = """
import json, sys, time
from rltrain.config.load import from_dict
from rltrain.experiment import build
config = from_dict(json.loads(sys.argv[1])).config
began = time.perf_counter()
from rltrain.jit import load_numba; load_numba(); import numba; imported = time.perf_counter()
loop = build(config).loop
loop.advance(1); done = time.perf_counter()
hits = sum(loop._run.stats.cache_hits.values())
print(json.dumps({"import_numba": imported - began, "first_step": done - imported, "cached": hits == 1}))
"""
TORCH_LOADED = """
import sys
from rltrain.cli.main import main
try:
    main()
finally:
    print("torch" in sys.modules)
"""


class Sizes(NamedTuple):
    """How much is measured."""

    rounds: int
    compiled: int  # environment steps of one round
    plain: int
    readable: int
    runs: int  # whole processes


FULL = Sizes(rounds=7, compiled=4_000_000, plain=60_000, readable=20_000, runs=7)
QUICK = Sizes(rounds=3, compiled=1_000_000, plain=15_000, readable=4_000, runs=3)


def cases() -> list[tuple[str, str, str]]:
    """Rule, exploration and environment of every row."""
    rows = [(rule, name, "FrozenLake-v1") for rule in plain.RULES for name in ("epsilon_greedy", "boltzmann")]
    rows += [(rule, name, "FrozenLake-v1") for rule in ("q_learning", "sarsa") for name in ("ucb", "thompson")]
    others = ("Taxi-v4", "CliffWalking-v1")
    return rows + [(rule, name, env) for env in others for rule in ("q_learning", "sarsa") for name in EXPLORATIONS]


def limit_of(env: str) -> int | None:
    """Steps of an episode; None for the environment's own limit."""
    return None if env == "FrozenLake-v1" else LIMIT


def settings_of(rule: str, exploration: str, env: str, compile: str) -> dict[str, Any]:
    """The configuration that does what the plain loop does."""
    agent = {"name": rule, "learning_rate": plain.LEARNING_RATE, "gamma": plain.GAMMA, **RULE_SETTINGS.get(rule, {})}
    return {
        "env": {"id": env, "max_episode_steps": limit_of(env)},
        "agent": agent,
        "exploration": {"name": exploration, **EXPLORATIONS[exploration]},
        "train": {"total_steps": 1_000_000_000, "compile": compile},
    }


def rate(advance: Callable[[int], object], steps: int) -> float:
    """Steps a second of processor time."""
    began = time.process_time()
    advance(steps)
    return steps / (time.process_time() - began)


def spread(values: list[float]) -> dict[str, float]:
    """Median, least and greatest."""
    return {"median": median(values), "min": min(values), "max": max(values)}


def compare(rule: str, exploration: str, env: str, sizes: Sizes) -> dict[str, Any]:
    """The three loops in turn."""
    fast, slow = (build(from_dict(settings_of(rule, exploration, env, word)).config) for word in ("on", "off"))
    assert isinstance(fast.loop, TabularLoop)
    assert isinstance(slow.loop, EnvironmentLoop)
    by_hand = partial(plain.RULES[rule], env, exploration, limit=limit_of(env))
    fast.loop.advance(1_000)  # compiles, or loads what was compiled
    slow.loop.advance(100)
    by_hand(100, 0)
    rounds = []
    for number in range(sizes.rounds):
        its = rate(partial(by_hand, seed=number), sizes.plain)
        mine = rate(fast.loop.advance, sizes.compiled)
        rounds.append({"plain": its, "compiled": mine, "readable": rate(slow.loop.advance, sizes.readable)})
    fast.envs.close()
    slow.envs.close()
    names = ("compiled", "plain", "readable")
    return {
        "rule": rule,
        "exploration": exploration,
        "env": env,
        **{f"{name}_steps_per_second": median(row[name] for row in rounds) for name in names},
        "ratio_to_plain": spread([row["compiled"] / row["plain"] for row in rounds]),
        "ratio_to_readable": spread([row["compiled"] / row["readable"] for row in rounds]),
        "rounds": rounds,
    }


def printed(code: str, *arguments: str) -> str:
    """The last line that a fresh Python prints."""
    command = [sys.executable, "-c", code, *arguments]
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=ONE_THREAD, cwd=ROOT)
    return done.stdout.splitlines()[-1]


def whole_run(folder: Path, steps: int) -> list[str]:
    """Arguments of a run of the shipped configuration, its intervals and its schedule stretched to `steps`."""
    settings = yaml.safe_load(WHOLE_RUN.read_text())
    longer = steps / settings["train"]["total_steps"]
    places = [(settings["train"], "total_steps"), (settings["train"], "log_every"), (settings["eval"], "every"),
              (settings["checkpoint"], "every"), (settings["exploration"]["epsilon"], "steps")]  # fmt: skip
    for part, name in places:
        part[name] = round(part[name] * longer)
    config = folder / f"whole_run_{steps}.yaml"
    config.write_text(yaml.safe_dump(settings))
    return ["train", str(config), "--quiet", "--run-dir", tempfile.mkdtemp(dir=folder) + "/run"]


def measured(command: list[str]) -> dict[str, float]:
    """Wall seconds of a whole process, and its processor's seconds."""
    before = os.times()
    wall = seconds(command)
    after = os.times()
    return {"wall": wall, "processor": sum(after[2:4]) - sum(before[2:4])}  # user and system, of child processes


def processes(runs: int) -> dict[str, Any]:
    """Whole runs, the first step of a process that finds its loop compiled, and whether PyTorch is loaded."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        whole = [measured([RLTRAIN, *whole_run(folder, WHOLE_RUN_STEPS)]) for _ in range(runs + 1)]
        torch_loaded = printed(TORCH_LOADED, *whole_run(folder, 100_000)) == "True"
    settings = json.dumps(settings_of("q_learning", "epsilon_greedy", "FrozenLake-v1", "on"))
    starts = [json.loads(printed(FIRST_STEP, settings)) for _ in range(runs + 1)][1:]
    return {
        "whole_run_steps": WHOLE_RUN_STEPS,
        "whole_run_first_seconds": whole[0]["wall"],
        "whole_run_seconds": spread([run["wall"] for run in whole[1:]]),
        "whole_run_processor_seconds": spread([run["processor"] for run in whole[1:]]),
        "import_numba_seconds": median(start["import_numba"] for start in starts),
        "first_step_after_import_numba_seconds": spread([start["first_step"] for start in starts]),
        "first_step_loop_was_cached": all(start["cached"] for start in starts),
        "torch_loaded": torch_loaded,
    }


def table(path: Path = RESULT) -> str:
    """The rows as Markdown."""
    lines = [
        "| rule | exploration | environment | compiled, steps/s | times the plain loop | times the readable loop |",
        "|---|---|---|---|---|---|",
    ]
    for row in json.loads(path.read_text())["rows"]:
        ratio, readable = row["ratio_to_plain"], row["ratio_to_readable"]["median"]
        lines.append(
            f"| {row['rule']} | {row['exploration']} | {row['env']} | {row['compiled_steps_per_second'] / 1e6:.1f} M | "
            f"{ratio['median']:.0f} [{ratio['min']:.0f}, {ratio['max']:.0f}] | {readable:.0f} |"
        )
    return "\n".join(lines)


def machine() -> dict[str, Any]:
    """Where the figures come from."""
    return {
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "python": sys.version.split()[0],
        **{name: version(name) for name in ("numpy", "numba", "gymnasium")},
    }


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="short trials, for a look")
    parser.add_argument("--processes", action="store_true", help="measure whole processes only, keep the other rows")
    parser.add_argument("--table", action="store_true", help="only print the table of the last results")
    parser.add_argument("--out", type=Path, default=RESULT)
    options = parser.parse_args()
    if options.table:
        print(table(options.out))
        return
    sizes = QUICK if options.quick else FULL
    if options.processes:
        kept = json.loads(options.out.read_text()) | {"processes": processes(sizes.runs)}
        options.out.write_text(json.dumps(kept, indent=2) + "\n")
        print(json.dumps(kept["processes"], indent=2))
        return
    options.out.parent.mkdir(parents=True, exist_ok=True)
    result: dict[str, Any] = machine() | {"sizes": sizes._asdict(), "processes": processes(sizes.runs), "rows": []}
    print(json.dumps(result["processes"], indent=2), flush=True)
    for case in cases():
        row = compare(*case, sizes)
        result["rows"].append(row)
        ratio, readable = row["ratio_to_plain"], row["ratio_to_readable"]["median"]
        options.out.write_text(json.dumps(result, indent=2) + "\n")
        print(
            f"{row['rule']:18s}{row['exploration']:16s}{row['env']:16s}{row['compiled_steps_per_second'] / 1e6:6.1f} M "
            f"{ratio['median']:6.0f} x plain [{ratio['min']:.0f}, {ratio['max']:.0f}], {readable:.0f} x readable",
            flush=True,
        )
    print(table(options.out))


if __name__ == "__main__":
    main()
