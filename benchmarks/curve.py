"""Draw the learning curves of runs: python benchmarks/curve.py OUT.png RUN [RUN ...] (needs matplotlib)."""

from __future__ import annotations

import sys
from pathlib import Path

import matplotlib
import numpy as np

from rltrain.logger import read_metrics

matplotlib.use("Agg")
from matplotlib import pyplot as plt


def main() -> None:
    """One thin line a seed, and the mean."""
    out, *runs = map(Path, sys.argv[1:])
    figure, axes = plt.subplots(figsize=(7.2, 3.6), dpi=120)
    curves = []
    for run in runs:
        entries = [entry for entry in read_metrics(run) if "rollout/return" in entry]
        steps = np.array([entry["step"] for entry in entries])
        returns = np.array([entry["rollout/return"] for entry in entries])
        axes.plot(steps, returns, color="#4878a8", alpha=0.3, linewidth=1)
        grid = np.arange(1_000, steps[-1] + 1, 1_000)
        curves.append(np.interp(grid, steps, returns))
    axes.plot(grid, np.mean(curves, axis=0), color="#1f3a5f", linewidth=2.2, label=f"mean of {len(runs)} seeds")
    axes.axhline(475, color="#b0413e", linestyle="--", linewidth=1, label="475, the environment's threshold")
    axes.set(xlabel="environment steps", ylabel="return while exploring", title="DQN on CartPole-v1")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, loc="lower right")
    figure.tight_layout()
    figure.savefig(out)


if __name__ == "__main__":
    main()
