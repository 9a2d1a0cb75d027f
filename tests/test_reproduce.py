"""`rltrain reproduce`: a run comes out the same again, and where it does not, the first difference is found."""

import json
import re
import shutil

import pytest
from conftest import SMALL
from typer.testing import CliRunner

from rltrain import checkpoint
from rltrain.cli.main import app
from rltrain.config.load import dump, parse
from rltrain.experiment import Run
from rltrain.records import RunRecord
from rltrain.rundir import NoRun, write_atomic

TABULAR = """
env: {id: FrozenLake-v1}
agent: {name: q_learning}
exploration: {name: epsilon_greedy, epsilon: 0.2}
train: {total_steps: 30_000, log_every: 1_000}
eval: {every: 7_000, episodes: 3}
seed: 3
"""


def train(folder, text=SMALL, *overrides, resume=False):
    """What `rltrain train` does, in this process."""
    folder.mkdir(exist_ok=True)
    config = parse(text, source="here", overrides=["train.total_steps=600", *overrides]).config
    write_atomic(folder / "config.yaml", dump(config))
    run = Run(config, folder)
    if resume:
        run.resume(checkpoint.load(checkpoint.find(folder / "checkpoints", "last")))
    run.train()
    run.close()
    return folder


def reproduce(*arguments):
    done = CliRunner().invoke(app, ["reproduce", *map(str, arguments)])
    if done.exception and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done


def compared(*arguments):
    done = reproduce(*arguments, "--json")
    told = json.loads(done.stdout)
    assert done.exit_code == (0 if told["identical"] else 1)
    return told


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    return train(tmp_path_factory.mktemp("finished") / "run")


@pytest.fixture
def run(finished, tmp_path):
    """A finished run of DQN, to be changed at will."""
    return shutil.copytree(finished, tmp_path / "run")


def edit(path, pattern, replacement):
    text, count = re.subn(pattern, replacement, path.read_text(), count=1)
    assert count == 1
    path.write_text(text)


def test_a_deep_run_comes_out_the_same_again(run, tmp_path):
    done = reproduce(run, "--keep", tmp_path / "again")
    assert done.exit_code == 0
    assert "same versions and machine as then" in done.stdout
    assert re.search(r"identical: 8 entries with \d+ figures, up to step 600\n", done.stdout)
    assert (tmp_path / "again" / "metrics.jsonl").read_bytes() == (run / "metrics.jsonl").read_bytes()


def test_a_table_comes_out_the_same_again_in_the_compiled_loop(tmp_path):
    told = compared(train(tmp_path / "run", TABULAR, "train.total_steps=30_000"))
    assert (told["identical"], told["entries"], told["step"]) == (True, 35, 30_000)


def test_one_digit_is_found_and_told_by_step_and_metric(run):
    edit(run / "metrics.jsonl", r'("step": 300, .*"train/loss": )\d+', r"\g<1>777")
    told = compared(run)
    first = told["first_difference"]
    assert (told["identical_entries"], first["step"], list(first["metrics"])) == (2, 300, ["train/loss"])
    assert first["metrics"]["train/loss"]["then"] > 777 > first["metrics"]["train/loss"]["now"]
    text = reproduce(run, "-q").stdout
    assert "differs from step 300 on, after 2 entries" in text
    assert re.search(r"  train/loss: 777\.\d+ then, \d+\.\d+ now  \(-7\d\d\)", text)


def test_another_setting_is_found_and_the_new_run_ends_at_once(run, tmp_path):
    """It would train for hours otherwise."""
    (run / "summary.json").unlink()
    edit(run / "config.yaml", r"total_steps: 600", "total_steps: 1000000000")
    edit(run / "config.yaml", r"gamma: 0.99", "gamma: 0.9")
    told = compared(run, "--keep", tmp_path / "again")
    assert told["first_difference"]["step"] == 100
    assert "train/loss" in told["first_difference"]["metrics"]
    assert "rollout/return" not in told["first_difference"]["metrics"]
    again = RunRecord(tmp_path / "again").summary
    assert again["status"] == "interrupted"
    assert again["steps"] < 100_000


