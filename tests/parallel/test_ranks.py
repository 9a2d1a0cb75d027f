"""Ranks in processes of their own: over gloo alone, and as actors of Ray."""

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from datetime import timedelta

import numpy as np
import pytest
import torch
import torch.distributed as dist
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


TIMEOUT = 200.0
"""Seconds that only those wait for who fail."""


def told(port, leaves):
    from rltrain.collective import joined_store

    team = TorchTeam(1, 2, joined_store("127.0.0.1", port), timeout=TIMEOUT)
    mean, everyone = team.average(np.array([6.0, 1.0]), 0.75), team.gather(np.array(7))
    while not leaves.exists():  # does not come to the next one
        time.sleep(0.02)
    team.close()
    return mean.tolist(), everyone.tolist()


@pytest.mark.parametrize("hangs", [False, True])
def test_two_processes_average_over_gloo_and_neither_waits_for_ever(hangs, tmp_path):
    """A rank that leaves is noticed at once, one that hangs after the timeout: a short one once nothing else waits."""
    store, port = opened_store("127.0.0.1")
    leaves, spawn = tmp_path / "leaves", multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=spawn) as pool, ExitStack() as at_last:
        at_last.callback(leaves.touch)
        other = pool.submit(told, port, leaves)
        team = TorchTeam(0, 2, store, timeout=TIMEOUT)
        assert team.average(np.array([2.0, 1.0]), 0.25).tolist() == [5.0, 1.0]
        assert team.gather(np.array(3)).tolist() == [3, 7]
        assert dist.group.WORLD._get_backend(torch.device("cpu")).options._timeout == timedelta(seconds=TIMEOUT)
        if hangs:
            dist.distributed_c10d._set_pg_timeout(timedelta(seconds=1), dist.group.WORLD)
        else:
            leaves.touch()
        with pytest.raises(TeamLost, match="the other ranks do not answer") as lost:
            team.any(True)
        assert ("Timed out" in str(lost.value)) == hangs
        leaves.touch()
        assert other.result() == ([5.0, 1.0], [3, 7])
        team.close()


STOPPED = """
import os, signal
from rltrain import parallel

def stop(loop, steps):
    if loop.steps >= {step}:
        parallel.DataParallelLoop.advance = advance
        os.kill(os.getpid(), signal.SIGSTOP)
    return advance(loop, steps)

advance, parallel.DataParallelLoop.advance = parallel.DataParallelLoop.advance, stop
parallel.GRACE_SECONDS = 1_000.0
"""
"""A run that stops itself once, at a step, for what is to happen there; and hears out all ranks, however slow."""


def started(*arguments, stop=4_096):
    code = STOPPED.format(step=stop) + "from rltrain.cli.main import main; main()"
    command = [sys.executable, "-c", code, "train", *map(str, arguments)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(command, stdout=-1, stderr=-1, text=True, env=environment, cwd=ROOT)


def finished(*arguments):
    run = started(*arguments)
    output, errors = run.communicate()
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
    for kill, code, step in ((False, 130, 1_024), (True, 71, 2_048)):
        run = started(*(["--resume", parts] if kill else [config, "--run-dir", parts]), stop=step)
        assert os.WIFSTOPPED(os.waitpid(run.pid, os.WUNTRACED)[1]), run.communicate()
        os.kill(ranks_of(run.pid)[1] if kill else run.pid, signal.SIGKILL if kill else signal.SIGINT)
        os.kill(run.pid, signal.SIGCONT)
        _, errors = run.communicate()
        assert run.returncode == code, errors
        assert not kill or "its process is gone" in errors
        assert saved(parts)
    finished("--resume", parts)
    assert (parts / "metrics.jsonl").read_bytes() == (whole / "metrics.jsonl").read_bytes()
    one = tmp_path / "one"
    finished(config, "train.data_parallel=1", "env.num_envs=4", "train.total_steps=1024", "--run-dir", one)
    first, expected = (json.loads((run / "metrics.jsonl").read_text().splitlines()[0]) for run in (whole, one))
    assert first == pytest.approx(expected, rel=1e-3, abs=1e-3)
