"""Run folders as training leaves them, made in no time."""

import json

import yaml

CONFIG = {
    "env": {"id": "CartPole-v1", "kwargs": {}, "max_episode_steps": None, "wrappers": []},
    "agent": {"name": "dqn", "learning_rate": 0.001},
    "train": {"total_steps": 100, "log_every": 10},
    "eval": {"every": 50, "episodes": 20, "success": None},
}


def merged(base, changes):
    both = dict(base)
    for key, value in changes.items():
        both[key] = merged(both[key], value) if isinstance(value, dict) and isinstance(both.get(key), dict) else value
    return both


def make_run(folder, seed, values, *, status="finished", metric="eval/return", **changes):
    """A run whose metric had these values, spread over its budget."""
    config = merged({**CONFIG, "seed": seed}, changes)
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    total = config["train"]["total_steps"]
    steps = [total * (index + 1) // len(values) for index in range(len(values))]
    lines = [
        json.dumps({"step": step, metric: value, "train/loss": 0.5}) for step, value in zip(steps, values, strict=True)
    ]
    (folder / "metrics.jsonl").write_text("".join(line + "\n" for line in lines))
    if status != "interrupted":
        (folder / "summary.json").write_text(json.dumps({"status": status}))
    return folder


def make_group(folder, finals, **changes):
    """A run for each final score; half of it in the middle."""
    for seed, final in enumerate(finals):
        make_run(folder / f"seed-{seed}", seed, [final / 2, final], **changes)
    return folder
