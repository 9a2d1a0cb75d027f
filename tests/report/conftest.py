"""Two small groups of tables, trained once for all tests of the report."""

import json

import pytest

from rltrain.config.load import load
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
    from rltrain.config.load import dump

    (folder / "config.yaml").write_text(dump(config))
    run = Run(config, folder)
    run.train()
    run.close()


@pytest.fixture(scope="session")
def groups(tmp_path_factory):
    """Five seeds of Q-learning, and three of SARSA, in a folder whose name is hostile."""
    root = tmp_path_factory.mktemp("report")
    many, few = root / "q_learning", root / "<b>sarsa & co"
    for seed in range(5):
        train(many / f"seed-{seed}", "q_learning", seed)
    for seed in range(3):
        train(few / f"seed-{seed}", "sarsa", seed)
    return many, few


@pytest.fixture
def logged(tmp_path):
    """Makes a run that has logged nothing but these curves: name -> values, at every tenth step."""

    def make(name, seed=0, **curves):
        folder = tmp_path / name / f"seed-{seed}"
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

    return make
