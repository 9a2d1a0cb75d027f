"""Runs read back: found in the order of seeds, with their status and their curves."""

import json

import numpy as np
import pytest

from rltrain.records import Status, find_runs
from rltrain.rundir import NoRun, lock_run


def make_run(folder, seed=0, entries=(), summary=None):
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(f"env: {{id: CartPole-v1}}\nagent: {{name: dqn}}\nseed: {seed}\n")
    (folder / "metrics.jsonl").write_text("".join(json.dumps(entry) + "\n" for entry in entries))
    if summary is not None:
        (folder / "summary.json").write_text(json.dumps(summary))
    return folder


def test_runs_of_a_folder_come_in_the_order_of_their_seeds_and_their_inside_is_left_alone(tmp_path):
    for seed in (10, 2, 0):
        run = make_run(tmp_path / "group" / f"seed-{seed}", seed)
    make_run(run / "checkpoints" / "copy", 7)
    assert [record.seed for record in find_runs(tmp_path)] == [0, 2, 10]


def test_a_curve_leaves_out_what_is_no_number_and_what_was_not_logged(tmp_path):
    entries = [{"step": 10, "a": 1.0}, {"step": 20, "b": 2.0}, {"step": 30, "a": None}, {"step": 40, "a": 4.0}]
    (record,) = find_runs(make_run(tmp_path / "run", entries=entries))
    curve = record.curve("a")
    np.testing.assert_array_equal(curve.steps, [10, 40])
    np.testing.assert_array_equal(curve.values, [1.0, 4.0])
    assert len(record.curve("c").steps) == 0


def test_the_status_is_running_while_locked_and_then_what_the_summary_says(tmp_path):
    run = make_run(tmp_path / "run")
    assert find_runs(run)[0].status is Status.INTERRUPTED
    with lock_run(run):
        assert find_runs(run)[0].status is Status.RUNNING
    (run / "summary.json").write_text('{"status": "finished"}')
    assert find_runs(run)[0].status is Status.FINISHED


def test_a_folder_without_runs_is_refused(tmp_path):
    with pytest.raises(NoRun, match="no run in this folder"):
        find_runs(tmp_path)
    with pytest.raises(NoRun, match="no such run"):
        find_runs(tmp_path / "none")
