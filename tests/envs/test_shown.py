"""What an environment shows and raises, where that is none of what it promised: told in one line, never cast."""

import json
import sys

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.envs.registration import EnvSpec
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary, MultiDiscrete, Tuple

from rltrain.config.load import from_dict
from rltrain.envs.episode import EnvironmentFault
from rltrain.envs.shown import judge
from rltrain.envs.vector import begin, make_vector

BYTES, SIGNED = Box(0, 255, (2,), np.uint8), Box(-100, 100, (2,), np.int8)


@pytest.mark.parametrize(
    ("space", "obs", "said"),
    [
        (Box(-1, 1, (2,)), np.zeros(2, np.float32), None),
        (Box(-1, 1, (2,)), np.zeros(2), None),
        (Box(-1, 1, (2,)), [0, 1], None),
        (Box(-1, 1, (2,)), np.zeros(3), "its observations have the shape (3,), not (2,) as it says"),
        (Box(-1, 1, (2,)), None, "its observations are object, its space says float32"),
        (BYTES, np.array([1, 2], np.uint8), None),
        (BYTES, np.array([0.9, 0.9], np.float32), "its observations are float32, its space says uint8"),
        (BYTES, np.array([300, 0], np.int32), "its observations are int32, its space says uint8"),
        (SIGNED, np.array([50, 0]), None),
        (SIGNED, np.array([300, 0]), "its observation [300 0] is not in its space Box(-100, 100, (2,), int8)"),
        (Discrete(3), 2, None),
        (Discrete(3), np.int64(2), None),
        (Discrete(3), np.array(2), None),
        (Discrete(3), np.uint8(2), None),
        (Discrete(3), True, None),
        (Discrete(3), 1.5, "its observations are float64, its space says int64"),
        (Discrete(3), 3, "its observation 3 is not in its space Discrete(3)"),
        (Discrete(6, start=1), 0, "its observation 0 is not in its space Discrete(6, start=1)"),
        (Discrete(6, start=1), 6, None),
        (MultiDiscrete([3, 3]), np.array([2, 0]), None),
        (MultiDiscrete([3, 3]), (2, 0), None),
        (MultiDiscrete([3, 3]), np.array([-1, 0]), "its observation [-1 0] is not in its space MultiDiscrete([3 3])"),
        (MultiDiscrete([[3], [3]]), np.array([[0], [3]]), "its observation [[0] [3]] is not in its space "),
        (MultiBinary(2), np.array([0, 1]), None),
        (MultiBinary(2), np.array([0, 2]), "its observation [0 2] is not in its space MultiBinary(2)"),
        (Dict(a=Discrete(2), b=BYTES), {"a": 1, "b": np.zeros(2, np.uint8)}, None),
        (Dict(a=Discrete(2), b=BYTES), {"a": 1, "b": np.zeros(2)}, "its observations are float64, its space says uint8"),
        (Tuple([Discrete(2), Discrete(3)]), (1, 2), None),
        (Tuple([Discrete(2), Discrete(3)]), (1, -1), "its observation -1 is not in its space Discrete(3)"),
        (gym.spaces.Text(4), "any", None),
    ],
)  # fmt: skip
def test_what_would_be_lost_is_told_and_what_is_only_written_otherwise_is_not(space, obs, said):
    found = judge(space)(obs)
    assert found == said or (found is not None and said is not None and found.startswith(said))


class Late(gym.Env):
    """Does in step `at`, all episodes together, what `how` says."""

    action_space = Discrete(2)

    def __init__(self, how="shows", at=20):
        self.how, self.at, self.steps = how, at, 0
        self.observation_space = Discrete(6, start=1) if how == "shows" else Box(0, 1, (2,))

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return self.observation_space.sample(), {}

    def step(self, action):
        self.steps += 1
        obs = self.observation_space.sample()
        if self.steps >= self.at:
            if self.how == "refused":
                raise ConnectionRefusedError(111, "Connection refused")
            if self.how == "room":
                raise KeyError("no such room")
            if self.how == "leaves":
                sys.exit(3)
            obs = 0
        return obs, 1.0, self.steps % 6 == 0, False, {}


