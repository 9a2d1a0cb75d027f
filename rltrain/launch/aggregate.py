"""What the runs of a group come to together: figures with intervals over seeds, and curves for TensorBoard."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from rltrain.logger import RunLogger, band_tags
from rltrain.records import RunRecord

if TYPE_CHECKING:
    from rltrain.statistics.intervals import Estimate

AGGREGATE = "aggregate"
"""Folder in a group; TensorBoard shows it as one more run."""
CURVES = (
    "eval/exact_return",
    "eval/percent_of_optimal",
    "eval/return",
    "eval/success_rate",
    "eval/length",
    "rollout/return",
    "rollout/success_rate",
    "rollout/length",
)
"""Metrics that are averaged over seeds, where every seed has them."""


def across(name: str, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """Mean and IQM of one figure over seeds, with their 95 % intervals; None where not every seed has it.

    The mean has Student's t interval, the IQM that of a seeded bootstrap; none for fewer than five seeds. What lies
    beyond 0 or 1 of the interval of a rate is cut off, which leaves out nothing that is possible.
    """
    from rltrain.statistics.intervals import iqm_estimate, mean_estimate

    values = [row.get(name) for row in rows]
    if not values or any(value is None for value in values):
        return None
    known = np.array(values, np.float64)
    mean, iqm = mean_estimate(known).within(name), iqm_estimate(known)
    return {
        "n": len(known),
        "mean": mean.value,
        "mean_ci95": _interval(mean),
        "iqm": iqm.value,
        "iqm_ci95": _interval(iqm),
        "values": known.tolist(),
    }


def _interval(estimate: Estimate) -> list[float] | None:
    return None if estimate.low is None or estimate.high is None else [estimate.low, estimate.high]


def too_few(n: int) -> str | None:
    """What to say where there is no interval over n seeds."""
    from rltrain.statistics.intervals import MIN_RUNS

    if n >= MIN_RUNS:
        return None
    if n == 0:
        return "no seed has finished"
    return (
        "1 seed: no interval across seeds" if n == 1 else f"{n} seeds: too few for an interval, which needs {MIN_RUNS}"
    )


def write_aggregate(group: Path, runs: Sequence[RunRecord]) -> None:
    """Write the mean over seeds at every step that was logged, and its interval, as one run of TensorBoard's.

    A run that stopped early keeps its last value. What was written before is replaced.
    """
    folder = group / AGGREGATE
    shutil.rmtree(folder, ignore_errors=True)
    names = [name for name in CURVES if runs and all(len(run.curve(name).steps) for run in runs)]
    if not names:
        return
    folder.mkdir()
    entries: dict[int, dict[str, float]] = {}
    for name in names:
        for step, figures in _averaged(name, runs):
            entries.setdefault(step, {}).update(figures)
    log = RunLogger(folder)
    log.bands([name for name in names if any(band_tags(name)[0] in entry for entry in entries.values())])
    for step in sorted(entries):
        log.log(step, entries[step])
    log.close()


def _averaged(name: str, runs: Sequence[RunRecord]) -> Iterator[tuple[int, dict[str, float]]]:
    """Mean and bounds of one metric at every step at which a run has logged it and all have begun to."""
    from rltrain.statistics.curves import align, mean_band

    curves = [run.curve(name) for run in runs]
    grid = np.unique(np.concatenate([curve.steps for curve in curves]))
    grid = grid[grid >= max(curve.steps[0] for curve in curves)]
    found = mean_band(align(curves, grid), grid, name)
    for index, step in enumerate(grid.tolist()):
        figures = {name: float(found.value[index])}
        if found.low is not None and found.high is not None:
            figures |= zip(band_tags(name), (float(found.low[index]), float(found.high[index])), strict=True)
        yield step, figures
