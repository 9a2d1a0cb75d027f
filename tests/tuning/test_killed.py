"""Commands and workers of a study killed at random: every trial is done, once, and as if nothing had happened."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

pytest.importorskip("optuna", reason="Optuna is not installed")

from rltrain.config.load import load
from rltrain.experiment import Run
from rltrain.records import read_metrics
from rltrain.rundir import GROUP
from rltrain.tuning.reading import read_study

KILLS, TRIALS = 20, 30
SEARCH = f"""
env: {{id: FrozenLake-v1}}
agent: {{name: q_learning, learning_rate: 0.1}}
exploration: {{name: epsilon_greedy, epsilon: 0.2}}
train: {{total_steps: 6_000, log_every: 500, compile: off}}
eval: {{every: 1_500, episodes: 2}}
checkpoint: {{every: 500}}
device: cpu
tune:
  sampler: random
  trials: {TRIALS}
  seeds_per_trial: 2
  objective: eval/exact_return
  confirm: {{top: 0}}
  search:
    agent.learning_rate: {{log_uniform: [0.01, 1]}}
"""


def begin(folder):
    command = ["tune", "x.yaml", "--study", "s", "--resume", "--workers", "1"]
    return subprocess.Popen(
        [sys.executable, "-m", "rltrain", *command],
        cwd=folder, stdout=subprocess.DEVNULL, stderr=open(folder / "errors", "a"),
    )  # fmt: skip


def kill_one(rng, tuners):
    """Kill a command or a process that it started; whether it was still there."""
    pid = rng.choice(tuners).pid
    with suppress(OSError):
        workers = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        os.kill(rng.choice([pid, *map(int, workers)]), signal.SIGKILL)
        return True
    return False


@pytest.mark.slow
def test_twenty_killed_at_random_lose_no_trial_and_count_none_twice(tmp_path):
    rng, tuners, kills = random.Random(0), [], 0
    (tmp_path / "x.yaml").write_text(SEARCH)
    study = tmp_path / "runs" / "x" / "tune" / "s"
    while kills < KILLS:  # spread over the whole study: one each time that another trial is done
        tuners = [tuner for tuner in tuners if tuner.poll() is None]
        tuners += [begin(tmp_path) for _ in range(2 - len(tuners))]
        time.sleep(rng.uniform(0.0, 1.0))
        done = len(list(study.glob("trial-*/summary.json")))
        assert done < TRIALS, "finished before all were killed"
        if done >= kills and kill_one(rng, tuners):
            kills += 1
    for tuner in tuners:
        tuner.wait(timeout=600)
    last = begin(tmp_path)
    assert last.wait(timeout=600) == 0, (tmp_path / "errors").read_text()
    assert "Traceback" not in (tmp_path / "errors").read_text()

    trials = read_study(study, None).trials()
    assert [(trial.number, trial.state.name) for trial in trials] == [(n, "COMPLETE") for n in range(TRIALS)]
    assert len({trial.params["agent.learning_rate"] for trial in trials}) == TRIALS
    assert sorted(path.name for path in study.glob("trial-*")) == [f"trial-{n:04}" for n in range(TRIALS)]
    resumed, steps = 0, sorted([*range(500, 6_001, 500), *range(1_500, 6_001, 1_500)])
    for trial in trials:
        runs = [study / f"trial-{trial.number:04}" / f"seed-{seed}" for seed in (0, 1)]
        assert trial.value == sum(read_metrics(run)[-1]["eval/exact_return"] for run in runs) / 2
        assert sorted(trial.user_attrs["scores"]) == ["0", "1"]
        for run in runs:
            assert [entry["step"] for entry in read_metrics(run)] == steps
            resumed += len(json.loads((run / "sittings.json").read_text())["sittings"]) > 1
    assert resumed >= KILLS // 3
    for number in (0, TRIALS // 2):  # as if nothing had happened
        folder, alone = study / f"trial-{number:04}", tmp_path / f"alone-{number}"
        alone.mkdir()
        undisturbed = Run(load(folder / GROUP).config.single(1), alone)
        undisturbed.train()
        undisturbed.close()
        assert (folder / "seed-1" / "metrics.jsonl").read_bytes() == (alone / "metrics.jsonl").read_bytes()
