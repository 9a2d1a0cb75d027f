"""Commands and workers of a study killed at random: every trial is done, once, and as if nothing had happened."""

import json
import os
import random
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path

import pytest
from gated import Gate
from processes import start, wait

pytest.importorskip("optuna", reason="Optuna is not installed")

from rltrain.config.load import load
from rltrain.experiment import Run
from rltrain.records import read_metrics
from rltrain.rundir import GROUP
from rltrain.tuning.reading import read_study

KILLS, SURE, TRIALS = 20, 3, 24
SEARCH = f"""
env: {{id: Gated-v0, kwargs: {{gate: GATE, at: 3_250}}}}
agent: {{name: q_learning, learning_rate: 0.1}}
exploration: {{name: epsilon_greedy, epsilon: 0.2}}
train: {{total_steps: 6_000, log_every: 100, compile: off}}
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
    return start(
        "tune", "x.yaml", "--study", "s", "--resume", "--workers", "1", "--plugin", "gated",
        cwd=folder, stdout=subprocess.DEVNULL, stderr=open(folder / "errors", "a"),
    )  # fmt: skip


def workers(tuner):
    """Processes that a command has started."""
    with suppress(OSError):
        return list(map(int, Path(f"/proc/{tuner.pid}/task/{tuner.pid}/children").read_text().split()))
    return []


def waiting(gate, tuners):
    """Workers of living commands that are before the gate."""
    return [pid for tuner in tuners for pid in workers(tuner) if pid in gate.waiting()]


def kill_at_random(rng, folder, gate):
    """Keep two commands at work, and kill them and their workers; those that are at work in the end.

    A run goes on beyond its gate only when it is let go, and that is less often than there are runs.
    """
    tuners = []
    for kill in range(KILLS):
        tuners = [tuner for tuner in tuners if tuner.poll() is None]
        tuners += [begin(folder) for _ in range(2 - len(tuners))]
        wait(lambda known=tuners: waiting(gate, known))
        victims = waiting(gate, tuners)
        if kill % SURE:  # at any moment; the others are in the midst of a run for certain
            gate.let_go(*victims)
            time.sleep(rng.uniform(0.0, 1.0))
            tuner = rng.choice(tuners)
            victims = [tuner.pid, *workers(tuner)]
        victim = rng.choice(victims)
        with suppress(ProcessLookupError):
            os.kill(victim, signal.SIGKILL)
        gate.let_go(victim)
    return tuners


@pytest.mark.slow
def test_twenty_killed_at_random_lose_no_trial_and_count_none_twice(tmp_path):
    gate = Gate(tmp_path / "gate")
    (tmp_path / "x.yaml").write_text(SEARCH.replace("GATE", str(gate.folder)))
    study = tmp_path / "runs" / "x" / "tune" / "s"
    tuners = kill_at_random(random.Random(0), tmp_path, gate)
    gate.open()
    for tuner in tuners:
        tuner.wait(timeout=600)
    last = begin(tmp_path)
    assert last.wait(timeout=600) == 0, (tmp_path / "errors").read_text()
    assert "Traceback" not in (tmp_path / "errors").read_text()

    trials = read_study(study, None).trials()
    assert [(trial.number, trial.state.name) for trial in trials] == [(n, "COMPLETE") for n in range(TRIALS)]
    assert len({trial.params["agent.learning_rate"] for trial in trials}) == TRIALS
    assert sorted(path.name for path in study.glob("trial-*")) == [f"trial-{n:04}" for n in range(TRIALS)]
    again, steps = 0, sorted([*range(100, 6_001, 100), *range(1_500, 6_001, 1_500)])
    for trial in trials:
        runs = [study / f"trial-{trial.number:04}" / f"seed-{seed}" for seed in (0, 1)]
        assert trial.value == sum(read_metrics(run)[-1]["eval/exact_return"] for run in runs) / 2
        assert sorted(trial.user_attrs["scores"]) == ["0", "1"]
        for run in runs:
            assert [entry["step"] for entry in read_metrics(run)] == steps
            again += len(json.loads((run / "sittings.json").read_text())["sittings"]) - 1
    assert again >= len(range(0, KILLS, SURE))
    for number in (0, TRIALS // 2):  # as if nothing had happened
        folder, alone = study / f"trial-{number:04}", tmp_path / f"alone-{number}"
        alone.mkdir()
        undisturbed = Run(load(folder / GROUP).config.single(1), alone)
        undisturbed.train()
        undisturbed.close()
        assert (folder / "seed-1" / "metrics.jsonl").read_bytes() == (alone / "metrics.jsonl").read_bytes()
