"""`rltrain eval`: how good is what was learnt?"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from rltrain.cli.common import AsJson, Plugins, counted, print_json, use_plugins


def evaluate(
    run: Annotated[
        Path,
        typer.Argument(metavar="RUN|CHECKPOINT|GROUP", help="Run or checkpoint folder, or a folder of several seeds."),
    ],
    episodes: Annotated[int, typer.Option(min=1, max=100_000, help="Greedy episodes.")] = 100,
    seed: Annotated[int, typer.Option(min=0, help="Decides the list of environment seeds.")] = 0,
    checkpoint: Annotated[str, typer.Option(help="last, best or a step.")] = "last",
    as_json: AsJson = False,
    plugin: Plugins = None,
) -> None:
    """Evaluate the greedy policy on a fixed list of seeds: equal arguments give equal digits.

    Of several seeds each is evaluated, and their mean and IQM have intervals across seeds.
    """
    from rltrain.cli.evaluate_seeds import evaluate_seeds
    from rltrain.launch.evaluate import seeds_in
    from rltrain.rundir import is_group, is_run
    from rltrain.saved import SavedPolicy

    use_plugins(plugin)
    if run.is_dir() and not is_run(run) and not (run / "manifest.json").is_file():
        runs = seeds_in(run)
        if is_group(run) or len(runs) > 1:
            evaluate_seeds(run, runs, episodes, seed, checkpoint, as_json=as_json)
            return
        run = runs[0].folder
    with SavedPolicy.open(run, checkpoint) as policy:
        report = policy.evaluate(episodes, seed)
    if as_json:
        print_json(report)
    else:
        _print(report)


def _print(report: dict[str, Any]) -> None:
    interval = report["return_ci95"]
    lines = [
        f"{report['run']}, checkpoint of step {report['checkpoint_step']:,}",
        f"{report['agent']} on {report['env']}, {counted(report['episodes'], 'greedy episode')} "
        f"(seed {report['seed']}, at most {report['max_episode_steps']:,} steps each)",
        f"  return        {report['return_mean']:.2f}"
        + (
            f"  95 % interval over episodes [{interval[0]:.2f}, {interval[1]:.2f}]"
            if interval
            else "  (1 episode: no interval)"
        ),
        f"  spread        std {report['return_std']:.2f}, min {report['return_min']:.2f}, "
        f"max {report['return_max']:.2f}, IQM {report['return_iqm']:.2f}",
        f"  length        {report['length_mean']:.1f} steps",
    ]
    if report["success_rate"] is not None:
        lines.append(f"  success rate  {report['success_rate']:.1%}  ({report['success_definition']})")
    if report["capped_episodes"]:
        lines.append(f"  cut short     {counted(report['capped_episodes'], 'episode')} reached the cap")
    if "exact_return" in report:
        lines += _exact_lines(report)
    lines.append(f"  random policy {report['random_return_mean']:.2f} on the same seeds")
    lines.append("  1 seed: no interval across seeds (rltrain train CONFIG --seeds 0-9 trains ten)")
    typer.echo("\n".join(lines))


def _exact_lines(report: dict[str, Any]) -> list[str]:
    """What the model says of the policy, without sampling."""
    lines = [
        f"  exact return  {report['exact_return']:.6f}  of at most {report['optimal_return']:.6f} "
        f"({report['percent_of_optimal']:.2f} % of the way from random {report['random_return']:.4g}; "
        f"regret {report['regret']:.6f})",
    ]
    if report["time_aware_return"] > report["optimal_return"] + 1e-6:
        lines.append(f"                {report['time_aware_return']:.6f} for a policy that sees the clock")
    if "optimal_action_share" in report:
        lines.append(
            f"  optimal in    {report['optimal_action_share']:.1%} of the states"
            + (f", values within {report['value_error']:.4g} of the optimum" if "value_error" in report else "")
        )
    return lines
