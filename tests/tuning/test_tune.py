"""The commands `rltrain tune` and `rltrain sweep`, with real runs of a second: killed, gone on with, confirmed."""

import csv
import json
import os
import signal
import sys

import pytest
from gated import Gate
from processes import pid_of, rltrain, start, wait

from rltrain.cli.sweep import split_values
from rltrain.cli.tune import seconds_of
from rltrain.config.load import load
from rltrain.core import ConfigError
from rltrain.experiment import Run
from rltrain.records import find_runs

optuna = pytest.importorskip("optuna")

TINY = """
env: {id: FrozenLake-v1}
agent: {name: q_learning, learning_rate: 0.1}
exploration: {name: epsilon_greedy, epsilon: 0.2}
train: {total_steps: 1_500, log_every: 500, compile: off}
eval: {every: 500, episodes: 2}
checkpoint: {every: 250}
device: cpu
tune:
  sampler: random
  trials: 3
  seeds_per_trial: 2
  objective: eval/exact_return
  confirm: {top: 1, seeds: 2}
  search:
    agent.learning_rate: {log_uniform: [0.01, 1]}
"""
PASSWORD = "p4ss/w@rd"


@pytest.fixture
def tiny(tmp_path):
    path = tmp_path / "tiny.yaml"
    path.write_text(TINY)
    return path


def test_a_killed_tuner_and_a_killed_worker_lose_no_trial_and_the_best_trains(tiny):
    folder, gate = tiny.parent / "runs" / "tiny" / "tune" / "s", Gate(tiny.parent / "gate")
    settings = ("train.total_steps=4000", *gate.at(400))
    common = ("tune", "tiny.yaml", *settings, "--plugin", "gated", "--study", "s", "--workers", 1)
    process = start(*common, cwd=tiny.parent)
    seed = folder / "trial-0000" / "seed-0"
    wait(gate.waiting)
    os.kill(pid_of(seed), signal.SIGKILL)  # the worker
    wait(lambda: len(json.loads((seed / "sittings.json").read_text())["sittings"]) == 2)
    process.kill()  # the tuner
    process.wait()
    gate.open()
    process.communicate()
    out, _ = rltrain(*common, "--resume", "--json", cwd=tiny.parent)
    summary = json.loads(out)
    assert (summary["status"], summary["trials"]) == ("finished", {"complete": 3})
    sittings = json.loads((seed / "sittings.json").read_text())["sittings"]
    assert sittings[0]["from_step"] == 0
    assert sittings[-1]["from_step"] > 0  # from a checkpoint
    rows = list(csv.DictReader((folder / "trials.csv").open()))
    assert [(row["trial"], row["state"]) for row in rows] == [("0", "complete"), ("1", "complete"), ("2", "complete")]
    runs = find_runs(folder / "confirm")
    assert {run.seed for run in runs} == {2, 3}
    assert "winners_curse" in summary["confirmed"][0]
    best = load(folder / "best.yaml").config
    assert best.tune is None
    assert best.agent.learning_rate.value == float(rows[summary["chosen"]]["agent.learning_rate"])
    run = Run(best, tiny.parent)
    assert run.train()["status"] == "finished"
    run.close()
    assert (
        f"{summary['confirmed'][0]['confirmed']['value']:.5g} on 2 fresh seeds (2-3)"
        in (folder / "best.yaml").read_text()
    )


def test_a_password_is_nowhere(tiny, monkeypatch):
    """In an address that cannot be reached, and in the command that a run notes down."""
    from urllib.parse import quote

    url = f"postgresql+psycopg://me:{quote(PASSWORD, safe='')}@127.0.0.1:1/studies?connect_timeout=1"
    pytest.importorskip("psycopg", reason="psycopg is not installed")
    out, errors = rltrain("tune", "tiny.yaml", "--storage", url, code=74, cwd=tiny.parent)
    assert "postgresql+psycopg://me:***@127.0.0.1" in errors
    assert PASSWORD not in out + errors
    assert quote(PASSWORD, safe="") not in out + errors
    from rltrain import sittings

    for spelling in (url, url.replace(quote(PASSWORD, safe=""), PASSWORD), f"--storage={url}", url + "&password=pw2"):
        monkeypatch.setattr(sys, "argv", ["rltrain", "tune", "--storage", spelling])
        told = sittings.command()
        assert "me:***@" in told
        assert not any(secret in told for secret in (PASSWORD, quote(PASSWORD, safe=""), "w@rd", "pw2"))


def test_a_metric_that_nobody_logs_ends_the_search_with_those_that_there_are(tiny):
    words = ("tune", "tiny.yaml", "tune.objective=train/q_valeu", "tune.direction=minimize", "--study", "s")
    out, errors = rltrain(*words, "--workers", 1, code=2, cwd=tiny.parent)
    told = "tune.objective: train/q_valeu was never logged, did you mean 'train/q_value'? (logged: "
    assert told in " ".join(errors.split())
    folder = tiny.parent / "runs" / "tiny" / "tune" / "s"
    assert [path.name for path in sorted(folder.glob("trial-*"))] == ["trial-0000"]
    assert not (folder / "trial-0000" / "seed-1").exists()
    assert "0,failed," in (folder / "trials.csv").read_text()


def test_mistakes_are_told_before_anything_is_begun(tiny):
    wrong = "tune.search={agent.gamma: {uniform: [0, 2]}}"
    out, errors = rltrain("tune", "tiny.yaml", wrong, code=2, cwd=tiny.parent)
    assert "must be at most 1, got 2" in errors
    assert not (tiny.parent / "runs").exists()
    for text, told in (("2x", "expected a time"), ("", "expected a time")):
        with pytest.raises(ConfigError, match=told):
            seconds_of(text)
    assert [seconds_of(text) for text in ("2h", "1h30m", "90s", "0.5m")] == [7200, 5400, 90, 30]


def test_a_sweep_trains_a_grid_of_groups_and_compares_them(tiny):
    points = ("agent.gamma=0.9,0.99", "train.total_steps=500", "--seeds", "0,1")
    out, _ = rltrain("sweep", "tiny.yaml", *points, "--json", cwd=tiny.parent)
    found = json.loads(out)
    assert found["status"] == "finished"
    assert list(found["points"]) == ["gamma=0.9", "gamma=0.99"]
    assert [row["n"] for row in found["comparison"]["tables"][0]["rows"]] == [2, 2]
    assert {each["name"] for each in found["comparison"]["differences"]} == {"agent.gamma"}
    runs = find_runs(tiny.parent / found["sweep"])
    assert [(run.config["agent"]["gamma"], run.seed) for run in runs] == [(g, s) for g in (0.9, 0.99) for s in (0, 1)]
    before = [(run.folder / "summary.json").stat().st_mtime_ns for run in runs]
    os.remove(runs[3].folder / "summary.json")
    rltrain("sweep", "--resume", found["sweep"], "--json", cwd=tiny.parent)
    after = [(run.folder / "summary.json").stat().st_mtime_ns for run in runs]
    assert [a == b for a, b in zip(before, after, strict=True)] == [index != 3 for index in range(4)]


def test_values_of_a_sweep_are_separated_by_commas_outside_brackets():
    assert split_values("1,2") == ["1", "2"]
    assert split_values("[64,64],[256,256]") == ["[64,64]", "[256,256]"]
    assert split_values('{name: ucb, c: 1},{name: greedy},"a,b"') == ["{name: ucb, c: 1}", "{name: greedy}", '"a,b"']
