"""Ranks in processes of their own: over gloo alone, and as actors of Ray."""

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor

import numpy as np
import pytest
from conftest import ROOT

from rltrain.collective import TeamLost, TorchTeam, opened_store

pytestmark = pytest.mark.slow
CONFIG = """
env: {id: Pendulum-v1, num_envs: 2, wrappers: [{name: normalize_observation}, {name: normalize_reward}]}
agent: {name: ppo, n_steps: 32, batch_size: 48, n_epochs: 3, hidden_sizes: [16]}
train: {total_steps: 4_096, log_every: 512, data_parallel: 2}
eval: {every: 2_048, episodes: 2}
checkpoint: {every: 1_024}
seed: 1
device: cpu
"""


def told(port, timeout):
    from rltrain.collective import joined_store

    team = TorchTeam(1, 2, joined_store("127.0.0.1", port), timeout=timeout)
    mean, everyone = team.average(np.array([6.0, 1.0]), 0.75), team.gather(np.array(7))
    time.sleep(2 * timeout if timeout < 60 else 0)  # does not come to the next one
    team.close()
    return mean.tolist(), everyone.tolist()


@pytest.mark.parametrize("timeout", [120.0, 8.0])
def test_two_processes_average_over_gloo_and_neither_waits_for_ever(timeout):
    """A rank that leaves is noticed at once, one that hangs after the timeout."""
    store, port = opened_store("127.0.0.1")
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        pool.submit(os.getpid).result()
        other = pool.submit(told, port, timeout)
        team = TorchTeam(0, 2, store, timeout=timeout)
        assert team.average(np.array([2.0, 1.0]), 0.25).tolist() == [5.0, 1.0]
        assert team.gather(np.array(3)).tolist() == [3, 7]
        began = time.monotonic()
        with pytest.raises(TeamLost, match="the other ranks do not answer"):
            team.any(True)
        assert time.monotonic() - began < 60
        assert other.result() == ([5.0, 1.0], [3, 7])
        team.close()


def command(*arguments):
    code = "from rltrain.cli.main import main; main()"
    return [sys.executable, "-c", code, "train", *map(str, arguments)]


def started(*arguments):
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(command(*arguments), stdout=-1, stderr=-1, text=True, env=environment, cwd=ROOT)


def finished(*arguments):
    run = started(*arguments)
    output, errors = run.communicate(timeout=280)
    assert run.returncode == 0, errors
    return output


def ranks_of(pid):
    """Processes below this one with a rank in them, which Ray names after their class."""
    listed = subprocess.run(["ps", "-eo", "pid=,ppid=,args="], capture_output=True, text=True, check=True).stdout
    rows = [line.split(None, 2) for line in listed.splitlines()]
    below, names = {str(pid)}, {own: name for own, _, name in rows}
    while more := {own for own, parent, _ in rows if parent in below} - below:
        below |= more
    return sorted(int(own) for own in below if "RankActor" in names.get(own, ""))


def saved(folder):
    return sorted(path.name for path in (folder / "checkpoints").glob("step-*"))


@pytest.fixture
def config(tmp_path):
    pytest.importorskip("ray", reason="Ray is not installed")
    path = tmp_path / "pendulum.yaml"
    path.write_text(CONFIG)
    return path


def test_actors_learn_what_one_process_learns_and_go_on_after_a_signal_and_a_loss(config, tmp_path):
    """SIGINT, then a rank that is killed, then the rest: the bytes of a run without either."""
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    finished(config, "--run-dir", whole)
    for kill, code in ((False, 130), (True, 71)):
        run = started(*(["--resume", parts] if kill else [config, "--run-dir", parts]))
        before = len(saved(parts)) if kill else 0
        while len(saved(parts)) == before or not (ranks := ranks_of(run.pid)):
            assert run.poll() is None, run.communicate()
            time.sleep(0.05)
        os.kill(ranks[1] if kill else run.pid, signal.SIGKILL if kill else signal.SIGINT)
        _, errors = run.communicate(timeout=120)
        assert run.returncode == code, errors
        assert not kill or "its process is gone" in errors
        assert saved(parts)
    finished("--resume", parts)
    assert (parts / "metrics.jsonl").read_bytes() == (whole / "metrics.jsonl").read_bytes()
    one = tmp_path / "one"
    finished(config, "train.data_parallel=1", "env.num_envs=4", "train.total_steps=1024", "--run-dir", one)
    first, expected = (json.loads((run / "metrics.jsonl").read_text().splitlines()[0]) for run in (whole, one))
    assert first == pytest.approx(expected, rel=1e-3, abs=1e-3)
