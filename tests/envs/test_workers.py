"""Worker processes that hang, raise or die are replaced, and nobody else notices."""

import json
import os
import signal
import subprocess
import sys
import time
import warnings
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT
from processes import RLTRAIN, alive, wait

sys.path.insert(0, str(Path(__file__).parent))
import faulty

from rltrain import checkpoint
from rltrain.callbacks import LogProgress
from rltrain.config.load import from_dict
from rltrain.config.schema import EnvSettings
from rltrain.envs.episode import LOST
from rltrain.envs.vector import begin, call, make_vector, restore, snapshot
from rltrain.envs.worker import Worker
from rltrain.envs.workers import SupervisedVectorEnv, WorkerFault
from rltrain.evaluation import EvalProtocol, run_episodes
from rltrain.experiment import build
from rltrain.fitting import problems

SEEDS = [11, 12, 13]
TIMEOUT = 120
"""Seconds after which something is given up, of which what goes well takes a few on the slowest machine."""


def vector(vectorization="async", num_envs=3, restarts=3, timeout=TIMEOUT, **kwargs):
    settings = EnvSettings(
        id="Faulty-v0",
        num_envs=num_envs,
        vectorization=vectorization,
        kwargs=kwargs,
        worker_timeout=timeout,
        worker_restarts=restarts,
    )
    return make_vector(settings)


def play(envs, steps):
    """What the loop would see, step by step."""
    rng = np.random.default_rng(0)
    obs, _ = begin(envs, SEEDS[: envs.num_envs])
    trace = [{"obs": np.array(obs)}]
    for _ in range(steps):
        obs, reward, terminated, truncated, info = envs.step(rng.integers(0, 2, envs.num_envs))
        done = terminated | truncated
        row = {"obs": np.array(obs), "reward": reward, "terminated": terminated, "truncated": truncated}
        row |= {name: np.array(info[name]) for name in ("episode_return", "episode_length") if name in info}
        row["lost"] = np.array(info.get(LOST, np.zeros(envs.num_envs, bool)))
        if done.any():
            first, _ = envs.reset(options={"reset_mask": done})
            row["first"] = np.where(done[:, None], first, 0)
        trace.append(row)
    return trace


@pytest.fixture(scope="module")
def undisturbed():
    return play(vector("sync"), 60)


def test_what_it_returns_is_what_one_process_returns(undisturbed):
    envs = vector()
    found = play(envs, 60)
    envs.close()
    assert sum(row["terminated"].sum() for row in found[1:]) > 5
    for mine, its in zip(found, undisturbed, strict=True):
        assert mine.keys() == its.keys()
        for name in mine:
            assert mine[name].dtype == its[name].dtype, name
            assert mine[name].shape == its[name].shape, name
        for name in ("obs", "reward", "terminated", "truncated", "first"):
            if name in mine:
                assert (mine[name] == its[name]).all(), name
        for name in mine.keys() & {"episode_return", "episode_length"}:
            assert (mine[name] == its[name])[its["terminated"]].all()


def failing(how, at, folder):
    """Environment 1 fails in its first episode. If it hangs it is given up by the sign that it has begun to.

    So nobody is timed: neither those who are well, nor it.
    """
    sign = folder / "failed"
    envs = vector(how=how, at=at, victim=12, once=str(sign))
    worker = envs._workers[1]
    receive, pipe = worker.receive, worker._pipe

    def received(deadline):
        while not (answers := pipe.poll(0.01)) and not sign.exists():
            pass
        return receive(deadline if answers else time.monotonic())

    if how in ("hang", "stop"):
        worker.receive = received
    return envs


WORDS = {
    "hang": f"did not answer within {TIMEOUT} s",
    "stop": f"did not answer within {TIMEOUT} s",
    "raise": r"raised ValueError: the simulator is gone \(.*faulty.py:\d+\)",
    "die": "was killed by SIGKILL",
    "exit": "ended with exit code 3",
    "leave": r"raised SystemExit: 0 \(.*faulty.py:\d+\)",
}


