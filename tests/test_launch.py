"""Many seeds in processes of their own: equal to single runs, and whole after a kill of any of them."""

import json
import os
import re
import signal
from types import SimpleNamespace

import pytest
from gated import Gate
from processes import LIMIT, alive, bytes_read, pid_of, rltrain, start, wait
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from rltrain import checkpoint
from rltrain.cli.board import Board
from rltrain.cli.evaluate import evaluate
from rltrain.cli.screen import GroupsBoard
from rltrain.cli.train import train
from rltrain.cli.tune_board import TrialBoard
from rltrain.config.load import load, parse
from rltrain.core import ConfigError
from rltrain.experiment import Run
from rltrain.launch.group import Group
from rltrain.launch.job import Event
from rltrain.launch.worker import Reporter
from rltrain.records import Status, find_runs
from rltrain.rundir import CannotCreate, NoRun, RunLocked, is_locked, lock_run, resolve_run

TINY = """
env: {id: FrozenLake-v1}
agent: {name: q_learning, learning_rate: 0.1}
exploration: {name: epsilon_greedy, epsilon: 0.2}
train: {total_steps: 1_500, log_every: 100}
eval: {every: 500, episodes: 5}
checkpoint: {every: 500}
device: cpu
"""
ENDLESS = "train.total_steps=100_000_000"


def saved(group, *seeds):
    """Whether each of these seeds has a checkpoint to go on from."""
    return all(any((group / f"seed-{seed}" / "checkpoints").glob("step-*")) for seed in seeds)


def summary_of(folder):
    return json.loads((folder / "summary.json").read_text())


def metrics_of(folder):
    return (folder / "metrics.jsonl").read_bytes()


def alone(path, folder, seed, *overrides):
    """What the seed logs when it is trained by itself, in this process."""
    folder.mkdir()
    run = Run(load(path, [f"seed={seed}", *overrides]).config, folder)
    run.train()
    run.close()
    return metrics_of(folder)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    path = tmp_path_factory.mktemp("launch") / "tiny.yaml"
    path.write_text(TINY)
    return path


@pytest.fixture(scope="module")
def group(tiny):
    """Five seeds on two workers, so that a worker takes several; and what the command printed."""
    folder = tiny.parent / "group"
    (folder.parent / "printed").write_text(
        rltrain("train", tiny, "--seeds", "0-4", "--workers", 2, "--run-dir", folder)[0]
    )
    return folder


def test_a_seed_of_a_group_logs_what_it_logs_alone(group, tiny, tmp_path):
    for seed in (0, 4):
        assert metrics_of(group / f"seed-{seed}") == alone(tiny, tmp_path / str(seed), seed)
    assert len({metrics_of(run.folder) for run in find_runs(group)}) == 5


def test_a_group_has_a_run_for_every_seed_and_one_summary(group):
    assert [(run.seed, run.status) for run in find_runs(group)] == [(seed, Status.FINISHED) for seed in range(5)]
    assert "seeds" not in find_runs(group)[0].config
    config = load(group / "group.yaml").config
    assert (config.seeds, config.group) == ("0-4", [0, 1, 2, 3, 4])
    found = summary_of(group)
    assert (found["status"], found["n"]) == ("finished", 5)
    figures = found["over_seeds"]["eval_exact_return"]
    values = [row["eval_exact_return"] for row in found["seeds"]]
    assert figures["mean"] == pytest.approx(sum(values) / 5, abs=1e-12)
    assert figures["iqm"] == pytest.approx(sum(sorted(values)[1:4]) / 3, abs=1e-12)  # of five, one is cut at either end
    low, high = figures["mean_ci95"]
    assert (low + high) / 2 == pytest.approx(figures["mean"], abs=1e-12)
    assert {"seed", "status", "steps", "seconds", "eval_return", "eval_success_rate", "eval_length"} <= found["seeds"][
        0
    ].keys()
    printed = (group.parent / "printed").read_text()
    assert "5 of 5 seeds finished" in printed
    assert f"exact return mean {figures['mean']:.5g} [" in printed


