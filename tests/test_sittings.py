"""How a run ended stands in its folder, however it ended, and on what it ran."""

import json
import signal

import pytest
from commands import run, signalled
from conftest import SMALL

from rltrain import checkpoint
from rltrain.config.load import dump, parse
from rltrain.envs.workers import WorkerFault
from rltrain.experiment import Run
from rltrain.loop import EnvironmentFault
from rltrain.records import RunRecord, Status
from rltrain.rundir import write_atomic


def config(**changes):
    overrides = [f"{name}={value}" for name, value in ({"train.total_steps": 600} | changes).items()]
    return parse(SMALL, source="small", overrides=overrides).config


def failing(error, at=300):
    def listener(progress):
        if progress.steps >= at:
            raise error
        return False

    listener.every = 100
    return listener


def train(folder, *listeners, saved=None, interrupted=lambda: False, **changes):
    folder.mkdir(exist_ok=True)
    settings = config(**changes)
    write_atomic(folder / "config.yaml", dump(settings))
    run = Run(settings, folder, listeners)
    try:
        if saved is not None:
            run.resume(saved)
        return run.train(interrupted)
    finally:
        run.close()


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (ZeroDivisionError("of mine"), "ZeroDivisionError: of mine"),
        (EnvironmentFault("a reward of nan"), "a reward of nan"),
        (WorkerFault("no worker left"), "no worker left"),
        (OSError(28, "No space left on device"), "OSError: [Errno 28] No space left on device"),
    ],
)
def test_a_run_that_an_exception_ended_has_failed_and_says_why(tmp_path, error, reason):
    with pytest.raises(type(error)):
        train(tmp_path / "run", failing(error))
    record = RunRecord(tmp_path / "run")
    assert (record.status, record.reason) == (Status.FAILED, reason)
    assert record.summary["steps"] == record.standing.steps == 300
    assert (record.sittings[0]["status"], record.sittings[0]["to_step"]) == ("failed", 300)


def test_parts_that_cannot_be_built_are_a_failure_too(tmp_path, monkeypatch):
    def refuse(*_):
        raise MemoryError("replay")

    monkeypatch.setattr("rltrain.experiment.build", refuse)
    with pytest.raises(MemoryError):
        train(tmp_path / "run")
    record = RunRecord(tmp_path / "run")
    assert (record.status, record.reason, record.standing.steps) == (Status.FAILED, "MemoryError: replay", 0)


def test_a_disk_that_takes_no_summary_does_not_hide_what_went_wrong(tmp_path, monkeypatch):
    def full(path, text):
        if path.name == "summary.json":
            raise OSError(28, "No space left on device")
        write_atomic(path, text)

    monkeypatch.setattr("rltrain.experiment.write_atomic", full)
    with pytest.raises(ZeroDivisionError):
        train(tmp_path / "run", failing(ZeroDivisionError()))


def test_a_finished_run_that_goes_on_and_is_killed_no_longer_looks_finished(tmp_path):
    folder = tmp_path / "run"
    train(folder)
    assert RunRecord(folder).status is Status.FINISHED
    more = ("train", "--resume", folder, "train.total_steps=1_000", "--quiet")
    died = run(signalled(signal.SIGKILL, 750), *more)
    assert died.returncode == -signal.SIGKILL, died.stderr
    record = RunRecord(folder)
    assert record.status is Status.INTERRUPTED
    assert record.standing.steps == 700
    assert [(each["from_step"], each["to_step"], each["status"]) for each in record.sittings] == [
        (0, 600, "finished"), (600, None, None),
    ]  # fmt: skip


def test_every_sitting_says_when_for_how_long_and_on_what(tmp_path):
    folder = tmp_path / "run"
    seen = []

    def watch(progress):
        seen.append(progress.steps)

    watch.every = 500
    train(folder, watch, interrupted=lambda: bool(seen))
    saved = checkpoint.load(checkpoint.find(folder / "checkpoints", "last"))
    train(folder, saved=saved)
    first, second = RunRecord(folder).sittings
    assert (first["status"], second["from_step"], second["to_step"]) == ("interrupted", first["to_step"], 600)
    assert first["seconds"] > 0
    assert {"python", "rltrain", "numpy", "torch", "gymnasium", "source"} <= first["versions"].keys()
    assert first["versions"].items() >= saved.versions.items()
    assert first["machine"] == second["machine"]
    assert (first["machine"]["threads"], first["machine"]["device"]) == (1, "cpu")
    assert json.loads((folder / "sittings.json").read_bytes())["sittings"] == [first, second]


def test_the_summary_has_return_success_and_length(tmp_path):
    summary = train(tmp_path / "run", **{"eval.success": "{return_at_least: 1}"})
    assert summary["eval_success_rate"] == 1.0
    assert summary["eval_length"] == summary["eval_return"]  # CartPole pays 1 a step
