"""The page about an agent, and a program, of one's own, taken at its word: its code and its commands, exactly as they stand."""

import re
import shlex
import sys

import numpy as np
import pytest
from conftest import ROOT
from typer.testing import CliRunner

from rltrain import registry
from rltrain.cli.main import app
from rltrain.logger import read_metrics
from rltrain.saved import SavedPolicy

PAGE = (ROOT / "docs" / "your_own_agent.md").read_text()


def block(language, place=0):
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)[place]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "linear", raising=False)
    monkeypatch.setattr(registry, "_registered", dict(registry._registered))
    (tmp_path / "linear.py").write_text(block("python"))
    (tmp_path / "linear.yaml").write_text(block("yaml"))
    return tmp_path


def test_the_agent_of_the_page_learns_with_every_exploration_of_the_page(folder):
    commands = [shlex.split(line) for line in block("bash").splitlines()]
    assert [command[:2] for command in commands] == [["rltrain", "train"]] * 3 + [["rltrain", "list"]]
    for number, (_, *words) in enumerate(commands[:3]):
        done = CliRunner().invoke(app, [*words, "--quiet", "--run-dir", f"run{number}"], catch_exceptions=False)
        assert done.exit_code == 0
        entries = read_metrics(folder / f"run{number}")
        shown = [entry for entry in entries if "exploration/exploratory_share" in entry]
        assert len(shown) == 5
        assert all(0 <= entry["exploration/exploratory_share"] < 0.9 for entry in shown)
        assert shown[1]["exploration/exploratory_share"] > 0.05
        assert 5 < shown[-1]["exploration/distinct_states"] <= 11  # holes and the goal are never left by an action
        assert ("exploration/bonus_decay" in shown[-1]) == (number == 2)
        assert [entry["eval/return"] for entry in entries if "eval/return" in entry][-1] == 1.0
    told = CliRunner().invoke(app, [*commands[0][1:], "train.total_steps=200", "--run-dir", "a run"]).output
    (line,) = [line for line in told.splitlines() if line.startswith("next: ")]
    command = shlex.split(line.removeprefix("next: ").partition("   or: ")[0])
    assert command == ["rltrain", "eval", "a run", "--plugin", "linear"]
    assert CliRunner().invoke(app, command[1:]).exit_code == 0
    listed = CliRunner().invoke(app, commands[3][1:], catch_exceptions=False).output
    refused = {line.split()[0] for line in listed.splitlines() if line.split()[1] == "no"}
    assert refused == {"gaussian_noise", "ou_noise"}  # a noise is for an agent without action values


def test_the_program_of_the_page_acts_with_a_trained_policy(small_config, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    words = ["train", str(small_config), "--quiet", "--run-dir", "runs/dqn_cartpole/one"]
    assert CliRunner().invoke(app, words, catch_exceptions=False).exit_code == 0
    program = block("python", 1)
    assert len(program.splitlines()) <= 12
    exec(program, {})
    step, total = capsys.readouterr().out.split()
    assert step == "1500"
    with SavedPolicy.open("runs/dqn_cartpole") as policy:
        assert policy.evaluator([7], policy.wrappers, interval=False)["return_mean"] == float(total)
        assert policy.act(np.zeros((3, 4), np.float32)).shape == (3,)