@pytest.mark.parametrize("how", WORDS)
def test_a_lost_worker_is_replaced_and_the_others_see_nothing_of_it(how, undisturbed, tmp_path):
    envs = failing(how, 4, tmp_path)
    pids = envs.pids
    with pytest.warns(UserWarning, match=f"environment 1: its worker process {WORDS[how]} after 3 steps"):
        found = play(envs, 60)
    hit = found[4]
    assert hit["lost"].tolist() == [False, True, False]
    assert (hit["obs"][1] == found[3]["obs"][1]).all()
    assert (hit["reward"][1], hit["terminated"][1], hit["truncated"][1]) == (0, False, True)
    assert "episode_return" not in hit or not hit.get("episode_return")[1]
    assert sum(row["lost"].sum() for row in found[1:]) == 1
    for mine, its in zip(found, undisturbed, strict=True):
        for name in ("obs", "reward", "terminated", "truncated"):
            if name in mine:
                assert (mine[name][[0, 2]] == its[name][[0, 2]]).all()
    assert found[4]["first"][1][0] not in [row["obs"][1][0] for row in undisturbed]
    assert envs.pids[0] == pids[0]
    assert envs.pids[1] != pids[1]
    pids += envs.pids
    envs.close()
    wait_for_the_end_of(pids)


def wait_for_the_end_of(pids):
    wait(lambda: not any(map(alive, pids)))


@pytest.mark.parametrize("how", ["hang", "die"])
def test_an_environment_that_fails_in_reset_begins_another_episode_and_loses_none(how, tmp_path):
    envs = failing(how, 0, tmp_path)
    with pytest.warns(UserWarning, match="environment 1: .* after 0 steps"):
        obs, _ = begin(envs, SEEDS)
    assert obs[1, 0] > 0
    (origin,) = {state["origin"]["seed"] for state in call(envs, "snapshot")} - set(SEEDS)
    assert origin not in SEEDS
    *_, info = envs.step(np.zeros(3, int))
    assert LOST not in info
    envs.close()


def test_no_lost_episode_begins_with_a_seed_that_was_there_before():
    envs = vector(how="raise", at=2, victim=None, restarts=30, num_envs=2)
    begin(envs, SEEDS[:2])
    seeds = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for _ in range(10):
            seeds += [state["origin"]["seed"] for state in call(envs, "snapshot")]
            envs.step(np.zeros(2, int))
            _, _, _, truncated, info = envs.step(np.zeros(2, int))
            assert info[LOST].all()
            envs.reset(options={"reset_mask": truncated})
    envs.close()
    assert len(set(seeds)) == len(seeds) == 20


def test_half_an_observation_is_never_seen():
    envs = vector(how="die", at=4, victim=12)
    begin(envs, SEEDS)
    for _ in range(3):
        last = np.array(envs.step(np.zeros(3, int))[0])
    envs._view[1] = 77  # as a worker does that dies while it writes
    with pytest.warns(UserWarning, match="environment 1"):
        obs, *_ = envs.step(np.zeros(3, int))
    assert (obs[1] == last[1]).all()
    envs.close()


CONFIG = {
    "env": {"id": "Faulty-v0", "num_envs": 2, "vectorization": "async", "worker_timeout": TIMEOUT},
    "agent": {"name": "dqn", "learning_starts": 20, "batch_size": 8, "n_step": 3, "buffer_size": 500}
    | {"target_update_interval": 100},
    "exploration": {"name": "epsilon_greedy"},
    "train": {"total_steps": 400, "log_every": 50},
    "eval": {"every": None, "episodes": 2},
    "checkpoint": {"every": 50},
    "device": "cpu",
}


def experiment(**env):
    return build(from_dict({**CONFIG, "env": {**CONFIG["env"], **env}}).config)


def test_a_lost_episode_is_counted_and_has_no_return(tmp_path):
    once = str(tmp_path / "failed")
    made = experiment(kwargs={"how": "die", "at": 6, "victim": None, "once": once})
    with pytest.warns(UserWarning, match="SIGKILL"):
        progress = made.loop.advance(200)
    made.envs.close()
    assert progress.lost == 1
    assert len(progress.returns) == len(progress.lengths) > 3
    assert min(progress.lengths) >= 5
    entries = []
    log = LogProgress(50, type("Log", (), {"log": lambda self, step, entry: entries.append(entry)})(), EvalProtocol(9))
    log(progress)
    assert entries[0]["rollout/lost_episodes"] == 1
    again = LogProgress(50, None, EvalProtocol(9))
    again.load_state_dict(log.state_dict())
    assert again.state_dict()["lost"] == 1


def test_a_worker_killed_before_a_checkpoint_leaves_a_checkpoint_that_resumes():
    first, second = experiment(), experiment()
    first.loop.advance(40)
    os.kill(first.envs.unwrapped.pids[1], signal.SIGKILL)
    with pytest.warns(UserWarning, match="environment 1: .* was killed by SIGKILL after 20 steps"):
        state = first.loop.state_dict()
    second.agent.load_state_dict(first.agent.state_dict())
    with pytest.warns(UserWarning, match="environment 1: its worker process was killed by SIGKILL"):
        second.loop.load_state_dict(state)
    assert (second.loop._obs[0] == first.loop._obs[0]).all()
    assert second.loop._obs[1, 1] == 0  # the beginning of another episode
    assert first.loop.advance(2).lost == 1
    assert second.loop.advance(2).lost == 0
    for each in (first, second):
        each.loop.advance(40)
        each.envs.close()


