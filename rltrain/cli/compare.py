"""`rltrain compare`: is one method better than another, and how sure is that?"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rltrain.cli.common import AsJson, Plugins, print_json, use_plugins

if TYPE_CHECKING:
    from rich.console import Console

    from rltrain.comparison.result import Comparison, Pair, Row, Table
    from rltrain.statistics.intervals import Estimate

WIDTH = 160
"""Columns where there is no terminal."""
PROFILE_COLUMNS = 8
SHOWN_DIFFERENCES = 40


def compare(
    methods: Annotated[
        list[Path],
        typer.Argument(metavar="RUN|GROUP", help="Runs, groups, or folders with several of them; each is one method."),
    ],
    metric: Annotated[str, typer.Option(help="Metric whose last entry is a run's score.")] = "eval/return",
    threshold: Annotated[
        float | None, typer.Option(help="Count the steps to this value; left out, to what counts as solved.")
    ] = None,
    as_json: AsJson = False,
    plugin: Plugins = None,
) -> None:
    """Compare methods over their seeds: what is unfair, figures with intervals, tests, a verdict in plain words."""
    from rltrain.comparison.compare import compare as compare_runs
    from rltrain.comparison.methods import open_methods
    from rltrain.core import ConfigError

    use_plugins(plugin)
    if len(methods) < 2:
        raise ConfigError("compare needs two methods or more, for example: rltrain compare runs/dqn runs/ppo")
    found = compare_runs(open_methods(methods), metric=metric, threshold=threshold)
    if as_json:
        print_json(found.to_dict())
    else:
        show(found)


def show(found: Comparison) -> None:
    """Print a comparison."""
    from rich.console import Console
    from rich.markup import escape

    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=WIDTH)
    console.print("[bold]Is it fair?[/bold]")
    for concern in found.concerns:
        console.print(f"  [yellow]! {escape(concern.text)}[/yellow]")
    if not found.concerns:
        console.print("  yes: environments, budgets, evaluations and numbers of seeds are the same")
    for table in found.tables:
        _print_table(console, table)
    if found.pairs:
        _print_pairs(console, found)
        if any(row.n > 1 for row in found.tables[-1].rows):
            _print_profile(console, found)
    _print_differences(console, found)
    mind = " (Mind what is unfair, above.)" if found.concerns else ""
    console.print(f"\n[bold]Verdict[/bold]\n  {escape(found.verdict)}{mind}")
    if len(found.pairs) > 1:
        for pair in found.pairs:
            console.print(f"  * {escape(pair.verdict)}")
    for note in found.notes:
        console.print(f"  note: {escape(note)}")


def _grid(console: Console, heads: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A table whose first column is text and whose others are figures."""
    from rich import box
    from rich.markup import escape
    from rich.table import Table as RichTable

    grid = RichTable(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, padding=(0, 1))
    for index, head in enumerate(heads):
        grid.add_column(escape(head), justify="left" if index == 0 else "right", overflow="fold")
    for row in rows:
        grid.add_row(*map(escape, row))
    console.print(grid)


def _print_table(console: Console, table: Table) -> None:
    from rich.markup import escape

    from rltrain.metrics import rises

    budget = f", {table.budget:,} steps" if table.budget else ""
    console.print(f"\n[bold]{escape(table.task)}[/bold]{budget}: {escape(table.unit)}; brackets are 95 % intervals")
    heads = ["method", "n", "mean", "IQM", "median", "area under curve"]
    if table.threshold is not None:
        heads.append(f"steps to {table.threshold:g}")
    _grid(console, heads, [_cells(row, table) for row in table.rows])
    if table.threshold is not None:
        console.print(f"  {table.threshold:g} is {table.threshold_source}; steps are the median seed's")
    elif table.budget is not None and rises(table.unit):
        console.print("  no threshold is known, so no steps to it: --threshold X")


def _cells(row: Row, table: Table) -> list[str]:
    from rltrain.statistics.intervals import Estimate

    digits = _digits(table.low, table.high)
    cells = [row.method, f"{row.n}", _estimate(row.mean, digits), _estimate(row.iqm, digits)]
    median = Estimate(row.median, *(row.median_interval or (None, None)))
    cells += [_estimate(median, digits), _estimate(row.area, digits)]
    if table.threshold is not None:
        steps = "not reached" if row.median_steps is None else f"{row.median_steps:,.0f}"
        cells.append(f"{steps} ({row.reached} of {row.n})")
    return cells


def _digits(low: float, high: float) -> int:
    """Decimals that show a hundredth of the range; of the size where there is no range."""
    scale = high - low or max(abs(low), abs(high)) or 1.0
    return max(0, 2 - math.floor(math.log10(scale)))


def _estimate(estimate: Estimate, digits: int) -> str:
    if estimate.low is None:
        return f"{estimate.value:.{digits}f}"
    return f"{estimate.value:.{digits}f} [{estimate.low:.{digits}f}, {estimate.high:.{digits}f}]"


def _print_pairs(console: Console, found: Comparison) -> None:
    digits = _digits(found.tables[-1].low, found.tables[-1].high)
    holm = " (p corrected by Holm)" if len(found.pairs) > 1 else ""
    console.print(f"\n[bold]Pairs[/bold]: a against b{holm}")
    heads = ["a / b", "difference", "P(a better than b)", "Welch p", "permutation p", "effect size g"]
    _grid(console, heads, [_pair_cells(pair, digits) for pair in found.pairs])


def _pair_cells(pair: Pair, digits: int) -> list[str]:
    effect = f"{pair.effect_size:+.2f}" if pair.effect_size is not None else "-" if pair.welch is None else "no spread"
    return [
        f"{pair.a} / {pair.b}",
        f"{pair.difference:+.{digits}f}",
        _estimate(pair.improvement, 2),
        "-" if pair.welch_holm is None else _p(pair.welch_holm),
        _p(pair.permutation_holm),
        effect,
    ]


def _p(value: float) -> str:
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def _print_profile(console: Console, found: Comparison) -> None:
    """A few columns of the profile."""
    thresholds = found.profile[0].thresholds
    step = max(1, (len(thresholds) - 1) // PROFILE_COLUMNS)
    shown = range(0, len(thresholds), step)
    digits = _digits(thresholds[0], thresholds[-1])
    console.print("\n[bold]Performance profile[/bold]: share of runs above a score")
    heads = ["method", *(f"{thresholds[index]:.{digits}f}" for index in shown)]
    _grid(console, heads, [[line.method, *(f"{line.shares[i]:.2f}" for i in shown)] for line in found.profile])


def _print_differences(console: Console, found: Comparison) -> None:
    from rltrain.differences import shown

    console.print("\n[bold]Settings that differ[/bold]")
    if not found.differences:
        console.print("  none")
        return
    rows = [[each.name, *map(shown, each.values)] for each in found.differences[:SHOWN_DIFFERENCES]]
    _grid(console, ["setting", *found.methods], rows)
    if (more := len(found.differences) - SHOWN_DIFFERENCES) > 0:
        console.print(f"  and {more} more: see --json")
