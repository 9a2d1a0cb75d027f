"""What the command line refuses before it has changed anything, and what it says then."""

import fcntl
import os
import re
import signal
import sys

import pytest
from conftest import ROOT

from rltrain.cli.main import main
from rltrain.config.load import load
from rltrain.logger import DamagedLog, read_metrics
from rltrain.registry import NameTaken, register
from rltrain.rundir import is_locked, lock_run, resolve
from rltrain.saved import SavedPolicy

TABLE = """
env: {id: FrozenLake-v1}
agent: {name: q_learning}
exploration: {name: epsilon_greedy}
train: {total_steps: 400, log_every: 100, compile: "off"}
eval: {every: null, episodes: 2}
checkpoint: {every: 200}
device: cpu
"""
DEEP = TABLE.replace("q_learning", "dqn, target_update_interval: 100, learning_starts: 50")


@pytest.fixture
def command(tmp_path, monkeypatch, capsys):
    """Runs `rltrain` in a folder of its own; returns the exit code and what stands on standard error."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "table.yaml").write_text(TABLE)
    (tmp_path / "deep.yaml").write_text(DEEP)

    def run(*words):
        monkeypatch.setattr(sys, "argv", ["rltrain", *words])
        with pytest.raises(SystemExit) as end:
            main()
        return end.value.code, capsys.readouterr().err

    return run


def contents(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_gpu_that_is_not_there_is_refused_and_nothing_is_written(command, tmp_path, monkeypatch):
    monkeypatch.setattr("rltrain.nn.arrays.has_gpu", lambda: False)
    code, said = command("train", "deep.yaml", "device=cuda", "--run-dir", "run")
    assert (code, "torch finds no GPU on this machine: use auto or cpu" in said) == (2, True)
    assert not (tmp_path / "run").exists()
    search = "eval: {every: 200, episodes: 2}\ntune: {trials: 2, search: {agent.gamma: {choice: [0.9, 0.99]}}}\n"
    (tmp_path / "search.yaml").write_text(DEEP.replace("eval: {every: null, episodes: 2}\n", search))
    code, said = command("tune", "search.yaml", "device=cuda")
    assert (code, "torch finds no GPU on this machine: use auto or cpu" in said) == (2, True)
    assert not (tmp_path / "runs").exists()
    assert command("train", "deep.yaml", "--run-dir", "run", "-q")[0] == 0
    before = contents(tmp_path / "run")
    assert command("train", "--resume", "run", "--device", "cuda")[0] == 2
    assert contents(tmp_path / "run") == before


def test_a_policy_that_learnt_on_a_gpu_acts_without_one(command, tmp_path, monkeypatch):
    assert command("train", "deep.yaml", "--run-dir", "run", "-q")[0] == 0
    monkeypatch.setattr("rltrain.saved.has_gpu", lambda: False)
    monkeypatch.setattr("rltrain.saved.from_dict", lambda data, **how: from_a_gpu(tmp_path / "deep.yaml"))
    with SavedPolicy.open(tmp_path / "run") as policy:
        assert policy.evaluate(2, 0)["episodes"] == 2


def from_a_gpu(path):
    return load(path, ["device=cuda"])


def test_a_group_that_is_further_than_it_should_train_stays_as_it_is(command, tmp_path):
    assert command("train", "table.yaml", "--seeds", "2", "--workers", "1", "--run-dir", "group", "-q")[0] == 0
    before = contents(tmp_path / "group")
    code, said = command("train", "--resume", "group", "train.total_steps=200")
    assert (code, said) == (2, "train.total_steps: seed 0 is at step 400 already\n")
    assert contents(tmp_path / "group") == before


def test_what_is_no_run_is_not_resumed_and_gets_no_lock(command, tmp_path):
    assert command("train", "table.yaml", "--run-dir", "run", "-q")[0] == 0
    last = sorted((tmp_path / "run" / "checkpoints").iterdir())[-1]
    code, said = command("train", "--resume", str(last))
    assert (code, "name the run that it is of" in said) == (66, True)
    assert command("eval", str(last), "--checkpoint", "best") == (2, f"--checkpoint best: {last} is one already\n")
    (tmp_path / "empty").mkdir()
    assert command("sweep", "--resume", "empty")[0] == 66
    assert not list(tmp_path.glob("empty/*")) + list(last.glob(".lock"))


@pytest.mark.parametrize(
    ("words", "what"),
    [
        (["train", "table.yaml", "--seeds", ""], "--seeds: nothing is given"),
        (["sweep", "table.yaml", "agent.gamma=0.9,0.8", "--seeds", ""], "--seeds: nothing is given"),
        (["sweep", "table.yaml", "agent.gamma=0.9,0.90"], "gamma=0.9 and gamma=0.90 are the same configuration"),
        (["check", "table.yaml", "--plugin", ".mine"], "--plugin '.mine': expected the name of a module"),
        (["check", "table.yaml", "--plugin", ""], "--plugin '': expected the name of a module"),
        (["report", "run", "--storage", "sqlite:///x"], "--storage: goes with a study"),
    ],
)
def test_an_option_that_would_do_nothing_is_refused(words, what, command, tmp_path):
    code, said = command(*words)
    assert (code, what in said) == (2, True), said
    assert sorted(path.name for path in tmp_path.iterdir()) == ["deep.yaml", "table.yaml"]


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("torn", "x = 1\ndef f(:\n", "--plugin torn: {at}:2: SyntaxError: invalid syntax"),
        ("wanting", "\nimport no_such_library\n", "--plugin wanting: {at}:2: ModuleNotFoundError: No module named"),
        ("failing", "def f():\n    return {}['key']\nf()\n", "--plugin failing: {at}:2: KeyError: 'key'"),
        ("misused", "import json\njson.loads('')\n", "--plugin misused: {at}:2: JSONDecodeError: Expecting value"),
        ("ending", "import sys\nsys.exit(3)\n", "--plugin ending: {at}:2: SystemExit: 3"),
        ("silent", "assert False\n", "--plugin silent: {at}:1: AssertionError\n"),
        (
            "another",
            'import rltrain.registry as r\n@r.register("exploration")\nclass Mine: ...\n',
            "--plugin another: {at}:2: ValueError: there is no kind 'exploration' of component, did you mean 'explorations'",
        ),
        (
            "unset",
            'import rltrain.registry as r\n@r.register("bonuses")\nclass Mine: ...\n',
            "--plugin unset: {at}:2: TypeError: Mine has no settings: give it a class Config(Settings)",
        ),
        ("there.is_none", "", "--plugin there.is_none: ModuleNotFoundError: No module named 'there'"),
    ],
)
def test_a_plugin_that_cannot_be_imported_is_one_line_with_its_place(command, tmp_path, monkeypatch, name, text, said):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / f"{name}.py").write_text(text)
    code, told = command("check", "table.yaml", "--plugin", name)
    assert (code, told.count("\n")) == (2, 1)
    assert told.startswith(said.format(at=tmp_path / f"{name}.py"))


@pytest.mark.parametrize(
    "name", ["configs/ppo_cartpole.yaml", "configs/ppo_cartpole", "ppo_cartpole.yaml", "ppo_cartpole"]
)
def test_a_configuration_that_comes_with_rltrain_is_found_from_everywhere(name, command):
    code, said = command("train", name)
    whole = ROOT / "configs" / "ppo_cartpole.yaml"
    assert (code, said) == (2, f"{name}: no such file; the one that comes with rltrain is {whole}\n")


@pytest.mark.parametrize("name", ["CartPole-v1", "configs", "/configs/ppo_cartpole.yaml", "my.yaml"])
def test_who_names_no_file_is_told_where_there_are_some(name, command):
    code, said = command("train", name)
    assert (code, said) == (2, f"{name}: no such file; `rltrain list configs` shows those that come with rltrain\n")


def test_a_configuration_in_a_folder_of_a_sweep_is_found(command, tmp_path):
    (tmp_path / "gamma=0.9").mkdir()
    (tmp_path / "gamma=0.9" / "config.yaml").write_text(TABLE)
    assert command("train", "gamma=0.9/config.yaml", "--run-dir", "run", "-q")[0] == 0


def test_the_readme_has_every_exit_code():
    (table,) = re.findall(r"## Exit codes\n(.*?)\n## ", (ROOT / "README.md").read_text(), re.DOTALL)
    cells = re.findall(r"^\| ([\d, ]+) \|", table, re.MULTILINE)
    told = {int(code) for cell in cells for code in cell.split(",")}
    source = "".join(path.read_text() for path in (ROOT / "rltrain").rglob("*.py"))
    signals = {128 + signal.SIGINT, 128 + signal.SIGTERM}
    assert told == {int(code) for code in re.findall(r"exit(?:_code(?:: int)? = |\()(\d+)", source)} | signals | {0}


def test_a_name_of_rltrains_own_is_taken():
    with pytest.raises(NameTaken, match="rltrain has agents of the name 'dqn' itself"):
        register("agents", "dqn")(object)


def test_the_newest_run_is_the_one_that_was_begun_last(tmp_path):
    for age, name in ((3, "20270101-000000-seed0"), (1, "baseline"), (2, "zero")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.yaml").write_text("")
        os.utime(tmp_path / name / "config.yaml", (1_000 - age, 1_000 - age))
    assert resolve(tmp_path).name == "baseline"


def test_who_looks_whether_a_run_is_locked_is_in_nobodys_way(tmp_path, monkeypatch):
    with lock_run(tmp_path):
        assert is_locked(tmp_path)
    looking = os.open(tmp_path / ".lock", os.O_RDONLY)
    fcntl.flock(looking, fcntl.LOCK_SH)  # as who looks holds it, and lets it go once it is waited for
    assert not is_locked(tmp_path)
    waits = []
    monkeypatch.setattr("time.sleep", lambda seconds: waits.append(fcntl.flock(looking, fcntl.LOCK_UN)))
    with lock_run(tmp_path):
        assert is_locked(tmp_path)
    assert len(waits) == 1
    os.close(looking)


def test_a_damaged_log_is_named_and_not_read_in_part(tmp_path):
    (tmp_path / "metrics.jsonl").write_text('{"step": 1, "x": 1.0}\n{"step" 2, "x": 2.0}\n{"step": 3, "x": 3.0}\n')
    with pytest.raises(DamagedLog, match=r"metrics.jsonl:2: not an entry"):
        read_metrics(tmp_path)
    (tmp_path / "metrics.jsonl").write_text('{"step": 1, "x": 1.0}\n{"step": 2, "x"')
    assert read_metrics(tmp_path) == [{"step": 1, "x": 1.0}]
