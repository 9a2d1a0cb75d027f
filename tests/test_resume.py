"""A run that was killed and resumed ends exactly as one that never was."""

import functools
import json
import os
import random
import signal
import subprocess
import sys

import pytest
from commands import run, signalled
from conftest import SMALL
from processes import RLTRAIN
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from rltrain import checkpoint, loop
from rltrain.config.load import load
from rltrain.experiment import Run
from rltrain.logger import read_metrics
from rltrain.sittings import read_sittings

CALLS = 5_000
"""About as many as writing a checkpoint takes."""


def trained(*arguments):
    """Train to the end."""
    done = run(RLTRAIN, "train", *arguments, "--quiet")
    assert done.returncode == 0, done.stderr
    return done


SHORT = """
train: {total_steps: 20_000, log_every: 500}
eval: {every: 4_000, episodes: 3}
checkpoint: {every: 1_100, keep_last: 3, keep_best: 1}
seed: 3
device: cpu
"""
RUNS = {
    "dqn": SMALL,
    "the compiled loop": """
env: {id: FrozenLake-v1}
agent: {name: sarsa_lambda, learning_rate: 0.05}
exploration: {name: boltzmann, temperature: {schedule: exponential, start: 1.0, end: 0.01, steps: 900_000}}
bonuses: [{name: count}]
train: {total_steps: 3_000_000, log_every: 10_000, compile: "on"}
eval: {every: 200_000, episodes: 20}
checkpoint: {every: 70_000, keep_last: 3, keep_best: 1}
seed: 3
""",
    "ppo": """
env: {id: CartPole-v1, num_envs: 4, wrappers: [{name: normalize_observation}, {name: normalize_reward}]}
agent: {name: ppo, hidden_sizes: [16, 16], n_steps: 32, batch_size: 48, n_epochs: 3, clip_range_vf: 0.2,
        learning_rate: {schedule: linear, start: 3e-3, end: 0, steps: 20_000}}
"""
    + SHORT,
    "a2c": """
env: {id: Pendulum-v1, num_envs: 4, wrappers: [{name: normalize_observation}, {name: normalize_reward}]}
agent: {name: a2c, hidden_sizes: [16, 16], n_steps: 7, gae_lambda: 0.9, state_dependent_std: true, ent_coef: 0.01}
"""
    + SHORT,
    "rainbow": """
env: {id: CartPole-v1, num_envs: 2}
agent: {name: rainbow, hidden_sizes: [16, 16], batch_size: 16, buffer_size: 1_500, learning_starts: 200, v_min: 0,
        v_max: 100, n_atoms: 21, learning_rate: 1e-3, target_update_interval: 100, train_freq: 8, munchausen: {},
        prioritized: {alpha: 0.5, beta: {schedule: linear, start: 0.4, end: 1.0, steps: 20_000}}}
"""
    + SHORT,
    "sac": """
env: {id: Pendulum-v1, num_envs: 2}
agent: {name: sac, hidden_sizes: [16, 16], batch_size: 32, buffer_size: 2_000, n_step: 3, learning_starts: 500,
        train_freq: 10, sde: true, sde_sample_freq: 8}
"""
    + SHORT,
}
SLOW = ("a2c", "rainbow", "sac")  # killed in a slow test alone


def scalars(folder):
    """Tag -> [(step, value)] of everything but times, read by TensorBoard itself."""
    reader = EventAccumulator(str(folder), size_guidance={"scalars": 0})
    reader.Reload()
    tags = [tag for tag in reader.Tags()["scalars"] if not tag.startswith("time/")]
    return {tag: [(event.step, event.value) for event in reader.Scalars(tag)] for tag in tags}