def test_tensorboard_shows_the_seeds_and_the_mean_with_its_band(group):
    reader = EventAccumulator(str(group / "aggregate"), size_guidance={"scalars": 0, "tensors": 0})
    reader.Reload()
    layout = reader.Tensors("custom_scalars__config__")
    assert b"uncertainty/eval/return_low" in layout[0].tensor_proto.string_val[0]
    curves = [run.curve("eval/return") for run in find_runs(group)]
    means = [(event.step, event.value) for event in reader.Scalars("eval/return")]
    assert [step for step, _ in means] == [500, 1000, 1500]
    for index, (_, value) in enumerate(means):
        assert value == pytest.approx(sum(curve.values[index] for curve in curves) / 5, abs=1e-6)
    low, high = (reader.Scalars(f"uncertainty/eval/return_{end}")[-1].value for end in ("low", "high"))
    assert low <= means[-1][1] <= high
    assert len(find_runs(group)) == 5  # the aggregate is no run


def test_eval_shows_every_seed_and_an_interval_across_them(group, capsys):
    evaluate(group, episodes=10, as_json=True)
    found = json.loads(capsys.readouterr().out)
    assert [report["train_seed"] for report in found["runs"]] == [0, 1, 2, 3, 4]
    assert found["n"] == found["over_seeds"]["return_mean"]["n"] == 5
    values = [report["return_mean"] for report in found["runs"]]
    assert found["over_seeds"]["return_mean"]["mean"] == pytest.approx(sum(values) / 5)
    evaluate(group, episodes=10)
    printed = capsys.readouterr().out
    assert printed.startswith(f"{group}, checkpoint of every seed: last\n")
    assert "n = 5, 95 % intervals over seeds" in printed
    evaluate(group / "seed-3", episodes=10)
    assert "1 seed: no interval across seeds" in capsys.readouterr().out
    with pytest.raises(NoRun, match="name one of its runs"):
        resolve_run(group)


def test_eval_refuses_runs_that_are_no_seeds_of_one_configuration(group, tmp_path, capsys):
    for name in ("a", "b"):
        (tmp_path / name).symlink_to(group / "seed-1")
    (tmp_path / "c").mkdir()
    for name in ("config.yaml", "summary.json", "checkpoints"):
        (tmp_path / "c" / name).symlink_to(group / "seed-2" / name)
    evaluate(tmp_path, episodes=5, as_json=True)  # of seed 1 there are two, and the newest counts
    found = json.loads(capsys.readouterr().out)
    assert [report["run"] for report in found["runs"]] == [str(tmp_path / "b"), str(tmp_path / "c")]
    assert found["note"] == "2 seeds: too few for an interval, which needs 5"
    assert found["over_seeds"]["return_mean"]["mean_ci95"] is None
    (tmp_path / "c" / "config.yaml").unlink()
    text = (group / "seed-2" / "config.yaml").read_text()
    (tmp_path / "c" / "config.yaml").write_text(text.replace("value: 0.1", "value: 0.5"))
    with pytest.raises(ConfigError, match=r"differ in agent\.learning_rate\.value \(0\.1, 0\.5\)"):
        evaluate(tmp_path, episodes=5)


def test_a_killed_worker_costs_its_seed_alone_and_resume_does_only_that(tiny, tmp_path):
    folder, gate = tmp_path / "group", Gate(tmp_path / "gate")
    settings = ("train.total_steps=4_000", "train.compile=off", *gate.at(750))
    command = ("train", tiny, *settings, "--plugin", "gated", "--seeds", "0-2", "--run-dir", folder)
    process = start(*command, "--workers", 3)
    wait(lambda: len(gate.waiting()) == 3)
    os.kill(pid_of(folder / "seed-1"), signal.SIGKILL)
    gate.open()
    out, errors = process.communicate(timeout=LIMIT)
    assert process.returncode == 1, out + errors
    assert "seed 1 failed: its process was killed by SIGKILL" in out
    found = summary_of(folder)
    assert [row["status"] for row in found["seeds"]] == ["finished", "failed", "finished"]
    assert found["n"] == 2
    before = {seed: (folder / f"seed-{seed}" / "summary.json").stat().st_mtime_ns for seed in (0, 2)}
    assert "(2 of them done)" in rltrain(*command, "--resume", folder)[0]
    assert summary_of(folder)["status"] == "finished"
    assert {seed: (folder / f"seed-{seed}" / "summary.json").stat().st_mtime_ns for seed in (0, 2)} == before
    assert metrics_of(folder / "seed-1") == alone(tiny, tmp_path / "alone", 1, *settings)


