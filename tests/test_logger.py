"""Logs are read back by TensorBoard's own reader, and cut back to a checkpoint exactly."""

import json

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams import plugin_data_pb2

from rltrain.logger import EVENTS, METRICS, RunLogger, read_metrics


def scalars(folder):
    reader = EventAccumulator(str(folder), size_guidance={"scalars": 0})
    reader.Reload()
    return {tag: [(e.step, round(e.value, 4)) for e in reader.Scalars(tag)] for tag in reader.Tags()["scalars"]}


def test_tensorboard_reads_what_was_logged(tmp_path):
    logger = RunLogger(tmp_path)
    for step in range(3):
        logger.log(step, {"rollout/return": step / 2, "time/steps_per_second": 9.0})
    logger.close()
    assert scalars(tmp_path)["rollout/return"] == [(0, 0.0), (1, 0.5), (2, 1.0)]
    assert scalars(tmp_path)["time/steps_per_second"][0] == (0, 9.0)
    assert read_metrics(tmp_path) == [{"step": step, "rollout/return": step / 2} for step in range(3)]


def test_a_value_that_is_not_finite_is_null_in_json(tmp_path):
    logger = RunLogger(tmp_path)
    logger.log(1, {"train/loss": float("nan")})
    logger.close()
    assert json.loads((tmp_path / METRICS).read_text()) == {"step": 1, "train/loss": None}


@pytest.mark.parametrize("torn", [False, True])
def test_after_a_resume_there_is_no_duplicate_and_nothing_missing(tmp_path, torn):
    logger = RunLogger(tmp_path)
    for step in range(5):
        logger.log(step, {"x": float(step)})
    state = logger.state_dict()
    for step in range(5, 9):
        logger.log(step, {"x": -1.0})
    logger.close()
    if torn:
        for path in tmp_path.iterdir():
            path.write_bytes(path.read_bytes()[:-3])
    resumed = RunLogger(tmp_path)
    resumed.load_state_dict(state)
    for step in range(5, 8):
        resumed.log(step, {"x": float(step)})
    again = resumed.state_dict()
    resumed.log(8, {"x": -1.0})
    resumed.close()
    third = RunLogger(tmp_path)
    third.load_state_dict(again)
    third.log(8, {"x": 8.0})
    third.close()
    assert scalars(tmp_path)["x"] == [(step, float(step)) for step in range(9)]
    assert [entry["x"] for entry in read_metrics(tmp_path)] == list(range(9))


def test_a_resume_at_the_very_step_that_was_logged_last_keeps_its_entries(tmp_path):
    logger = RunLogger(tmp_path)
    logger.log(1500, {"x": 1.0})
    state = logger.state_dict()
    logger.close()
    resumed = RunLogger(tmp_path)
    resumed.load_state_dict(state)
    resumed.log(1500, {"y": 2.0})
    resumed.close()
    assert scalars(tmp_path) == {"x": [(1500, 1.0)], "y": [(1500, 2.0)]}


def test_a_resume_without_a_checkpoint_begins_with_empty_logs(tmp_path):
    logger = RunLogger(tmp_path)
    logger.log(1, {"x": 1.0})
    logger.close()
    logger = RunLogger(tmp_path)
    logger.start_fresh()
    assert not list(tmp_path.glob(f"{EVENTS}*"))
    logger.log(1, {"x": 2.0})
    logger.close()
    assert scalars(tmp_path)["x"] == [(1, 2.0)]


def test_hyperparameters_reach_the_hparams_tab(tmp_path):
    logger = RunLogger(tmp_path)
    logger.hparams({"agent": {"name": "dqn", "gamma": 0.9, "sizes": [1, 2]}, "x": None}, ("eval/return",))
    logger.close()
    reader = EventAccumulator(str(tmp_path))
    reader.Reload()
    content = reader.SummaryMetadata("_hparams_/session_start_info").plugin_data.content
    info = plugin_data_pb2.HParamsPluginData.FromString(content).session_start_info
    found = {name: value.string_value or value.number_value for name, value in info.hparams.items()}
    assert found == {"agent.name": "dqn", "agent.gamma": 0.9, "agent.sizes": "[1, 2]"}


def test_a_full_disk_is_reported_once_and_does_not_end_the_run(tmp_path, monkeypatch):
    logger = RunLogger(tmp_path)
    logger.log(1, {"x": 1.0})

    class Full:
        def write(self, data):
            raise OSError(28, "No space left on device")

        def close(self):
            pass

    logger._metrics.close()
    logger._metrics = Full()
    with pytest.warns(UserWarning, match="No space left") as caught:
        logger.log(2, {"x": 1.0})
        logger.log(3, {"x": 1.0})
    assert len(caught) == 1


def test_where_a_file_cannot_be_opened_the_others_are_tried_again_with_it(tmp_path, monkeypatch):
    opened = open

    def full(path, mode):
        if EVENTS in str(path) and full.times:
            full.times -= 1
            raise OSError(28, "No space left on device")
        return opened(path, mode)

    full.times = 1
    monkeypatch.setattr("rltrain.logger.open", full, raising=False)
    logger = RunLogger(tmp_path)
    with pytest.warns(UserWarning, match="No space left"):
        logger.log(1, {"x": 1.0})
    logger.log(2, {"x": 2.0})
    logger.close()
    assert scalars(tmp_path) == {"x": [(2, 2.0)]}
    assert read_metrics(tmp_path) == [{"step": 2, "x": 2.0}]