def test_a_worker_lost_while_its_episode_is_restored_begins_another(tmp_path):
    envs = vector()
    begin(envs, SEEDS)
    for _ in range(4):
        obs = np.array(envs.step(np.zeros(3, int))[0])
    state = snapshot(envs)
    envs.close()
    other = vector(how="exit", at=3, victim=12, once=str(tmp_path / "failed"))
    with pytest.warns(UserWarning, match="environment 1: .*exit code 3"):
        current, lost = restore(other, state, obs, seeds=SEEDS)
    assert lost == [1]
    assert (current[[0, 2]] == obs[[0, 2]]).all()
    assert current[1, 1] == 0
    other.close()


def test_an_episode_may_take_longer_to_restore_than_a_step_may_take(monkeypatch):
    given, receive = [], Worker.receive

    def received(worker, deadline):
        given.append(deadline)
        return receive(worker, deadline)

    monkeypatch.setattr(Worker, "receive", received)
    envs = vector(num_envs=1)
    begin(envs, [11])
    for _ in range(5):
        before = time.monotonic()
        obs = np.array(envs.step(np.zeros(1, int))[0])
        assert before + TIMEOUT <= given[-1] <= time.monotonic() + TIMEOUT
    before, state = time.monotonic(), snapshot(envs)
    restore(envs, state, obs, seeds=[11])
    assert before + 6 * TIMEOUT <= given[-1] <= time.monotonic() + 6 * TIMEOUT
    envs.close()


def test_an_evaluation_plays_a_lost_episode_again_on_its_seed(tmp_path, monkeypatch):
    seeds = list(range(100, 107))

    def policy(obs):
        return (obs[:, 0] > 0.5).astype(int)

    envs = vector("sync")
    expected = run_episodes(policy, envs, seeds, 20)
    for at, cause in ((3, "exit code 3"), (100, "SIGKILL")):
        broken = vector(how="exit", at=at, victim=104, once=str(tmp_path / str(at)))
        if at == 100:  # lost while it is asked for the return of an episode that was cut
            monkeypatch.setattr(broken, "call", partial(call_after_kill, broken.call, broken.pids.copy()))
        with pytest.warns(UserWarning, match=cause):
            found = run_episodes(policy, broken, seeds, 20)
        broken.close()
        assert (found.returns == expected.returns).all()
        assert (found.lengths == expected.lengths).all()
        assert found.capped == expected.capped > 0


def call_after_kill(real, pids, *args):
    while pids:
        os.kill(pids.pop(), signal.SIGKILL)
    return real(*args)


def test_when_no_worker_may_be_replaced_the_next_reset_says_so():
    envs = vector(how="die", at=2, victim=None, restarts=1, num_envs=2)
    begin(envs, SEEDS[:2])
    envs.step(np.zeros(2, int))
    with pytest.warns(UserWarning, match="0 of 1 restarts left"):
        _, _, _, truncated, info = envs.step(np.zeros(2, int))
    assert info[LOST].all()
    with pytest.raises(WorkerFault, match="environment 1: its worker process was killed by SIGKILL after 1 steps"):
        envs.reset(options={"reset_mask": truncated})
    assert WorkerFault.exit_code == 65
    states = snapshot(envs)["episodes"]  # the run can still be saved
    assert len({state["seed"] for state in states} | set(SEEDS)) == 5
    envs.close()


def test_episodes_that_began_unseen_when_a_run_ended_begin_anew():
    envs = vector(how="exit", at=0, victim=12, restarts=0)
    with pytest.raises(WorkerFault, match=r"environment 1: .*ended with exit code 3 after 0 steps"):
        begin(envs, SEEDS)
    assert ["lost" in state for state in snapshot(envs)["episodes"]] == [True, True, True]
    envs.close()


def test_signals_are_left_to_the_parent():
    envs = vector()
    begin(envs, SEEDS)
    for pid in envs.pids:
        os.kill(pid, signal.SIGINT)
        os.kill(pid, signal.SIGTERM)
        assert os.getpgid(pid) == pid  # what is sent to the parent's group does not come here
    *_, info = envs.step(np.zeros(3, int))
    assert LOST not in info
    envs.close()


