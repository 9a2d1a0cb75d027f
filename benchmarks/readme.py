"""Put the results into the tables of README and docs: python benchmarks/readme.py."""

from __future__ import annotations

import json
import re
from pathlib import Path

from rltrain.config.load import load

HERE = Path(__file__).parent
FEW = 5
"""Seeds from which an interval is told, as everywhere in rltrain; of fewer, the figure of each."""
PAGES = ("README.md", "docs/results.md", "docs/speed.md")


def learning() -> str:
    """The seeds of the main configuration."""
    data = json.loads((HERE / "results" / "dqn_cartpole.json").read_text())
    low, high = data["iqm_ci95"]
    finals = ", ".join(f"{row['last']:.0f}" for row in data["rows"])
    bests = ", ".join(f"{row['best']:.0f}" for row in data["rows"])
    return (
        f"| IQM over {len(data['rows'])} seeds | 95 % interval | seeds at 475 or more | final policy of each seed | "
        "best checkpoint of each seed |\n|---|---|---|---|---|\n"
        f"| {data['iqm']:.1f} | {low:.1f} to {high:.1f} | {data['seeds_at_the_bar']} | {finals} | {bests} |"
    )


def policy() -> str:
    """Every configuration of a deep agent, beside what rl_zoo3 publishes of one run (benchmark.md)."""
    zoo = {
        ("ppo", "CartPole-v1"): "500.0 at 100,000",
        ("a2c", "CartPole-v1"): "500.0 at 500,000",
        ("ppo", "Acrobot-v1"): "-73.5 at 1,000,000",
        ("a2c", "Acrobot-v1"): "-83.4 at 500,000",
        ("ppo", "MountainCar-v0"): "-110.4 at 1,000,000",
        ("a2c", "MountainCar-v0"): "-111.3 at 1,000,000",
        ("ppo", "Pendulum-v1"): "-172.2 at 100,000",
        ("a2c", "Pendulum-v1"): "-163.0 at 1,000,000",
        ("ppo", "MountainCarContinuous-v0"): "88.3 at 20,000",
        ("a2c", "MountainCarContinuous-v0"): "91.2 at 100,000",
        ("dqn", "CartPole-v1"): "500.0 at 50,000",
        ("qr_dqn", "CartPole-v1"): "500.0 at 50,000",
        ("dqn", "Acrobot-v1"): "-76.6 at 100,000",
        ("qr_dqn", "Acrobot-v1"): "-69.1 at 100,000",
        ("dqn", "MountainCar-v0"): "-100.9 at 120,000",
        ("qr_dqn", "MountainCar-v0"): "-106.0",
        ("dqn", "LunarLander-v3"): "154.4 at 100,000 (-v2)",
        ("qr_dqn", "LunarLander-v3"): "70.2 at 100,000 (-v2)",
        ("sac", "Pendulum-v1"): "-157.0 at 20,000",
        ("td3", "Pendulum-v1"): "-151.9 at 20,000",
        ("sac", "MountainCarContinuous-v0"): "94.7 at 50,000",
        ("sac", "LunarLanderContinuous-v3"): "260.4 at 500,000 (-v2)",
        ("td3", "LunarLanderContinuous-v3"): "207.5 at 300,000 (-v2)",
        ("ppo", "LunarLander-v3"): "242.1 at 1,000,000 (-v2)",
        ("ppo", "LunarLanderContinuous-v3"): "270.9 at 1,000,000 (-v2)",
    }
    rows = []
    for path in (HERE / "results").glob("*.json"):
        data = json.loads(path.read_text())
        if "iqm_ci95" not in data:
            continue
        settings = load(HERE.parent / data["config"]).config
        if not hasattr(settings.agent, "hidden_sizes"):
            continue  # a table: see below
        agent = settings.agent.name
        low, high = data["iqm_ci95"]
        finals = ", ".join(f"{row['last']:.1f}" for row in data["rows"])
        shown = f"[{low:.1f}, {high:.1f}]" if len(data["rows"]) >= FEW else f"({finals})"
        count = f"{data['seeds_at_the_bar']} of {len(data['rows'])} at {data['bar']:g}"
        result = f"{data['iqm']:.1f} {shown}"
        steps = f"{settings.train.total_steps:,}"
        named = f"{agent}, published settings" if "published" in data["config"] else agent
        rows.append((settings.env.id, named, steps, result, count, zoo.get((agent, settings.env.id), "")))
    head = "| environment | agent | steps | IQM over seeds, 95 % interval | seeds at the bar | rl_zoo3, one run |"
    return head + "\n|---|---|---|---|---|---|\n" + "\n".join(f"| {' | '.join(row)} |" for row in sorted(rows))


