"""`rltrain runs` and `rltrain diff`: what there is, how it stands, and in what two runs differ."""

import json
import os
import subprocess
import sys

import pytest
from conftest import SMALL
from typer.testing import CliRunner

from rltrain.cli.main import app
from rltrain.cli.tables import age, figure, size
from rltrain.config.load import dump, parse
from rltrain.core import ConfigError
from rltrain.logger import DamagedLog
from rltrain.records import RunRecord
from rltrain.rundir import NoRun, lock_run

DAY = "2026-11-0{}T12:00:00+00:00"
MACHINE = {"cpu": "X", "threads": 1}


def make(folder, *overrides, day=1, status="finished", values=(10.0, 30.0, 20.0), versions=None, **summary):
    """A run folder as training leaves it, without training; `status` None stands for a killed run."""
    folder.mkdir(parents=True)
    config = parse(SMALL, source="small", overrides=overrides).config
    (folder / "config.yaml").write_text(dump(config))
    lines = [{"step": 500 * (number + 1), "eval/return": value} for number, value in enumerate(values)]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    sitting = {"began": DAY.format(day), "versions": versions or {"numpy": "2"}, "machine": MACHINE, "status": status}
    (folder / "sittings.json").write_text(json.dumps({"sittings": [sitting]}))
    if status is not None:
        told = {"status": status, "reason": None, "env": config.env.id, "agent": "dqn", "seed": config.seed}
        told |= {"total_steps": 1500, "steps": 1500, "eval_return": values[-1], "best_return": max(values)} | summary
        (folder / "summary.json").write_text(json.dumps(told))
    return folder


def rltrain(*arguments):
    done = CliRunner().invoke(app, list(map(str, arguments)))
    if done.exception and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done


def listed(*arguments):
    return json.loads(rltrain("runs", *arguments, "--json").stdout)["runs"]


@pytest.fixture
def folder(tmp_path):
    """Five runs: two alone, one that has no readable configuration, two of a group."""
    make(tmp_path / "new", day=5, status=None)
    make(tmp_path / "old", "seed=8", day=1, status="failed", reason="no worker left\nat all", steps=700)
    for seed, day in ((1, 3), (0, 2)):
        make(tmp_path / "name" / "time" / f"seed-{seed}", f"seed={seed}", day=day, values=(10.0 * seed,))
    (tmp_path / "name" / "time" / "group.yaml").write_text("seeds: 2\n")
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "config.yaml").write_text("env: [1\n")
    os.utime(tmp_path / "broken" / "config.yaml", (1, 1))
    return tmp_path


def test_runs_are_listed_by_the_time_they_began_with_all_that_is_known_of_them(folder):
    runs = {run["folder"].removeprefix(f"{folder}/"): run for run in listed(folder)}
    assert list(runs) == ["broken", "old", "name/time/seed-0", "name/time/seed-1", "new"]
    killed, failed, broken = runs["new"], runs["old"], runs["broken"]
    assert (killed["status"], killed["steps"], killed["percent"], killed["last_return"], killed["best_return"]) == (
        "interrupted", 1500, 100.0, 20.0, 30.0,
    )  # fmt: skip
    assert (failed["status"], failed["reason"], failed["seed"]) == ("failed", "no worker left\nat all", 8)
    assert (failed["steps"], failed["percent"]) == (700, 46.7)
    assert runs["name/time/seed-1"]["group"] == str(folder / "name" / "time")
    assert broken["env"] is None
    assert "broken/config.yaml:2" in broken["reason"]
    assert killed["bytes"] == sum(path.stat().st_size for path in (folder / "new").iterdir())
    assert killed["env"] == "CartPole-v1"
    assert killed["agent"] == "dqn"


def test_the_table_has_a_line_a_group_and_says_why_runs_failed(folder):
    head, *lines = rltrain("runs", folder).stdout.splitlines()
    assert head.split() == ["RUN", "STATUS", "AGENT", "ENV", "SEED", "STEPS", "%", "LAST", "BEST", "AGE", "SIZE"]
    assert [line.split()[0] for line in lines] == [
        "broken",
        f"{folder}/broken/config.yaml:2:",
        "old",
        "no",
        "name/time",
        "new",
    ]
    assert "finished     dqn    CartPole-v1   0-1  1,500  100     5     5" in lines[4]
    assert lines[3] == "    no worker left"
    inside = rltrain("runs", folder / "name" / "time").stdout.splitlines()
    assert [line.split()[0] for line in inside] == ["RUN", "seed-0", "seed-1"]


def test_a_group_stands_as_its_worst_run_does(folder):
    with lock_run(folder / "name" / "time" / "seed-1"):
        assert "running 1/2" in rltrain("runs", folder).stdout


def test_seeds_that_were_not_begun_are_counted(folder):
    (folder / "name" / "time" / "group.yaml").write_text('seeds: "0-9"\n')
    assert " 0-1 of 10 " in rltrain("runs", folder).stdout
    (folder / "name" / "time" / "group.yaml").write_text("seeds: [")
    assert " 0-1 " in rltrain("runs", folder).stdout


@pytest.mark.parametrize("width", [100, 80, 60, 40])
def test_a_table_fits_into_the_terminal_and_loses_whole_columns_first(folder, monkeypatch, width):
    make(folder / "q_learning_frozenlake_4x4" / "20261126-160300-seed0")
    monkeypatch.setattr("rltrain.cli.tables.terminal_width", lambda: width)
    lines = rltrain("runs", folder).stdout.splitlines()
    assert max(map(len, lines)) <= width
    assert lines[0].split()[:2] == ["RUN", "STATUS"]
    assert "LAST" in lines[0]
    assert any("4x4/20261126-160300-seed0" in line for line in lines) == (width >= 60)
    assert lines[-1].startswith("not shown: ")


