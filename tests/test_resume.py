"""A run that was killed and resumed ends exactly as one that never was."""

import functools
import json
import os
import random
import signal
import subprocess
import sys
import time

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from rltrain import checkpoint
from rltrain.config.load import load
from rltrain.experiment import Run
from rltrain.logger import read_metrics

RLTRAIN = [sys.executable, "-m", "rltrain"]


def rltrain(*arguments, **options):
    return subprocess.Popen(
        [*RLTRAIN, *map(str, arguments)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options
    )


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


def finished(folder, text):
    """Path of a configuration, and what an uninterrupted run of it comes to."""
    path = folder / "uninterrupted.yaml"
    path.write_text(text)
    process = rltrain("train", path, "--run-dir", folder / "run", "--quiet")
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    return path, outcome(folder / "run")


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    from conftest import SMALL

    return finished(tmp_path_factory.mktemp("reference"), SMALL)[1]


def begun(folder, killed):
    """Whether it is time to kill: the first time a checkpoint is there to go on from, later at any moment."""
    return (folder / "metrics.jsonl").exists() if killed else any((folder / "checkpoints").glob("step-*"))


def kill_and_resume(config, folder, kills, pause, signals=(signal.SIGKILL,)):
    """Start, kill after `pause()` seconds, resume, as often as `kills`; then let it finish."""
    process = rltrain("train", config, "--run-dir", folder, "--quiet")
    killed = 0
    while killed < kills:
        deadline = time.monotonic() + 60
        while not begun(folder, killed) and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(pause())
        if process.poll() is not None:
            break
        sent = random.choice(signals)
        process.send_signal(sent)
        _, errors = process.communicate(timeout=60)
        assert process.returncode in (-signal.SIGKILL, 128 + sent, 0), errors
        killed += 1
        process = rltrain("train", "--resume", folder, "--quiet")
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    return killed


def test_killed_at_random_moments_ends_as_if_never_interrupted(small_config, tmp_path, reference):
    """Three kills here; the slow test below does twenty."""
    random.seed(1)
    killed = kill_and_resume(small_config, tmp_path / "run", 3, lambda: random.uniform(0, 0.4))
    assert killed >= 1
    assert_equal_outcomes(tmp_path / "run", reference)


@pytest.mark.slow
def test_twenty_kills_end_as_if_never_interrupted(small_config, tmp_path, reference):
    random.seed(2)
    total = 0
    for attempt in range(20):
        folder = tmp_path / f"run{attempt}"
        total += kill_and_resume(small_config, folder, 3, lambda: random.uniform(0, 0.6))
        assert_equal_outcomes(folder, reference)
    assert total >= 20


@pytest.mark.parametrize(("sent", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_saves_a_checkpoint_and_exits_with_its_code(small_config, tmp_path, reference, sent, code):
    folder = tmp_path / "run"
    process = rltrain("train", small_config, "train.total_steps=1_000_000", "--run-dir", folder)
    while not (folder / "metrics.jsonl").exists() or not (folder / "metrics.jsonl").stat().st_size:
        time.sleep(0.01)
    process.send_signal(sent)
    output, errors = process.communicate(timeout=30)
    assert process.returncode == code, errors
    assert "Traceback" not in errors
    assert f"rltrain train --resume {folder}" in output.replace("\n", "")
    step = checkpoint.load(checkpoint.find(folder / "checkpoints", "last")).step
    assert step == json.loads((folder / "summary.json").read_text())["steps"] > 0
    resumed = rltrain("train", "--resume", folder, f"train.total_steps={max(1500, step + 100)}", "--quiet")
    _, errors = resumed.communicate(timeout=60)
    assert resumed.returncode == 0, errors
    if step < 1500:
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
    arguments = ["train", str(small_config), "--run-dir", str(folder), "--quiet"]
    died = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, timeout=60)
    assert died.returncode == -signal.SIGKILL, died.stderr
    resumed = rltrain("train", "--resume", folder, "--quiet")
    _, errors = resumed.communicate(timeout=60)
    assert resumed.returncode == 0, errors
    assert_equal_outcomes(folder, reference)
    assert not list((folder / "checkpoints").glob(".tmp*"))


def test_pausing_elsewhere_changes_nothing(small_config, tmp_path, reference):
    """The clock decides where the loop pauses; here it pauses after every single step."""
    config = load(small_config).config
    run = Run(config, tmp_path)
    from rltrain import loop

    before, loop.CHUNK_SECONDS = loop.CHUNK_SECONDS, 1e-9
    try:
        run.train()
    finally:
        loop.CHUNK_SECONDS = before
        run.close()
    assert_equal_outcomes(tmp_path, reference)


def test_a_damaged_newest_checkpoint_is_set_aside_and_the_one_before_is_used(small_config, tmp_path, reference):
    folder = tmp_path / "run"
    process = rltrain("train", small_config, "train.total_steps=1_100", "--run-dir", folder, "--quiet")
    process.communicate(timeout=60)
    last = checkpoint.find(folder / "checkpoints", "last")
    payload = last / checkpoint.ARRAYS
    payload.write_bytes(payload.read_bytes()[:-1])
    resumed = rltrain("train", "--resume", folder, "train.total_steps=1_500", "--quiet")
    _, errors = resumed.communicate(timeout=60)
    assert resumed.returncode == 0, errors
    assert last.name in errors
    assert "set aside" in errors
    assert (folder / "checkpoints" / f"{last.name}.corrupt").exists()
    assert_equal_outcomes(folder, reference)


def test_resume_refuses_what_would_change_the_past(small_config, tmp_path):
    folder = tmp_path / "run"
    rltrain("train", small_config, "--run-dir", folder, "--quiet").communicate(timeout=60)
    before = (folder / "config.yaml").read_bytes()
    refused = rltrain("train", "--resume", folder, "agent.gamma=0.5")
    _, errors = refused.communicate(timeout=60)
    assert refused.returncode == 2
    assert "agent.gamma=0.5" in errors
    assert "Traceback" not in errors
    assert (folder / "config.yaml").read_bytes() == before
    assert read_metrics(folder)[-1]["step"] == 1500


def test_two_processes_never_write_to_one_run(small_config, tmp_path):
    folder = tmp_path / "run"
    first = rltrain("train", small_config, "train.total_steps=1_000_000", "--run-dir", folder, "--quiet")
    while not (folder / "metrics.jsonl").exists():
        time.sleep(0.01)
    second = rltrain("train", "--resume", folder)
    _, errors = second.communicate(timeout=60)
    assert second.returncode == 75
    assert str(first.pid) in errors
    os.kill(first.pid, signal.SIGKILL)
    first.communicate(timeout=60)
    third = rltrain("train", "--resume", folder, "train.total_steps=1_500_0", "--quiet")
    time.sleep(3)
    assert third.poll() is None or third.returncode in (0, 2)
    third.kill()
    third.communicate(timeout=60)


SHORT = """
train: {total_steps: 20_000, log_every: 500}
eval: {every: 4_000, episodes: 3}
checkpoint: {every: 1_100, keep_last: 3, keep_best: 1}
seed: 3
device: cpu
"""
RUNS = {
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
SLOW = ("a2c", "rainbow", "sac")  # their twenty kills are a slow test


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    """Path of a configuration in RUNS, and what an uninterrupted run of it comes to; each is run once."""
    return functools.cache(lambda name: finished(tmp_path_factory.mktemp("uninterrupted"), RUNS[name]))


@pytest.mark.parametrize("name", [name for name in RUNS if name not in SLOW])
def test_other_runs_killed_at_random_moments_end_as_if_never_interrupted(name, tmp_path, uninterrupted):
    path, reference = uninterrupted(name)
    random.seed(4)
    assert kill_and_resume(path, tmp_path / "run", 2, lambda: random.uniform(0, 0.4)) >= 1
    assert_equal_outcomes(tmp_path / "run", reference)


@pytest.mark.slow
@pytest.mark.parametrize("name", RUNS)
def test_twenty_kills_of_other_runs_end_as_if_never_interrupted(name, tmp_path, uninterrupted):
    path, reference = uninterrupted(name)
    random.seed(5)
    total = 0
    for attempt in range(20):
        total += kill_and_resume(path, tmp_path / f"run{attempt}", 3, lambda: random.uniform(0, 0.6))
        assert_equal_outcomes(tmp_path / f"run{attempt}", reference)
    assert total >= 20