def policy_speed() -> str:
    """PPO and A2C against Stable-Baselines3, and the time to a proven CartPole."""
    data = json.loads((HERE / "results" / "policy_gradient.json").read_text())
    rows = {}
    for agent in ("ppo", "a2c"):
        for part, what in (("whole_run", "100,000 steps, process start to exit"), ("collection", "collection alone")):
            measured = data[f"{part}_{agent}"]
            ratios = [row["ratio"] for row in measured["pairs"]]
            rows[f"{agent.upper()}, published settings, {what}"] = (
                f"{measured['median_ratio']:.1f} times as fast as Stable-Baselines3 "
                f"({min(ratios):.1f} to {max(ratios):.1f}, {len(ratios)} pairs)"
            )
    proven = data["proven_cartpole"]
    ratios = [row["ratio"] for row in proven["seeds"]]
    rows["process start to a proven CartPole and exit, `configs/ppo_cartpole_fast.yaml`"] = (
        f"{proven['median_ratio']:.2f} times `import torch` ({min(ratios):.2f} to {max(ratios):.2f}); "
        f"{proven['solved']} of {len(ratios)} seeds, median {proven['median_steps']:,.0f} steps"
    )
    return "| | |\n|---|---|\n" + "\n".join(f"| {name} | {value} |" for name, value in rows.items())


def speed() -> str:
    """The ratio to the peer and the small figures."""
    data = json.loads((HERE / "results" / "speed.json").read_text())
    whole = data["whole_run_published_dqn_cartpole"]
    ratios = [row["ratio"] for row in whole["pairs"]]
    rows = {
        "DQN, published settings, 50,000 steps, process start to exit": f"{whole['median_ratio']:.2f} times as fast as "
        f"Stable-Baselines3 ({min(ratios):.2f} to {max(ratios):.2f}, {len(ratios)} pairs)",
        "100 greedy CartPole episodes": f"{data['evaluation_100_episodes_seconds']:.2f} s "
        f"(mean length {data['evaluation_mean_length']:.0f})",
        "`rltrain --help`": f"{data['help_seconds']:.2f} s",
        "`rltrain check`": f"{data['check_seconds']:.2f} s",
        "process start to the first gradient step": f"{data['first_gradient_step_over_import_torch']:.2f} times "
        "`import torch`",
        "a checkpoint of 100 kB, flushed to the disk": f"{data['checkpoint_100kB_milliseconds']:.1f} ms",
        "a log entry of 10 values": f"{data['log_entry_microseconds']:.0f} microseconds",
    }
    return "| | |\n|---|---|\n" + "\n".join(f"| {name} | {value} |" for name, value in rows.items())


def tabular() -> str:
    """Every tabular configuration, by environment."""
    rows = []
    for path in sorted((HERE / "results" / "tabular").glob("*.json")):
        data = json.loads(path.read_text())
        seeds = data["rows"]
        low, high = data["exact_return_ci95"]
        optimum = f"{data['optimal_return']:.4f}"
        value = f"{data['exact_return_mean']:.4f} [{low:.4f}, {high:.4f}]"
        reached = sorted(row["reached"] for row in seeds if row["reached"] is not None)
        steps = f"{reached[len(reached) // 2]:,} ({len(reached)} of {len(seeds)})" if reached else "none"
        on_policy = [row["behaviour_value"] for row in seeds]
        if data["env"] == "CliffWalking-v1" and "sarsa" in data["agent"]:
            steps = f"its own policy: {sum(on_policy) / len(seeds):.3f} of -20.708"
        rate = data["steps_per_second"]
        speed = "" if data["total_steps"] < 50_000 else f"{rate / 1e6:.1f} M" if rate >= 1e5 else f"{rate / 1e3:.0f} k"
        name = path.stem.removeprefix(data["agent"] + "_").replace("_", " ")
        rows.append((name, data["agent"], value, optimum, steps, speed))
    lines = [" | ".join(row) for row in sorted(rows)]
    head = "| environment | agent | exact return, 95 % interval | optimum | steps to 1 % (seeds) | steps a second |"
    return head + "\n|---|---|---|---|---|---|\n" + "\n".join(f"| {line} |" for line in lines)


def gpu() -> str:
    """A gradient step in NumPy and on a GPU."""
    data = json.loads((HERE / "results" / "cuda.json").read_text())
    cases = data["cases"]
    head = f"| PPO, microseconds a gradient step ({data['gpu']}, torch {data['torch']}) | {' | '.join(cases)} |"
    ways = next(iter(cases.values()))
    rows = [f"| {way} | {' | '.join(format(case[way]['median'], ',.0f') for case in cases.values())} |" for way in ways]
    return "\n".join([head, "|---|" + "---|" * len(cases), *rows])