def test_what_is_missing_or_too_much_at_the_end_is_a_difference(run):
    whole = (run / "metrics.jsonl").read_text()
    *_, last = whole.splitlines(keepends=True)
    (run / "metrics.jsonl").write_text(whole.removesuffix(last))
    assert "now" in compared(run)["first_difference"]["metrics"]["eval/return"]
    (run / "metrics.jsonl").write_text(whole + last)
    first = compared(run)["first_difference"]
    assert (first["step"], list(first["metrics"]["eval/return"])) == (600, ["then"])


def test_a_killed_run_is_compared_as_far_as_its_log_is_whole(run):
    (run / "summary.json").unlink()
    edit(run / "config.yaml", r"total_steps: 600", "total_steps: 1000000000")
    lines = (run / "metrics.jsonl").read_text().splitlines(keepends=True)
    (run / "metrics.jsonl").write_text("".join(lines[:4]) + lines[4][:20])
    done = reproduce(run, "-q")
    assert done.exit_code == 0
    assert "identical: 4 entries" in done.stdout
    assert "the run is interrupted there" in done.stdout


def test_a_run_that_a_clock_stopped_is_repeated_to_the_step_at_which_it_stopped(run):
    edit(run / "config.yaml", r"total_steps: 600", "total_steps: 1000000000")
    edit(run / "config.yaml", r"minutes: null", "minutes: 1e-9")
    told = compared(run)
    assert (told["identical"], told["status"], told["entries"], told["step"]) == (True, "finished", 8, 600)


def test_a_run_that_finished_and_went_on_is_evaluated_where_it_had_finished(tmp_path):
    folder = train(tmp_path / "run", SMALL, "train.total_steps=330")
    train(folder, resume=True)
    steps = [json.loads(line)["step"] for line in (folder / "metrics.jsonl").open() if "eval/return" in line]
    assert steps == [330, 400, 600]
    assert compared(folder)["identical"]


def test_an_entry_of_the_last_steps_stays_when_the_run_goes_on_and_comes_again(tmp_path):
    """The checkpoint of step 300 was saved before the entry was written, and is saved again."""
    rare = "train.log_every=200", "eval.every=100"
    folder = train(tmp_path / "run", SMALL, *rare, "train.total_steps=300")
    before = (folder / "metrics.jsonl").read_bytes()
    train(folder, SMALL, *rare, resume=True)
    logged = [json.loads(line)["step"] for line in (folder / "metrics.jsonl").open() if "rollout/episodes" in line]
    assert logged == [200, 300, 400, 600]
    assert (folder / "metrics.jsonl").read_bytes().startswith(before)
    assert compared(folder)["identical"]


def test_only_the_first_steps_can_be_compared(run):
    edit(run / "metrics.jsonl", r'("step": 400, .*"train/loss": )\d+', r"\g<1>777")
    told = compared(run, "--steps", 300)
    assert (told["identical"], told["entries"], told["step"]) == (True, 3, 300)
    assert compared(run, "--steps", 400)["first_difference"]["step"] == 400
    with pytest.raises(NoRun, match="nothing was logged in the first 50 steps"):
        reproduce(run, "--steps", 50)


def test_other_versions_are_told_before_it_starts(run):
    edit(run / "sittings.json", r'"numpy": "[^"]+"', '"numpy": "1.0"')
    assert compared(run)["platform"].keys() == {"versions.numpy"}
    text = reproduce(run, "--steps", 100).stdout
    assert text.index("not as then: versions.numpy was 1.0, is ") < text.index("identical: ")
    (run / "sittings.json").unlink()
    assert "what the run ran on was not recorded" in reproduce(run, "--steps", 100).stdout


def test_a_run_that_logged_nothing_cannot_be_compared(run):
    (run / "metrics.jsonl").write_text('{"step": 1')
    with pytest.raises(NoRun, match="nothing was logged yet"):
        reproduce(run)
    with pytest.raises(NoRun, match="a checkpoint: name the run"):
        reproduce(checkpoint.find(run / "checkpoints", "last"))
