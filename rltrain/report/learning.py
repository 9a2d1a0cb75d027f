"""Sections on how runs went: learning curves, and what exploration did."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rltrain.report.blocks import Plot, Plots, Section
from rltrain.report.figures import POINTS, Series, draw_curves, drawing, sheet
from rltrain.report.methods import Method, all_tasks, metrics
from rltrain.report.svg import inline
from rltrain.statistics.intervals import MIN_RUNS

LARGE, SMALL = (360, 235), (320, 205)
"""Width and height of a panel in points; a phone shows it at about this size."""
CURVES = ("eval/return", "rollout/return")
TITLES = {
    "eval/return": "Return of the greedy policy",
    "rollout/return": "Return while training",
    "exploration/epsilon": "Epsilon",
    "exploration/temperature": "Temperature",
    "exploration/exploratory_share": "Share of exploratory choices",
    "exploration/action_entropy": "Entropy of the actions taken (nats)",
    "train/entropy": "Entropy of the policy (nats)",
    "exploration/distinct_states": "Distinct states visited",
    "exploration/state_coverage": "Share of the reachable states visited",
    "exploration/bonus_mean": "Mean bonus of a step",
    "exploration/bonus_decay": "Mean bonus, relative to the first entry",
    "exploration/sigma": "Sigma of the noise",
}
"""Metrics that have a name for people; those below the first two in the order in which they are shown."""
LEFT_OUT = ("exploration/bonus",)
"""Of the latest step alone; `bonus_mean` says it of all."""


def title(metric: str) -> str:
    """What a figure of this metric is headed with."""
    return TITLES.get(metric, metric.removeprefix("exploration/").replace("_", " ").capitalize())


def series(methods: Sequence[Method], task: str, metric: str) -> list[Series]:
    """One metric in one environment, of the methods that logged it."""
    found = ((method, method.curves(task, metric)) for method in methods)
    return [Series(method.name, method.look, curves) for method, curves in found if curves]


def curve_section(methods: Sequence[Method]) -> Section:
    """Returns over environment steps."""
    logged = metrics(methods)
    blocks = list(_plots(methods, [name for name in CURVES if name in logged], "curve", LARGE))
    return Section("curves", "Learning curves", blocks)


def exploration_section(methods: Sequence[Method]) -> Section:
    """What can be seen of exploration."""
    logged = [name for name in metrics(methods) if _explores(name)]
    order = [name for name in TITLES if name in logged]
    names = [*order, *(name for name in logged if name not in order)]
    return Section("exploration", "Exploration", list(_plots(methods, names, "exploration", SMALL)))


def _explores(name: str) -> bool:
    return (name.startswith("exploration/") or name == "train/entropy") and name not in LEFT_OUT


def _plots(methods: Sequence[Method], names: Sequence[str], prefix: str, size: tuple[int, int]) -> Iterator[Plots]:
    """A block for each environment."""
    tasks = all_tasks(methods)
    for at, task in enumerate(tasks):
        found = [(name, series(methods, task, name)) for name in names]
        plots = [
            _plot(
                f"{prefix}-{at}-{index}", f"{title(name)}, {task}" if len(tasks) > 1 else title(name), name, lines, size
            )
            for index, (name, lines) in enumerate(found)
            if lines
        ]
        if plots:
            legend = [(method.name, method.look) for method in methods if task in method.tasks]
            yield Plots(plots, legend, "" if size == SMALL else reading(methods, [task]), small=size == SMALL)


def _plot(name: str, heading: str, metric: str, lines: Sequence[Series], size: tuple[int, int]) -> Plot:
    with drawing():
        figure, (axes,) = sheet(*size)
        draw_curves(axes, lines, metric)
        return Plot(heading, inline(figure, name=name, label=_label(heading, lines)))


def _label(heading: str, lines: Sequence[Series]) -> str:
    """What a screen reader says of a figure: where each method ended."""
    ends = (f"{name} ends at {sum(c.values[-1] for c in curves) / len(curves):.4g}" for name, _, curves in lines)
    return f"{heading}, over environment steps: {'; '.join(ends)}."


def reading(methods: Sequence[Method], tasks: Sequence[str]) -> str:
    """How the curves of all these tasks are to be read, with what numbers of runs."""
    counts = {method.name: {len(method.on(task)) for task in tasks} - {0} for method in methods}
    few = {name: sorted(count for count in own if count < MIN_RUNS) for name, own in counts.items()}
    parts = []
    if any(max(own, default=0) >= MIN_RUNS for own in counts.values()):
        parts.append(
            "Thick: mean of the seeds; band: its 95 % t interval at each step by itself; thin: the seeds. "
            "A run that ended early keeps its last value."
        )
    if told := ", ".join(f"{name}: {' and '.join(map(str, own))}" for name, own in few.items() if own):
        parts.append(f"Fewer than {MIN_RUNS} seeds ({told}) are too few for an interval: each seed is drawn by itself.")
    drawn = (c for method in methods for task in tasks for name in CURVES for c in method.curves(task, name))
    if any(len(curve.steps) > POINTS for curve in drawn):
        parts.append(f"Curves with more than {POINTS} entries are drawn at {POINTS} evenly spread steps.")
    return " ".join(parts)