FAULTS = {
    "shows": "its observation 0 is not in its space Discrete(6, start=1)",
    "refused": "raised ConnectionRefusedError: [Errno 111] Connection refused (",
    "room": "raised KeyError: 'no such room' (",
    "leaves": "raised SystemExit: 3 (",
}


@pytest.fixture(autouse=True)
def late(monkeypatch):
    monkeypatch.setitem(gym.registry, "Late-v0", EnvSpec("Late-v0", entry_point=Late))


def settings(how, **env):
    """Of a run that meets the fault in its second rollout."""
    return {
        "env": {"id": "Late-v0", "kwargs": {"how": how}, **env},
        "agent": {"name": "ppo", "n_steps": 16, "batch_size": 16, "hidden_sizes": [4], "n_epochs": 1},
        "train": {"total_steps": 64},
        "eval": {"every": None},
        "device": "cpu",
    }


@pytest.mark.parametrize("how", FAULTS)
@pytest.mark.parametrize("num_envs", [1, 2])
def test_a_fault_names_the_environment_the_step_and_the_line(how, num_envs):
    envs = make_vector(from_dict(settings(how, num_envs=num_envs)).config.env)
    begin(envs, list(range(num_envs)))

    def play():
        for _ in range(20):
            _, _, done, _, _ = envs.step(np.zeros(num_envs, np.int64))
            if done.any():
                envs.reset(options={"reset_mask": done})

    with pytest.raises(EnvironmentFault) as fault:
        play()
    assert str(fault.value).startswith(f"environment 0, in step 2 of its episode: {FAULTS[how]}")
    assert how == "shows" or "test_shown.py:" in str(fault.value)
    envs.close()


def test_a_fault_of_a_reset_is_told_as_one(monkeypatch):
    monkeypatch.setattr(Late, "reset", lambda self, *, seed=None, options=None: (7, {}))
    envs = make_vector(from_dict(settings("shows")).config.env)
    with pytest.raises(EnvironmentFault, match=r"^environment 0, when it was reset: its observation 7 is not in"):
        begin(envs, [0])


def test_ctrl_c_is_no_fault(monkeypatch):
    def step(self, action):
        raise KeyboardInterrupt

    monkeypatch.setattr(Late, "step", step)
    envs = make_vector(from_dict(settings("shows")).config.env)
    begin(envs, [0])
    with pytest.raises(KeyboardInterrupt):
        envs.step(np.zeros(1, np.int64))


@pytest.mark.parametrize("how", FAULTS)
@pytest.mark.parametrize("vectorization", ["sync", "async"])
def test_a_run_ends_with_one_line_and_keeps_the_traceback(how, vectorization, tmp_path, monkeypatch, capsys):
    from rltrain.cli.main import main

    workers = {"worker_restarts": 0} if vectorization == "async" else {}
    (tmp_path / "run.yaml").write_text(json.dumps(settings(how, vectorization=vectorization, **workers)))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["rltrain", "train", "run.yaml", "--run-dir", "run", "--quiet"])
    with pytest.raises(SystemExit) as end:
        main()
    first, *more = capsys.readouterr().err.splitlines()
    assert (end.value.code, first.startswith("error: environment 0"), FAULTS[how] in first) == (65, True, True)
    assert FAULTS[how] in json.loads((tmp_path / "run" / "summary.json").read_text())["reason"]
    kept = tmp_path / "run" / "output.log"
    if vectorization == "async" or how == "shows":
        assert (more, kept.exists()) == ([], False)
    else:
        assert more == ["its traceback is in run/output.log"]
        assert "test_shown.py" in kept.read_text()
        assert kept.read_text().splitlines()[-1] == FAULTS[how].removeprefix("raised ").removesuffix(" (")