def outcome(folder):
    """Everything that has to be equal: the last checkpoint's state, metrics and scalars."""
    path = checkpoint.find(folder / "checkpoints", "last")
    state = checkpoint.load(path).state
    for part in ("clock", "logger"):
        state.pop(part)
    arrays = {}
    tree = checkpoint._outline(state, "", arrays)
    return (
        json.dumps(tree),
        {name: (array.dtype.str, array.tobytes()) for name, array in arrays.items()},
        (folder / "metrics.jsonl").read_bytes(),
        scalars(folder),
    )


def assert_equal_outcomes(folder, reference):
    found = outcome(folder)
    for mine, its in zip(found[:3], reference[:3], strict=True):
        assert mine == its
    assert found[3] == reference[3]


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    """Path of a configuration in RUNS, and what an uninterrupted run of it comes to; each is run once."""

    @functools.cache
    def finished(name):
        folder = tmp_path_factory.mktemp("uninterrupted")
        path = folder / "config.yaml"
        path.write_text(RUNS[name])
        trained(path, "--run-dir", folder / "run")
        return path, outcome(folder / "run")

    return finished


@pytest.fixture(scope="module")
def reference(uninterrupted):
    return uninterrupted("dqn")[1]


def moments(config, kills, rng):
    """Drawn steps, each with calls after it: anywhere, where a checkpoint is due, and so on; the last is the end."""
    total, every = config.train.total_steps, config.checkpoint.every
    steps = sorted(rng.sample(range(1, total - every), kills - 1))
    steps[1::2] = [step + -step % every for step in steps[1::2]]
    return [(step, rng.randrange(CALLS)) for step in (*steps, total)]


def assert_kills_change_nothing(path, folder, kills, reference):
    """Every sitting but the last one trains, is killed, and is gone on from at the newest checkpoint."""
    config = load(path).config
    killed = moments(config, kills, random.Random(kills))
    arguments = (path, "--run-dir", folder)
    for step, calls in killed:
        died = run(signalled(signal.SIGKILL, step, calls), "train", *arguments, "--quiet")
        assert died.returncode == -signal.SIGKILL, died.stderr
        arguments = ("--resume", folder)
    trained(*arguments)
    sittings = read_sittings(folder)
    assert [sitting["status"] for sitting in sittings] == [None] * kills + ["finished"]
    for (step, _), sitting in zip(killed, sittings[1:], strict=True):
        saved = (step - 1) // config.checkpoint.every * config.checkpoint.every
        assert sitting["from_step"] >= saved
    assert_equal_outcomes(folder, reference)


@pytest.mark.parametrize("name", [name for name in RUNS if name not in SLOW])
def test_killed_at_drawn_moments_ends_as_if_never_interrupted(name, tmp_path, uninterrupted):
    path, reference = uninterrupted(name)
    assert_kills_change_nothing(path, tmp_path / "run", 3, reference)


@pytest.mark.slow
@pytest.mark.parametrize("name", RUNS)
def test_twenty_kills_end_as_if_never_interrupted(name, tmp_path, uninterrupted):
    path, reference = uninterrupted(name)
    assert_kills_change_nothing(path, tmp_path / "run", 20, reference)


