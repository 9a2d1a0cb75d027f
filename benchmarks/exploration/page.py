"""The evidence as a page: docs/exploration.md with tables and plots, and whether theory holds.

    .venv/bin/python benchmarks/exploration/page.py

Exits with 1 where an expectation does not hold, or was not measured.
"""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from expectations import Results, judged
from grid import TASKS
from scipy.stats import binomtest

from rltrain.core import Array
from rltrain.statistics.intervals import t_half_width, t_interval

matplotlib.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.ticker import MaxNLocator, StrMethodFormatter

HERE = Path(__file__).parent
DOCS = HERE.parent.parent / "docs"
POINTS = 25
"""Of a curve in a plot."""
SAID = {True: "holds", False: "**does not hold**", None: "not measured"}
INTRODUCTION = """# What each exploration is worth

Every strategy on every task, with the agents that can use it. Each line is {seeds} seeds, 100 and on;
brackets are 95 % intervals: Student's t for means, Wilson's for shares. Where a strategy has several settings to choose
from, the best on seeds 0 to 4 by the mean return while learning was taken; all of them are in
`benchmarks/exploration/grid.py`, the one that was taken in `benchmarks/results/exploration/`. Deep agents have one
setting for each strategy, not searched alike: DQN's network and update rate on DeepSea were fitted to `bootstrapped` on
seed 0; PPO's counts and RND on MountainCar were set on seeds 0 to 2, but after an earlier setting had been seen to do
badly on some of the seeds below (counts on seed 103, RND on all ten). Read those lines as what can be had, not as a
ranking. The budget is stated for each table. `benchmarks/exploration/run.py` measures; `page.py`
writes this page, and exits with 1 where an expectation fails.

* **first success**: environment steps until the first episode of that return; median over the seeds that had one.
* **solved**: share of seeds whose final greedy policy has that return, or the one that is named.
* **return while learning**: mean over all episodes of the budget, exploration included: the area under the curve.
* **regret**: episodes times the exact optimum (of policies that see how many steps are left), minus what was earned,
  luck included.
"""

SEEN = """## What one sees

* **Random actions do not add up.** On DeepSea each row halves the chance that they go on to the right: epsilon-greedy,
  Boltzmann and UCB's margin of one step find nothing in 10,000 episodes, since none of them carries what is unknown in
  a later state back to the first. Optimistic values, counts and an ensemble of heads do, through the same update that
  carries the reward. With a network the ensemble alone does at size 20; at size 10 so does UCB with counts of hashes
  (10 of 10 seeds), and a count as a bonus finds the end on 9, while RND, noise in the weights and epsilon-greedy find
  it on 3 to 7. Episodic novelty finds it on 10 and learns to do something else, since what it pays never ends.
* **With tables it is optimism that dives.** `thompson`, `ucb_optimistic` and `optimistic` begin with values above what
  can be had, and are alike: posterior and margin add little to that where nothing is random. Without optimism UCB still
  has a sixth of the regret of epsilon-greedy on RiverSwim.
* **A bonus that stays is a task of its own.** The scale of `count` falls to 0 before the end, so that the last policy
  is after the reward alone. Its size must fit the rewards: on MountainCar each step costs 1.
* **RND must learn slowly.** With a learning rate of 1e-3 in place of 1e-4, and a scale of 10, PPO found the top on 8 of
  the 10 seeds and came to -169.6 at the end.
* **Normalised observations explore.** PPO on MountainCar's raw observations stays at -200, as is often said. The same
  with normalised ones, as all other lines of PPO have them, comes upon the top on some seeds without any bonus.
"""


def load() -> Results:
    """(task, agent, strategy) -> result."""
    found: Results = {}
    for file in sorted((HERE.parent / "results" / "exploration").glob("*.json")):
        data = json.loads(file.read_text())
        found[data["task"], data["agent"], data["strategy"]] = data
    return found


def mean_with_interval(values: list[float], digits: int) -> str:
    """`mean [low, high]`."""
    interval = t_interval(np.array(values))
    mean = f"{np.mean(values):,.{digits}f}"
    return mean if interval is None else f"{mean} [{interval[0]:,.{digits}f}, {interval[1]:,.{digits}f}]"


def share(count: int, of: int) -> str:
    """`count of n [low, high]`."""
    found = binomtest(count, of).proportion_ci(method="wilson")
    return f"{count} of {of} [{found.low:.2f}, {found.high:.2f}]"