def test_runs_can_be_chosen_by_status(folder):
    assert [run["status"] for run in listed(folder, "--status", "failed", "--status", "finished")] == [
        "failed", "finished", "finished",
    ]  # fmt: skip
    assert "no run that is running" in rltrain("runs", folder, "--status", "running").stderr
    with pytest.raises(ConfigError, match="unknown 'faild'"):
        rltrain("runs", folder, "--status", "faild")


def test_an_empty_folder_is_no_mistake_and_a_missing_one_is(tmp_path):
    assert "no run in this folder" in rltrain("runs", tmp_path).stderr
    assert listed(tmp_path) == []
    with pytest.raises(NoRun, match="no such folder"):
        rltrain("runs", tmp_path / "none")


def test_a_run_without_an_evaluation_is_judged_by_its_training_episodes_and_marked(tmp_path):
    run = make(tmp_path / "run", status=None, values=())
    lines = [{"step": 100, "rollout/return": 9.5}, {"step": 200, "rollout/return": -1e-05}, {"step": 300, "a": None}]
    (run / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines) + '{"step": 400, "rollo')
    assert RunRecord(run).standing == (300, "rollout/return", -1e-05, 9.5)
    output = rltrain("runs", tmp_path).stdout
    assert "9.5*" in output
    assert "* of training episodes" in output
    (run / "metrics.jsonl").unlink()
    assert RunRecord(run).standing == (0, None, None, None)
    assert rltrain("runs", tmp_path).exit_code == 0


def test_listing_runs_loads_neither_torch_nor_scipy_nor_gymnasium(folder):
    code = (
        "import sys\ntry:\n    from rltrain.cli.main import main; main()\nexcept SystemExit: pass\n"
        "print([m for m in ('torch', 'gymnasium', 'scipy', 'tensorboard') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code, "runs", folder], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_numbers_are_short():
    assert [age(seconds) for seconds in (-1, 119, 120, 7200, 200_000)] == ["0 s", "119 s", "2 min", "2 h", "2 d"]
    assert [size(count) for count in (0, 999, 1_000, 1_234_567, 5e15)] == [
        "0 B",
        "999 B",
        "1 kB",
        "1.23 MB",
        "5e+03 TB",
    ]
    assert [figure(value) for value in (None, 500.0, -0.048123, 12345.6)] == ["-", "500", "-0.048123", "12346"]


def test_two_equal_runs_say_so(tmp_path):
    a, b = make(tmp_path / "a"), make(tmp_path / "b")
    output = rltrain("diff", a, b).stdout
    for part in ("settings", "versions", "machine"):
        assert f"{part}: no difference" in output
    assert "metrics: 3 entries are equal" in output


def test_what_differs_is_shown_by_its_name_with_both_values(tmp_path):
    a = make(tmp_path / "a", "bonuses=[{name: hashed_count}]", values=(1.0, 2.0))
    b = make(tmp_path / "b", "agent.learning_rate=1e-5", "seed=4", values=(1.0, 3.0), versions={"numpy": "3"})
    told = json.loads(rltrain("diff", a, b, "--json").stdout)
    assert told["settings"]["agent.learning_rate.value"] == {"a": 0.001, "b": 1e-05}
    assert told["settings"]["bonuses[0].name"] == {"a": "hashed_count"}
    assert "seed" not in told["settings"]
    assert (told["a"]["seeds"], told["b"]["seeds"]) == ([3], [4])
    assert told["versions"] == {"numpy": {"a": "2", "b": "3"}}
    assert told["machine"] == {}
    assert told["metrics"] == {"equal_entries": 1, "step": 1000}
    assert told["b"]["runs"][0]["last"] == 3.0
    lines = [line.split() for line in rltrain("diff", a, b).stdout.splitlines()]
    assert ["agent.learning_rate.value", "0.001", "1e-05"] in lines
    assert ["bonuses[0].name", "hashed_count", "-"] in lines
    assert ["last", "eval/return", "2", "3"] in lines


def test_groups_differ_in_what_their_runs_share(tmp_path):
    for name, gamma in (("a", 0.9), ("b", 0.8)):
        for seed in range(3):
            make(tmp_path / name / f"seed-{seed}", f"seed={seed}", f"agent.gamma={gamma}", values=(float(seed),))
    told = json.loads(rltrain("diff", tmp_path / "a", tmp_path / "b", "--json").stdout)
    assert told["settings"] == {"agent.gamma": {"a": 0.9, "b": 0.8}}
    assert told["a"]["seeds"] == [0, 1, 2]
    assert told["metrics"] is None
    output = rltrain("diff", tmp_path / "a", tmp_path / "b" / "seed-2").stdout
    assert "3 runs, seeds 0-2" in output
    assert "1 (mean of 3 runs)" in output


def test_a_narrow_terminal_shows_both_values_below_the_name(tmp_path, monkeypatch):
    a, b = make(tmp_path / "a", f"env.kwargs={{note: {'x' * 30}}}"), make(tmp_path / "b")
    monkeypatch.setattr("rltrain.cli.tables.terminal_width", lambda: 40)
    assert f"env.kwargs.note\n  A  {'x' * 30}\n  B  -\n" in rltrain("diff", a, b).stdout


def test_a_run_of_an_older_version_has_no_versions_and_a_damaged_log_is_named(tmp_path):
    a, b = make(tmp_path / "a"), make(tmp_path / "b")
    (b / "sittings.json").unlink()
    assert "versions: not recorded in B" in rltrain("diff", a, b).stdout
    (b / "metrics.jsonl").write_text('{"step": 1}\n{"step\n')
    with pytest.raises(DamagedLog, match=r"metrics\.jsonl:2"):
        rltrain("diff", a, b)
