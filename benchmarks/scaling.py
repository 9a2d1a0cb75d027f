"""What one run on several ranks costs: steps a second, where the time goes, and what an average takes.

    .venv/bin/python benchmarks/scaling.py                  # 1, 2 and 4 ranks, 3 rounds
    .venv/bin/python benchmarks/scaling.py --ranks 1 2 --seconds 5

Every rank has as many environments, and as many rows of a minibatch, however many ranks there are: the ideal is as
many steps a second on each. All ranks are actors of Ray on this machine, so that efficiency on the clock says something
only up to its number of cores; processor seconds of a rollout say it beyond. 100 ranks are reckoned, not measured: a
rank's own work, and the 2 (R - 1) messages of a ring for each average, at latencies that networks have. Results go to
benchmarks/results/scaling.json.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import time
from functools import partial
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")  # as a run has it, and before NumPy is loaded

import numpy as np

from rltrain.config.load import from_dict, to_dict
from rltrain.experiment import RankLoop, build_part
from rltrain.parallel import Rank, answers
from rltrain.ranks import ray_ranks
from rltrain.team import ALONE, Team

HERE = Path(__file__).parent
TASKS: dict[str, dict[str, Any]] = {
    "compiled CartPole-v1": {"id": "CartPole-v1", "num_envs": 8},
    "Acrobot-v1 in Python": {"id": "Acrobot-v1", "num_envs": 8, "vectorization": "sync"},
}
STEPS, ROWS, EPOCHS = 128, 256, 4  # of each rank: a rollout's steps, rows of a minibatch, passes
LATENCIES = {"25 us (fast network)": 25e-6, "100 us (Ethernet)": 100e-6}  # of one message


def config(env: dict[str, Any], ranks: int) -> Any:
    """PPO with the same work on every rank."""
    agent = {"name": "ppo", "n_steps": STEPS, "batch_size": ROWS * ranks, "n_epochs": EPOCHS}
    train = {"total_steps": 10**9, "data_parallel": ranks, "compile": "off"}
    return from_dict({"env": env, "agent": agent, "train": train, "device": "cpu"}).config


class TimedRank(Rank):
    """A rank that knows what it has spent."""

    def __init__(self, made: dict[str, Any], team: Team) -> None:
        part = build_part(from_dict(made).config, team, RankLoop)
        super().__init__(part.agent, part.loop, team)  # type: ignore[arg-type]
        self.team, self.agent, self.waited, self.averages, self.learning = team, part.agent, 0.0, 0, 0.0
        self.clocked(team, "add", "waited")
        self.clocked(team, "gather", "waited")
        self.clocked(part.agent, "_learn", "learning")

    def clocked(self, owner: Any, name: str, account: str) -> None:
        """Add the seconds in a method to an account."""
        inner = getattr(owner, name)

        def timed(*arguments: Any) -> Any:
            began = time.perf_counter()
            result = inner(*arguments)
            setattr(self, account, getattr(self, account) + time.perf_counter() - began)
            self.averages += name == "add"
            return result

        setattr(owner, name, timed)

    def spend(self, rollouts: int) -> dict[str, float]:
        """Take this many rollouts; what they took."""
        self.waited, self.averages, self.learning = 0.0, 0, 0.0
        began, cpu = time.perf_counter(), time.process_time()
        self.advance(rollouts * STEPS * 8)
        return {
            "seconds": time.perf_counter() - began,
            "cpu_seconds": time.process_time() - cpu,
            "learning_seconds": self.learning,
            "waiting_seconds": self.waited,
            "averages": float(self.averages),
        }

    def ping(self, count: int = 300) -> float:
        """Median seconds of an average of the gradient, with nothing to wait for but the others."""
        gradient, took = np.zeros_like(self.agent.network.parameters), []  # type: ignore[attr-defined]
        for _ in range(count):
            began = time.perf_counter()
            self.team.add(gradient)
            took.append(time.perf_counter() - began)
        return statistics.median(took)


def measured(env: dict[str, Any], ranks: int, seconds: float) -> dict[str, float]:
    """Figures of one rank a rollout: the mean over ranks."""
    made = to_dict(config(env, ranks))

    def rollouts(spend: Any) -> list[dict[str, float]]:
        took = max(each["seconds"] for each in (spend(2), spend(2))[-1])  # the first ones load and compile
        count = max(2, int(2 * seconds / took))
        return [{key: value / count for key, value in each.items()} for each in spend(count)]

    if ranks == 1:
        alone = TimedRank(made, ALONE)
        told = rollouts(lambda count: [alone.spend(count)])
    else:
        with ray_ranks(partial(TimedRank, made), ranks, gpu=False) as calls:
            told = rollouts(lambda count: answers([call("spend", count) for call in calls]))
            pings = answers([call("ping") for call in calls])
    found = {key: statistics.mean(each[key] for each in told) for key in told[0]}
    return found if ranks == 1 else found | {"seconds_of_an_average": max(pings)}


def reckoned(rank: dict[str, float], ranks: int, latency: float) -> float:
    """Efficiency of so many ranks: own work over own work and averages, whose rings have 2 (R - 1) messages each."""
    averages = EPOCHS * STEPS * 8 / ROWS + 3  # gradients, and what is gathered once a rollout
    return rank["cpu_seconds"] / (rank["cpu_seconds"] + averages * 2 * (ranks - 1) * latency)


def main() -> None:
    """Measure all, in turn in every round, and write medians."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ranks", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--seconds", type=float, default=10.0, help="of each measurement")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=HERE / "results" / "scaling.json")
    options = parser.parse_args()
    machine = {"cores": os.cpu_count(), "load": os.getloadavg(), "python": platform.python_version()}
    found: dict[str, Any] = {"machine": machine, "rollout": {"steps": STEPS, "envs": 8, "epochs": EPOCHS, "rows": ROWS}}
    for name, env in TASKS.items():
        rounds = [{n: measured(env, n, options.seconds) for n in options.ranks} for _ in range(options.rounds)]
        table = {n: {k: statistics.median(r[n][k] for r in rounds) for k in rounds[0][n]} for n in options.ranks}
        first = table[options.ranks[0]]
        for row in table.values():
            row["steps_per_second_of_a_rank"] = STEPS * 8 / row["seconds"]
            row["efficiency_on_the_clock"] = first["seconds"] / row["seconds"]
            row["efficiency_in_processor_seconds"] = first["cpu_seconds"] / row["cpu_seconds"]
        reckoning = {
            label: {n: reckoned(first, n, latency) for n in (4, 16, 100)} for label, latency in LATENCIES.items()
        }
        found[name] = {"ranks": table, "reckoned_efficiency": reckoning}
        print(name, json.dumps(found[name], indent=2), flush=True)
    options.out.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
