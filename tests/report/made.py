"""Runs to report on: tables that are trained in a moment, and logs without a training."""

import json

from rltrain.config.load import dump, load
from rltrain.experiment import Run
from rltrain.rundir import write_atomic

TABLE = """
env: {{id: FrozenLake-v1}}
agent: {{name: {agent}, learning_rate: 0.5, gamma: 0.99}}
exploration: {{name: epsilon_greedy, epsilon: {{schedule: linear, start: 1.0, end: 0.1, steps: 1_500}}}}
train: {{total_steps: 2_000, log_every: 200}}
eval: {{every: 500, episodes: 5}}
checkpoint: {{every: 1_000}}
seed: {seed}
device: cpu
"""


def train(folder, agent, seed):
    """One run of a table, in its folder."""
    folder.mkdir(parents=True)
    source = folder.parent / f"{folder.name}.yaml"
    source.write_text(TABLE.format(agent=agent, seed=seed))
    config = load(source, []).config
    (folder / "config.yaml").write_text(dump(config))
    run = Run(config, folder)
    run.train()
    run.close()


def logged(root, name, seed=0, **curves):
    """A run that has logged nothing but these curves: name -> values, at every tenth step. Returns its group."""
    folder = root / name / f"seed-{seed}"
    folder.mkdir(parents=True)
    text = f"env: {{id: CartPole-v1}}\nagent: {{name: dqn}}\nseed: {seed}\n"
    text += "train: {total_steps: 100}\neval: {every: 10, episodes: 3}\n"
    (folder / "config.yaml").write_text(text)
    length = max(map(len, curves.values()))
    entries = [
        {"step": 10 * (at + 1)} | {key.replace("__", "/"): values[at] for key, values in curves.items()}
        for at in range(length)
    ]
    write_atomic(folder / "metrics.jsonl", "".join(json.dumps(entry) + "\n" for entry in entries))
    return folder.parent
