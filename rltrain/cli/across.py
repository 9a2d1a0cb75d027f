"""How a figure over seeds is printed: mean and IQM with their intervals, or that there are too few seeds for one."""

from __future__ import annotations

from typing import Any

from rltrain.launch.aggregate import too_few


def across_line(figures: dict[str, Any]) -> str:
    """`mean 498.2 [495.1, 500.0], IQM 500.0 [499.2, 500.0] (n = 10, 95 % intervals over seeds)`."""
    if (why := too_few(figures["n"])) is not None:
        points = ", ".join(f"{value:.5g}" for value in figures["values"])
        return f"{points} ({why})" if figures["n"] == 1 else f"mean {figures['mean']:.5g} of {points} ({why})"
    parts = []
    for label, name in (("mean", "mean"), ("IQM", "iqm")):
        low, high = figures[f"{name}_ci95"]
        parts.append(f"{label} {figures[name]:.5g} [{low:.5g}, {high:.5g}]")
    return f"{', '.join(parts)} (n = {figures['n']}, 95 % intervals over seeds)"