def row(data: dict[str, Any]) -> list[str]:
    """The figures of one strategy."""
    seeds, success = data["rows"], data["success"]
    digits = 3 if success is not None and abs(success) < 2 else 1
    cells = [f"`{data['strategy']}`"]
    if success is not None:
        found = [seed["first_success"] for seed in seeds if seed["first_success"] is not None]
        cells.append(f"{int(np.median(found)):,} ({len(found)} of {len(seeds)})" if found else f"none of {len(seeds)}")
        solved = sum(seed["final"] >= data["bar"] - 1e-9 for seed in seeds)
        cells.append(share(solved, len(seeds)))
    cells.append(mean_with_interval([seed["learning_return"] for seed in seeds], digits))
    cells.append(mean_with_interval([seed["final"] for seed in seeds], digits))
    if "regret" in seeds[0]:
        cells.append(mean_with_interval([seed["regret"] for seed in seeds], 0))
    return cells


def table(results: list[dict[str, Any]]) -> str:
    """One line a strategy, the best while learning first."""
    ordered = sorted(results, key=lambda data: -float(np.mean([seed["learning_return"] for seed in data["rows"]])))
    heads = ["strategy"] + (["first success", "solved"] if results[0]["success"] is not None else [])
    heads += ["return while learning", "final policy"] + (["regret"] if "regret" in results[0]["rows"][0] else [])
    lines = [heads, ["---"] * len(heads), *(row(data) for data in ordered)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def nan_mean(values: Array, axis: int) -> Array:
    """The mean of what is there; nan where nothing is."""
    there = np.isfinite(values)
    with np.errstate(invalid="ignore"):
        return np.where(there, values, 0).sum(axis) / there.sum(axis)


def plot(task: str, by_agent: dict[str, list[dict[str, Any]]]) -> str:
    """Mean return of the episodes of each 25th of the budget, over seeds, with Student's interval; a panel an agent."""
    figure, panels = plt.subplots(1, len(by_agent), figsize=(6.4 * len(by_agent), 4.2), dpi=100, squeeze=False)
    for axes, (agent, results) in zip(panels[0], by_agent.items(), strict=True):
        for index, data in enumerate(results):
            fine = np.array([seed["curve"] for seed in data["rows"]], float)
            curves = nan_mean(
                fine.reshape(len(fine), POINTS, -1), 2
            )  # a single bin may have no episode that ends in it
            steps = np.arange(1, POINTS + 1) * data["steps"] / POINTS
            whole = np.isfinite(curves).all(0)
            steps, mean = steps[whole], curves[:, whole].mean(0)
            half = t_half_width(curves[:, whole], 0.95)
            style = ("-", "--", ":", "-.")[index % 4]  # lines that lie on each other can be told apart
            (line,) = axes.plot(steps, mean, style, label=data["strategy"], linewidth=1.4)
            axes.fill_between(steps, mean - half, mean + half, color=line.get_color(), alpha=0.12, linewidth=0)
        axes.set(title=f"{agent} on {task}", xlabel="environment steps", ylabel="return while learning")
        axes.xaxis.set_major_locator(MaxNLocator(4))
        axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5))
    figure.tight_layout()
    name = f"images/exploration_{task}.png"
    figure.savefig(DOCS / name, metadata={"Software": None})
    plt.close(figure)
    return name


def main() -> None:
    """Write the page, and say what does not hold."""
    results = load()
    by_task: dict[str, dict[str, list[dict[str, Any]]]] = defaultdict(lambda: defaultdict(list))
    for (task, agent, _), data in results.items():
        by_task[task][agent].append(data)
    seeds = {len(data["rows"]) for data in results.values()}
    parts = [
        INTRODUCTION.format(seeds=" or ".join(map(str, sorted(seeds)))),
        "## What theory says, and what was seen\n",
    ]
    verdicts = judged(results)
    parts.append("\n".join(f"* {SAID[held]}: {text}" for held, text in verdicts) + "\n")
    parts.append(SEEN)
    for task in TASKS:
        if task in by_task:
            parts.append(f"## {task}\n\n{TASKS[task].about}\n\n![learning curves]({plot(task, by_task[task])})\n")
            for agent, cells in by_task[task].items():
                bar = "" if cells[0]["success"] is None else f"; success is {cells[0]['success']:g}"
                bar += "" if cells[0]["bar"] == cells[0]["success"] else f", solved {cells[0]['bar']:g}"
                parts.append(f"**{agent}**, {cells[0]['steps']:,} steps{bar}:\n\n{table(cells)}\n")
    (DOCS / "exploration.md").write_text("\n".join(parts))
    for held, text in verdicts:
        print(f"{SAID[held].strip('*').upper():14s} {text}")
    sys.exit(not all(held for held, _ in verdicts))


if __name__ == "__main__":
    main()