def test_workers_save_and_end_when_their_parent_is_killed_and_when_it_is_told_to_stop(tiny, tmp_path):
    folder = tmp_path / "group"
    process = start(
        "train", tiny, ENDLESS, "train.compile=off", "--seeds", "3,5,8", "--workers", 2, "--run-dir", folder
    )
    wait(lambda: saved(folder, 3, 5))
    logged = [metrics_of(folder / f"seed-{seed}") for seed in (3, 5)]
    wait(lambda: all(metrics_of(folder / f"seed-{seed}") != log for seed, log in zip((3, 5), logged, strict=True)))
    workers = [pid_of(folder / f"seed-{seed}") for seed in (3, 5)]
    process.kill()
    process.communicate(timeout=LIMIT)
    wait(lambda: not any(map(alive, workers)))
    for seed in (3, 5):
        last = checkpoint.find(folder / f"seed-{seed}" / "checkpoints", "last")
        assert summary_of(folder / f"seed-{seed}")["steps"] == int(last.name[5:]) > 500
    assert not (folder / "seed-8").exists()
    again = start("train", "--resume", folder, "--workers", 2, "--json")
    wait(lambda: is_locked(folder / "seed-3") and is_locked(folder / "seed-5"))
    with pytest.raises(RunLocked):
        train(resume=folder)
    again.send_signal(signal.SIGINT)
    out, errors = again.communicate(timeout=LIMIT)
    assert again.returncode == 130, errors
    found = json.loads(out)
    assert found["status"] == "interrupted"
    assert [row["status"] for row in found["seeds"]] == ["interrupted", "interrupted", "missing"]


def test_the_second_signal_ends_everything_at_once(tiny, tmp_path):
    (tmp_path / "sleepy.py").write_text("""
import time
import gymnasium as gym

class Sleepy(gym.Env):
    observation_space, action_space = gym.spaces.Discrete(2), gym.spaces.Discrete(2)
    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.steps = 0
        return 0, {}
    def step(self, action):
        self.steps += 1
        if self.steps > 1:
            print("asleep", flush=True)
            time.sleep(600)
        return 0, 0.0, False, False, {}

gym.register("Sleepy-v0", Sleepy, max_episode_steps=9)
""")
    folder = tmp_path / "group"
    process = start(
        "train", tiny, "env.id=Sleepy-v0", "--seeds", 2, "--plugin", "sleepy", "--run-dir", folder, cwd=tmp_path
    )
    logs = [folder / f"seed-{seed}" / "output.log" for seed in (0, 1)]
    wait(lambda: all(log.exists() and "asleep" in log.read_text() for log in logs))
    workers = [pid_of(folder / f"seed-{seed}") for seed in (0, 1)]
    before = [bytes_read(pid) for pid in workers]
    process.send_signal(signal.SIGTERM)
    wait(lambda: all(bytes_read(pid) > read for pid, read in zip(workers, before, strict=True)))  # told to stop
    assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=LIMIT)
    assert process.returncode == -signal.SIGTERM
    wait(lambda: not any(map(alive, workers)))


def test_an_error_in_a_run_is_told_in_one_line_and_kept_beside_it(tiny, tmp_path):
    (tmp_path / "broken.py").write_text("""
import gymnasium as gym

class Broken(gym.Env):
    observation_space, action_space = gym.spaces.Discrete(2), gym.spaces.Discrete(2)
    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.steps = 0
        return 0, {}
    def step(self, action):
        self.steps += 1
        if self.steps > 1:
            raise KeyError("no such room")
        return 0, 0.0, False, False, {}

gym.register("Broken-v0", Broken, max_episode_steps=9)
""")
    folder = tmp_path / "group"
    broken = ("env.id=Broken-v0", "--plugin", "broken", "--seeds", "2", "--workers", "1", "--run-dir", folder)
    process = start("train", tiny, *broken, cwd=tmp_path)
    out, errors = process.communicate(timeout=LIMIT)
    assert process.returncode == 1, errors
    told = r"seed 0 failed: environment 0, in step 2 of its episode: raised KeyError: 'no such room' \(.*broken.py:13\)"
    assert re.search(rf"{told} \(see {folder}/seed-0/output.log\)", out)
    assert "Traceback" not in out + errors
    assert "in step" in (folder / "seed-1" / "output.log").read_text()
    assert [run.status for run in find_runs(folder)] == [Status.FAILED, Status.FAILED]


