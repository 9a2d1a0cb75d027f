"""What a run leaves to read: `metrics.jsonl` and TensorBoard's event files.

Both can be cut back to where a checkpoint was, so that a resumed run writes what an uninterrupted one
would have written. Metrics named `time/...` differ between equal runs; they go to TensorBoard only,
and `metrics.jsonl` is the same, byte for byte, whenever the run is the same.
"""

from __future__ import annotations

import json
import math
import os
import socket
import time
import warnings
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Any

from rltrain.core import RltrainError, State

METRICS = "metrics.jsonl"
EVENTS = "events.out.tfevents"


class DamagedLog(RltrainError):
    """There is a line in `metrics.jsonl` that rltrain has not written."""

    exit_code = 65


class RunLogger:
    """Writes the metrics of one run into its folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._metrics: IO[bytes] | None = None
        self._events: IO[bytes] | None = None
        self._record: Any = None
        self._failed = False
        self._last = -1  # greatest step that was logged

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Write one entry. A full disk is reported once; training goes on and later entries are tried again."""
        try:
            self._open()
            assert self._metrics is not None
            line: dict[str, float | None] = {"step": step}
            line.update({name: _plain(value) for name, value in metrics.items() if not name.startswith("time/")})
            self._metrics.write(json.dumps(line).encode() + b"\n")
            self._metrics.flush()
            self._write_event(step, metrics)
            self._last = max(self._last, step)
        except OSError as error:
            if not self._failed:
                warnings.warn(f"{self._folder}: metrics cannot be written: {error.strerror}", stacklevel=2)
            self._failed = True

    def _open(self) -> None:
        if self._metrics is not None:
            return
        from tensorboard.compat.proto.event_pb2 import Event, SessionLog
        from tensorboard.summary.writer.record_writer import RecordWriter

        number = len(list(self._folder.glob(f"{EVENTS}.*")))
        name = f"{EVENTS}.{int(time.time()):010d}.{socket.gethostname()}.{os.getpid()}.{number}"
        first = [Event(wall_time=time.time(), file_version="brain.Event:2")]
        if number:  # a running TensorBoard drops what it read of the steps that are written again
            start = SessionLog(status=SessionLog.START)
            first.append(Event(wall_time=time.time(), step=self._last + 1, session_log=start))
        with ExitStack() as stack:  # all is open, or nothing is
            metrics = stack.enter_context(open(self._folder / METRICS, "ab"))
            events = stack.enter_context(open(self._folder / name, "ab"))
            record = RecordWriter(events)
            for event in first:
                record.write(event.SerializeToString())
            stack.pop_all()  # see close()
        self._metrics, self._events, self._record = metrics, events, record

    def _write_event(self, step: int, metrics: Mapping[str, float]) -> None:
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.compat.proto.summary_pb2 import Summary

        values = [Summary.Value(tag=name, simple_value=value) for name, value in metrics.items()]
        self._record.write(Event(wall_time=time.time(), step=step, summary=Summary(value=values)).SerializeToString())
        self._record.flush()

    def hparams(self, settings: Mapping[str, Any], metrics: tuple[str, ...]) -> None:
        """Show the settings, flattened to dotted names, in TensorBoard's HParams tab."""
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.plugins.hparams import summary_v2 as hp

        flat = _flatten(settings)
        self._open()
        domain = hp.hparams_config_pb(
            hparams=[hp.HParam(name) for name in flat], metrics=[hp.Metric(name) for name in metrics]
        )
        session = hp.hparams_pb(flat, trial_id=self._folder.name)
        for summary in (domain, session):
            self._record.write(Event(wall_time=time.time(), summary=summary).SerializeToString())
        self._record.flush()

    def bands(self, names: Sequence[str]) -> None:
        """Have TensorBoard's Custom Scalars tab draw each of these between its bounds, `band_tags(name)`."""
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.compat.proto.summary_pb2 import Summary, SummaryMetadata
        from tensorboard.plugins.custom_scalar import layout_pb2, metadata
        from tensorboard.util.tensor_util import make_tensor_proto

        charts = []
        for name in reversed(names):  # the tab shows the last one first
            lower, upper = band_tags(name)
            series = layout_pb2.MarginChartContent.Series(value=name, lower=lower, upper=upper)
            charts.append(layout_pb2.Chart(title=name, margin=layout_pb2.MarginChartContent(series=[series])))
        layout = layout_pb2.Layout(category=[layout_pb2.Category(title="mean over seeds, 95 % interval", chart=charts)])
        plugin = SummaryMetadata.PluginData(plugin_name=metadata.PLUGIN_NAME)
        value = Summary.Value(
            tag=metadata.CONFIG_SUMMARY_TAG,
            metadata=SummaryMetadata(plugin_data=plugin),
            tensor=make_tensor_proto(layout.SerializeToString()),
        )
        self._open()
        self._record.write(Event(wall_time=time.time(), summary=Summary(value=[value])).SerializeToString())
        self._record.flush()

    def state_dict(self) -> State:
        """How long every file is; on the disk before this returns."""
        for file in (self._metrics, self._events):
            if file is not None:
                file.flush()
                os.fsync(file.fileno())
        return {"last": self._last, "lengths": {path.name: path.stat().st_size for path in self._files()}}

    def load_state_dict(self, state: State) -> None:
        """Cut every file back to its length in the state; remove those that were not there."""
        lengths, self._last = state["lengths"], state["last"]
        self.close()
        for path in self._files():
            if path.name not in lengths:
                path.unlink()
            elif path.stat().st_size > lengths[path.name]:
                os.truncate(path, lengths[path.name])

    def start_fresh(self) -> None:
        """Forget everything that was logged."""
        self.load_state_dict({"last": -1, "lengths": {}})

    def _files(self) -> list[Path]:
        return [path for path in (self._folder / METRICS, *self._folder.glob(f"{EVENTS}.*")) if path.exists()]

    def close(self) -> None:
        """Close the files."""
        for file in (self._metrics, self._events):
            if file is not None:
                file.close()
        self._metrics = self._events = self._record = None


def band_tags(name: str) -> tuple[str, str]:
    """The names under which the bounds of a mean over seeds are logged."""
    return f"uncertainty/{name}_low", f"uncertainty/{name}_high"


def _plain(value: float) -> float | None:
    """JSON has no NaN: null stands for a number that is not finite."""
    return value if math.isfinite(value) else None


def _flatten(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in settings.items():
        if isinstance(value, Mapping):
            flat.update(_flatten(value, f"{prefix}{key}."))
        elif isinstance(value, bool | int | float | str):
            flat[f"{prefix}{key}"] = value
        elif value is not None:
            flat[f"{prefix}{key}"] = json.dumps(value)
    return flat


def log_lines(folder: Path) -> list[tuple[bytes, dict[str, Any]]]:
    """The lines of `metrics.jsonl` and what they say, without one that is being written. Raises DamagedLog."""
    path = folder / METRICS
    lines = path.read_bytes().split(b"\n")[:-1] if path.exists() else []
    return [(line, _entry(line, f"{path}:{number}")) for number, line in enumerate(lines, 1)]


def _entry(line: bytes, where: str) -> dict[str, Any]:
    try:
        entry: dict[str, Any] = json.loads(line)
        int(entry["step"])
    except (ValueError, KeyError, TypeError):
        raise DamagedLog(f"{where}: not an entry of a log") from None
    return entry


def read_metrics(folder: Path) -> list[dict[str, Any]]:
    """The entries of a run's `metrics.jsonl`, without one that is being written. Raises DamagedLog."""
    return [entry for _, entry in log_lines(folder)]