def test_settings_of_workers_without_workers_are_a_problem():
    for name, value in (("worker_timeout", 5.0), ("worker_restarts", 9)):
        data = {**CONFIG, "env": {"id": "Faulty-v0", name: value}}
        (problem,) = problems(from_dict(data).config)
        assert problem.path == f"env.{name}"
        assert "async" in problem.message
        data["env"]["vectorization"] = "async"
        assert problems(from_dict(data).config) == []


def start(folder, *overrides, resume=False, **env):
    path = folder / "config.yaml"
    path.write_text(json.dumps({**CONFIG, "env": {**CONFIG["env"], **env}}))
    what = ["--resume", "run"] if resume else [str(path), *overrides, "--run-dir", "run"]
    return subprocess.Popen(
        [*RLTRAIN, "train", *what, "--quiet", "--plugin", "faulty"],
        cwd=folder,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env={**os.environ, "PYTHONPATH": f"{Path(__file__).parent}{os.pathsep}{ROOT}"},
    )


def test_a_run_out_of_restarts_saves_what_it_has_and_exits_with_65(tmp_path):
    kwargs = {"how": "die", "at": 7, "victim": None}
    process = start(tmp_path, "eval.every=null", kwargs=kwargs, worker_restarts=2)
    _, errors = process.communicate(timeout=TIMEOUT)
    assert process.returncode == 65, errors
    assert "Traceback" not in errors
    last = errors.strip().splitlines()[-1]
    assert last.startswith("error: environment ")
    assert "was killed by SIGKILL after" in last
    assert "env.worker_restarts is 2" in last
    saved = checkpoint.load(checkpoint.find(tmp_path / "run" / "checkpoints", "last"))
    assert 0 < saved.step < 50  # before the first that was due
    process = start(tmp_path, resume=True)
    _, errors = process.communicate(timeout=TIMEOUT)
    assert process.returncode == 65, errors
    assert checkpoint.load(checkpoint.find(tmp_path / "run" / "checkpoints", "last")).step > saved.step


def children(pid):
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_no_worker_outlives_a_run_that_is_killed_or_interrupted(number, tmp_path):
    process = start(tmp_path, "train.total_steps=10_000_000", "eval.every=null")
    saved = tmp_path / "run" / "checkpoints"
    wait(lambda: saved.exists() and any(saved.glob("step-*")))
    workers = children(process.pid)
    assert len(workers) == 2
    for pid in workers:  # as Ctrl-C, or a service manager, would
        if number != signal.SIGKILL:
            os.kill(pid, number)
    os.kill(process.pid, number)
    _, errors = process.communicate(timeout=TIMEOUT)
    assert process.returncode == (-number if number == signal.SIGKILL else 128 + number)
    assert errors == ""
    wait_for_the_end_of(workers)


def test_a_worker_in_the_middle_of_a_step_dies_with_its_parent(tmp_path):
    hung = tmp_path / "hung"
    process = start(tmp_path, kwargs={"how": "hang", "at": 3, "victim": None, "once": str(hung)}, worker_timeout=1_000)
    wait(hung.exists)
    workers = children(process.pid)
    assert len(workers) == 2
    process.kill()
    process.communicate(timeout=TIMEOUT)
    wait_for_the_end_of(workers)


def test_what_an_environment_started_ends_with_its_worker_and_delays_nobody(tmp_path):
    file = tmp_path / "pid"
    envs = vector(how="orphan", at=2, victim=12, once=str(file), timeout=1_000)
    with pytest.warns(UserWarning, match="environment 1: .*exit code 3"):
        play(envs, 3)  # it would take the 1,000 s
    wait_for_the_end_of([int(file.read_text())])
    envs.close()


def test_an_environment_that_cannot_be_made_in_its_worker_is_named():
    here = os.getpid()

    def make():
        if os.getpid() != here:
            raise RuntimeError("no licence left")
        return faulty.Faulty()

    envs = SupervisedVectorEnv([make], timeout=TIMEOUT, restarts=1)
    with (
        pytest.warns(UserWarning, match="environment 0: its worker process raised RuntimeError: no licence left"),
        pytest.raises(WorkerFault, match=r"environment 0: .*no licence left"),
    ):
        begin(envs, [0])
    envs.close()


def test_a_run_that_goes_on_from_its_state_is_the_same_run():
    first, second = experiment(), experiment()
    first.loop.advance(90)
    second.agent.load_state_dict(first.agent.state_dict())
    second.loop.load_state_dict(first.loop.state_dict())
    for each in (first, second):
        each.loop.advance(150)
    states = [str((each.agent.state_dict(), each.loop.state_dict())) for each in (first, second)]
    for each in (first, second):
        each.envs.close()
    assert states[0] == states[1]