def test_more_seeds_join_a_group_and_those_that_are_there_stay_as_they_are(tiny, group, tmp_path):
    import shutil

    folder = shutil.copytree(group, tmp_path / "group")
    before = (folder / "seed-4" / "summary.json").stat().st_mtime_ns
    train([str(tiny)], seeds="4-5", resume=folder, quiet=True)
    assert load(folder / "group.yaml").config.seeds == "0-5"
    assert summary_of(folder)["n"] == 6
    assert (folder / "seed-4" / "summary.json").stat().st_mtime_ns == before


def test_what_cannot_be_is_refused_before_any_work(tiny, group, tmp_path):
    with pytest.raises(CannotCreate, match="not empty"):
        train([str(tiny)], seeds="0-1", run_dir=group)
    with pytest.raises(ConfigError, match="--workers: a single run"):
        train([str(tiny)], workers=2, run_dir=tmp_path / "run")
    with pytest.raises(ConfigError, match="stays in its folder"):
        train([str(tiny)], seeds="0-1", resume=group, run_dir=tmp_path / "other")
    with pytest.raises(ConfigError, match=r"agent\.gamma=0\.5 \(command line\): agent\.gamma: was 0\.99, is 0\.5 now"):
        train([str(tiny), "agent.gamma=0.5"], resume=group)
    block = "agent={name: q_learning, learning_rate: 0.1, gamma: 0.5}"
    with pytest.raises(ConfigError, match=f"^{re.escape(block)} .command line.: agent.gamma: was 0.99, is 0.5 now"):
        train([block], resume=group)
    with pytest.raises(
        ConfigError, match=r"^exploration=.* line.: exploration.name: was epsilon_greedy, is greedy now"
    ):
        train(["exploration={name: greedy}"], resume=group)
    with pytest.raises(ConfigError) as refused:
        train(["agent.learning_rate={schedule: linear, start: 1, end: 0, steps: 100}"], resume=group)
    (message,) = refused.value.messages  # one for the setting, not for each part of a schedule
    assert message.endswith(
        "agent.learning_rate: was 0.1, is {end: 0.0, schedule: linear, start: 1.0, steps: 100} now, which would change "
        "the past: --resume changes only train.total_steps, train.stop, seeds and device"
    )
    with pytest.raises(ConfigError, match="seeds: was not set, is 0-1 now"):
        train(resume=group / "seed-0", seeds="0-1")
    with lock_run(group), pytest.raises(RunLocked):
        train(resume=group)
    assert not list(tmp_path.iterdir())


def test_whatever_a_run_notes_is_said_once_of_a_group_several_groups_and_a_search(tmp_path, capsys):
    told = []
    experiment = SimpleNamespace(note="not compiled", notes=("replay takes 9 GiB",))
    Reporter(lambda kind, data: told.append((kind, data["text"]))).watch(SimpleNamespace(experiment=experiment))
    assert told == [("note", "not compiled"), ("note", "replay takes 9 GiB")]
    config = parse(TINY, source="tiny").config
    groups = [Group.of(tmp_path / name, config, [0, 1]) for name in "ab"]
    study = SimpleNamespace(trials=list, budget=2)
    listeners = [
        Board(groups[0], [0, 1], quiet=False),
        GroupsBoard(["a", "b"], groups, quiet=False),
        TrialBoard(study, "", quiet=False).listen,
    ]
    for listen in listeners:
        for group in groups[:1] if listen is listeners[0] else groups:
            for job in group.jobs():
                listen(Event(job, "note", {"text": "replay takes 9 GiB"}))
        assert capsys.readouterr().out == "note: replay takes 9 GiB\n"
