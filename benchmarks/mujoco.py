"""SAC on HalfCheetah and Hopper beside a published curve, at the same steps: runs, figures and the picture.

    .venv/bin/python benchmarks/mujoco.py [--seeds 100-102] [--steps 100000] [--workers 2]

Every 5,000 steps the greedy policy plays ten episodes. Runs stay in runs/mujoco and are gone on with; what is whole
is only read. Results go to benchmarks/results/mujoco.json and docs/images/mujoco.png (needs matplotlib, extra mujoco).

The published curve is Tianshou's: ten seeds on the -v3 environments, ten episodes every 5,000 steps, mean and standard
deviation, https://github.com/thu-ml/tianshou/tree/master/examples/mujoco/benchmark (test_rew_10seeds.csv). Its count
begins after 10,000 random steps, which are added here.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np

from rltrain.logger import read_metrics

matplotlib.use("Agg")
from matplotlib import pyplot as plt

HERE = Path(__file__).parent
ROOT = HERE.parent
RLTRAIN = str(Path(sys.executable).parent / "rltrain")
RANDOM_STEPS = 10_000
TIANSHOU: dict[str, dict[int, tuple[float, float]]] = {
    "halfcheetah": {
        0: (-2, 1), 5_000: (10, 23), 10_000: (865, 487), 15_000: (1814, 570), 20_000: (2641, 503), 25_000: (3365, 418),
        30_000: (3525, 501), 35_000: (3983, 279), 40_000: (4327, 213), 45_000: (4605, 270), 50_000: (4747, 345),
        60_000: (5316, 330), 70_000: (5587, 540), 80_000: (5929, 455), 90_000: (6213, 437), 100_000: (6515, 514),
        120_000: (6801, 579), 140_000: (7199, 665), 160_000: (7577, 816), 180_000: (7826, 918), 200_000: (8208, 928),
    },
    "hopper": {
        0: (47, 36), 5_000: (276, 59), 10_000: (282, 47), 15_000: (337, 46), 20_000: (351, 59), 25_000: (394, 95),
        30_000: (493, 206), 35_000: (535, 222), 40_000: (1030, 794), 45_000: (705, 641), 50_000: (851, 373),
        60_000: (930, 400), 70_000: (1387, 1089), 80_000: (1523, 812), 90_000: (1766, 1036), 100_000: (2613, 991),
        120_000: (2084, 1151), 140_000: (2720, 935), 160_000: (2913, 704), 180_000: (2800, 969), 200_000: (3234, 314),
    },
}  # fmt: skip
NAMES = {"halfcheetah": "HalfCheetah-v5", "hopper": "Hopper-v5"}


def trained(task: str, seeds: str, steps: int, workers: int) -> dict[int, list[tuple[int, float]]]:
    """The greedy returns of every seed, by step."""
    group = ROOT / "runs" / "mujoco" / task
    arguments = ["train", f"configs/sac_{task}.yaml", f"train.total_steps={steps}", "eval.every=5000", "device=cpu"]
    arguments += ["train.log_every=5000", "checkpoint.every=20000", "checkpoint.keep_last=1", "--seeds", seeds]
    resume = ["--resume"] if group.exists() else ["--run-dir"]
    subprocess.run([RLTRAIN, *arguments, "--workers", str(workers), *resume, str(group)], check=True, cwd=ROOT)
    curves = {}
    for run in sorted(group.glob("seed-*")):
        entries = [entry for entry in read_metrics(run) if "eval/return" in entry]
        curves[int(run.name.split("-")[1])] = [(entry["step"], entry["eval/return"]) for entry in entries]
    return curves


def draw(curves: dict[str, dict[int, list[tuple[int, float]]]], out: Path) -> None:
    """A panel for each task: a thin line a seed, their mean, and the published band as far as the seeds go."""
    figure, panels = plt.subplots(1, len(curves), figsize=(9, 3.6), dpi=120)
    for axes, (task, seeds) in zip(panels, curves.items(), strict=True):
        end = max(step for curve in seeds.values() for step, _ in curve)
        published = {step + RANDOM_STEPS: value for step, value in TIANSHOU[task].items() if step + RANDOM_STEPS <= end}
        x, (mean, deviation) = list(published), np.array(list(published.values())).T
        axes.fill_between(x, mean - deviation, mean + deviation, color="#b0413e", alpha=0.15, linewidth=0)
        axes.plot(x, mean, color="#b0413e", linestyle="--", label="Tianshou, -v3, mean and deviation of 10 seeds")
        for curve in seeds.values():
            axes.plot(*zip(*curve, strict=True), color="#4878a8", alpha=0.4, linewidth=1)
        steps = [step for step, _ in next(iter(seeds.values()))]
        means = np.mean([[value for _, value in curve] for curve in seeds.values()], axis=0)
        axes.plot(steps, means, color="#1f3a5f", linewidth=2.2, label=f"rltrain, mean of {len(seeds)} seeds")
        axes.set(xlabel="environment steps", ylabel="greedy return, 10 episodes", title=f"SAC on {NAMES[task]}")
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False, loc="upper left", fontsize=8)
    figure.tight_layout()
    figure.savefig(out)


def main() -> None:
    """Train, gather, write, draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", default="100-102")
    parser.add_argument("--steps", type=int, default=100_000)
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    curves = {task: trained(task, options.seeds, options.steps, options.workers) for task in NAMES}
    tasks: dict[str, Any] = {
        task: {
            "rltrain": {seed: dict(curve) for seed, curve in seeds.items()},
            "tianshou_mean_and_deviation": {step + RANDOM_STEPS: value for step, value in TIANSHOU[task].items()},
        }
        for task, seeds in curves.items()
    }
    (HERE / "results" / "mujoco.json").write_text(json.dumps(tasks, indent=2) + "\n")
    draw(curves, ROOT / "docs" / "images" / "mujoco.png")


if __name__ == "__main__":
    main()