def tabular_speed() -> str:
    """The compiled loop against a plain Python loop."""
    from tabular_speed import table

    whole = json.loads((HERE / "results" / "tabular_speed.json").read_text())["processes"]
    run, first = whole["whole_run_seconds"], whole["first_step_after_import_numba_seconds"]
    return (
        f"{table()}\n| whole `rltrain train` of {whole['whole_run_steps']:,} steps, logs and checkpoints included | | "
        f"FrozenLake-v1 | {run['median']:.1f} s | [{run['min']:.1f}, {run['max']:.1f}] | |\n"
        f"| first step after `import numba` ({whole['import_numba_seconds']:.2f} s), loop found on disk | | "
        f"FrozenLake-v1 | {first['median']:.2f} s | [{first['min']:.2f}, {first['max']:.2f}] | |"
    )


def headline() -> str:
    """A few configurations of every kind."""
    rows = []
    for name, optimum in (("q_learning_frozenlake_4x4", True), ("dyna_q_taxi", True), ("dqn_cartpole", False),
                          ("ppo_cartpole", False), ("ppo_acrobot", False), ("ppo_lunarlander", False)):  # fmt: skip
        data = json.loads((HERE / "results" / ("tabular" if optimum else "") / f"{name}.json").read_text())
        settings, count = load(HERE.parent / "configs" / f"{name}.yaml").config, len(data["rows"])
        low, high = data["exact_return_ci95" if optimum else "iqm_ci95"]
        digits = 4 if optimum else 1
        value = data["exact_return_mean" if optimum else "iqm"]
        best = (
            f"the optimum is {data['optimal_return']:.4f}"
            if optimum
            else f"{data['seeds_at_the_bar']} of {count} seeds"
        )
        result = f"{value:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"
        bar = best if optimum else f"{best} at {data['bar']:g} or more"
        rows.append(f"| `configs/{name}.yaml` | {settings.train.total_steps:,} | {result} | {count} | {bar} |")
    head = "| | steps | return of the final policy, 95 % interval | seeds | |\n|---|---|---|---|---|"
    return "\n".join([head, *rows])


def headline_speed() -> str:
    """Whole runs, and tables."""
    files = ("speed", "policy_gradient", "tabular_speed", "seeds")
    speed, policy, tables, seeds = (json.loads((HERE / "results" / f"{name}.json").read_text()) for name in files)
    whole = {
        "DQN, 50,000": speed["whole_run_published_dqn_cartpole"],
        "PPO, 100,000": policy["whole_run_ppo"],
        "A2C, 100,000": policy["whole_run_a2c"],
    }
    rows = {
        f"{name} steps of CartPole, published settings, process start to exit": f"{data['median_ratio']:.1f} times as "
        "fast as Stable-Baselines3"
        for name, data in whole.items()
    }
    proven = policy["proven_cartpole"]["median_ratio"]
    rows["CartPole solved, proven on 100 fresh episodes, start to exit"] = f"{proven:.1f} times `import torch`"
    ratios = [row["ratio_to_plain"]["median"] for row in tables["rows"]]
    rows[f"tables: compiled loop against plain Python, {len(ratios)} pairs of rule and exploration"] = (
        f"{min(ratios):.0f} to {max(ratios):.0f} times as fast"
    )
    rows["10 seeds of PPO on 2 cores, one command"] = f"{seeds['times_the_loop']:.1f} times as fast as 10 runs in turn"
    return "| | |\n|---|---|\n" + "\n".join(f"| {name} | {value} |" for name, value in rows.items())


def main() -> None:
    """Rewrite what stands between each marker and the next blank line after its table."""
    tables = {
        "headline": headline(),
        "headline speed": headline_speed(),
        "learning": learning(),
        "policy": policy(),
        "speed": speed(),
        "policy speed": policy_speed(),
        "gpu speed": gpu(),
        "tabular": tabular(),
        "tabular speed": tabular_speed(),
    }
    for page in (HERE.parent / name for name in PAGES):
        text = page.read_text()
        for name, table in tables.items():
            text = re.sub(
                rf"<!-- {name} -->\n(\n(\|.*\n)+)?", lambda _, n=name, t=table: f"<!-- {n} -->\n\n{t}\n", text
            )
        page.write_text(text)


if __name__ == "__main__":
    main()