@pytest.mark.parametrize(("sent", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_saves_a_checkpoint_and_exits_with_its_code(small_config, tmp_path, reference, sent, code):
    folder = tmp_path / "run"
    ended = run(signalled(sent, 730), "train", small_config, "--run-dir", folder)
    assert ended.returncode == code, ended.stderr
    assert "Traceback" not in ended.stderr
    assert f"rltrain train --resume {folder}" in ended.stdout.replace("\n", "")
    assert checkpoint.load(checkpoint.find(folder / "checkpoints", "last")).step == 730
    assert json.loads((folder / "summary.json").read_text())["steps"] == 730
    trained("--resume", folder)
    assert_equal_outcomes(folder, reference)


@pytest.mark.parametrize("boundary", range(6))
def test_killed_inside_a_save_the_previous_checkpoint_is_used(small_config, tmp_path, reference, boundary):
    """The process dies at the n-th system call of its second save."""
    folder = tmp_path / "run"
    code = f"""
import os, signal
from rltrain import rundir, checkpoint
calls = [0]
def deadly(function):
    def call(*args, **kwargs):
        if active and active[0]:
            if calls[0] == {boundary}:
                os.kill(os.getpid(), signal.SIGKILL)
            calls[0] += 1
        return function(*args, **kwargs)
    return call
active = [False]
os.fsync, os.replace = deadly(os.fsync), deadly(os.replace)
checkpoint.shutil.rmtree = deadly(checkpoint.shutil.rmtree)
save, times = checkpoint.save, [0]
def counted(*args, **kwargs):
    times[0] += 1
    active[0] = times[0] == 2
    return save(*args, **kwargs)
checkpoint.save = counted
from rltrain.cli.main import main
main()
"""
    died = run([sys.executable, "-c", code], "train", small_config, "--run-dir", folder, "--quiet")
    assert died.returncode == -signal.SIGKILL, died.stderr
    trained("--resume", folder)
    assert read_sittings(folder)[1]["from_step"] == (250 if boundary < 5 else 400)  # the last call follows the renaming
    assert_equal_outcomes(folder, reference)
    assert not list((folder / "checkpoints").glob(".tmp*"))


@pytest.mark.parametrize("seconds", [1e-9, 1e9])
def test_pausing_elsewhere_changes_nothing(small_config, tmp_path, reference, monkeypatch, seconds):
    """The clock decides where the loop pauses; here it pauses after every single step, and only where it must."""
    monkeypatch.setattr(loop, "CHUNK_SECONDS", seconds)
    run = Run(load(small_config).config, tmp_path)
    try:
        run.train()
    finally:
        run.close()
    assert_equal_outcomes(tmp_path, reference)


def test_a_damaged_newest_checkpoint_is_set_aside_and_the_one_before_is_used(small_config, tmp_path, reference):
    folder = tmp_path / "run"
    trained(small_config, "train.total_steps=1_100", "--run-dir", folder)
    last = checkpoint.find(folder / "checkpoints", "last")
    payload = last / checkpoint.ARRAYS
    payload.write_bytes(payload.read_bytes()[:-1])
    warning = trained("--resume", folder, "train.total_steps=1_500").stderr
    assert last.name in warning
    assert "set aside" in warning
    assert read_sittings(folder)[1]["from_step"] == 1000
    assert (folder / "checkpoints" / f"{last.name}.corrupt").exists()
    assert_equal_outcomes(folder, reference)


def test_resume_refuses_what_would_change_the_past(small_config, tmp_path):
    folder = tmp_path / "run"
    trained(small_config, "--run-dir", folder)
    before = (folder / "config.yaml").read_bytes()
    refused = run(RLTRAIN, "train", "--resume", folder, "agent.gamma=0.5")
    assert refused.returncode == 2
    assert "agent.gamma=0.5" in refused.stderr
    assert "Traceback" not in refused.stderr
    assert (folder / "config.yaml").read_bytes() == before
    assert read_metrics(folder)[-1]["step"] == 1500


def test_two_processes_never_write_to_one_run(small_config, tmp_path, reference):
    """The first one stops in the middle and has the run until it is killed."""
    folder = tmp_path / "run"
    stopping = [*signalled(signal.SIGSTOP, 730), "train", small_config, "--run-dir", folder, "--quiet"]
    first = subprocess.Popen(stopping)
    try:
        assert os.WIFSTOPPED(os.waitpid(first.pid, os.WUNTRACED)[1])
        second = run(RLTRAIN, "train", "--resume", folder)
    finally:
        first.kill()
        first.wait()
    assert second.returncode == 75
    assert f"process {first.pid} " in second.stderr
    trained("--resume", folder)
    assert [sitting["from_step"] for sitting in read_sittings(folder)] == [0, 500]
    assert_equal_outcomes(folder, reference)
