"""Runs read back from their folders: settings, status, curves. Nothing is built, and nothing is written."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from rltrain.config.reader import read, read_file
from rltrain.config.seeds import seeds_of
from rltrain.core import Array, ConfigError
from rltrain.logger import METRICS, read_metrics
from rltrain.rundir import GROUP, NoRun, is_locked, is_run
from rltrain.sittings import read_sittings

SUMMARY = "summary.json"
SCORES = ("eval/exact_return", "eval/return", "rollout/return")
"""What a run is judged by at a glance: the first of these that it has."""
_NUMBER = rb'"%s": (-?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?)'


class Status(StrEnum):
    """How a run stands."""

    RUNNING = "running"
    FINISHED = "finished"
    INTERRUPTED = "interrupted"
    FAILED = "failed"


class Curve(NamedTuple):
    """A metric over a run: entries in the order of their steps."""

    steps: Array  # (T,) int64 environment steps
    values: Array  # (T,) float64


class Standing(NamedTuple):
    """How far a run is, and what it is worth."""

    steps: int  # environment steps that were taken, as far as they are written down
    metric: str | None  # the first of SCORES that was logged
    last: float | None
    best: float | None


@dataclass(frozen=True)
class RunRecord:
    """One run folder. What it tells is read when it is asked for, and then kept."""

    folder: Path

    @cached_property
    def config(self) -> dict[str, Any]:
        """Every setting, as `config.yaml` holds it. Raises ConfigError where it is damaged."""
        path = self.folder / "config.yaml"
        data = read(read_file(path), str(path), fast=True).data
        for block, key in (("env", "id"), ("agent", "name")):
            if not isinstance(data.get(block), dict) or key not in data[block]:
                raise ConfigError(f"{path}: not the configuration of a run: {block}.{key} is missing")
        return data

    @cached_property
    def summary(self) -> dict[str, Any] | None:
        """What the run came to; None before its end, and where it was killed."""
        try:
            found: Any = json.loads((self.folder / SUMMARY).read_bytes())
        except (FileNotFoundError, ValueError):
            return None
        return found if isinstance(found, dict) and found.get("status") in tuple(Status) else None

    @property
    def reason(self) -> str | None:
        """Why it failed."""
        return None if self.summary is None else self.summary.get("reason")

    @cached_property
    def sittings(self) -> list[dict[str, Any]]:
        """When, on what and by which command it ran, first to last (`sittings.py`)."""
        return read_sittings(self.folder)

    @cached_property
    def standing(self) -> Standing:
        """From the summary where there is one, else from the log, of which only what is asked for is parsed."""
        told = self.summary or {}
        if told.get("eval_return") is not None:
            exact = told.get("eval_exact_return")
            name, last = (SCORES[1], told["eval_return"]) if exact is None else (SCORES[0], exact)
            return Standing(told["steps"], name, last, told["best_return"])
        log = (self.folder / METRICS).read_bytes() if (self.folder / METRICS).exists() else b""
        log = log[: log.rfind(b"\n") + 1]  # without a line that is being written
        line = log[log.rfind(b"\n", 0, -1) + 1 :]
        logged = re.match(rb'\{"step": (\d+)', line)
        steps = told.get("steps", int(logged[1]) if logged else 0)
        for name in SCORES:
            if values := [float(number) for number in re.findall(_NUMBER % name.encode(), log)]:
                return Standing(steps, name, values[-1], max(values))
        return Standing(steps, None, None, None)

    @cached_property
    def entries(self) -> list[dict[str, Any]]:
        """All that was logged; empty where nothing was."""
        return read_metrics(self.folder)

    @cached_property
    def status(self) -> Status:
        """Running while a process holds its lock; else what its summary says; without one it was interrupted."""
        if is_locked(self.folder):
            return Status.RUNNING
        return Status.INTERRUPTED if self.summary is None else Status(self.summary["status"])

    @property
    def began(self) -> float:
        """When it was started, in seconds since 1970."""
        if self.sittings:
            return datetime.fromisoformat(self.sittings[0]["began"]).timestamp()
        return (self.folder / "config.yaml").stat().st_mtime

    @property
    def size(self) -> int:
        """Bytes of all its files."""
        return _bytes_below(self.folder)

    @property
    def total_steps(self) -> int:
        """Environment steps that it was to take."""
        return self._number("train", "total_steps")

    @property
    def seed(self) -> int:
        """The run's seed."""
        return self._number("seed")

    def _number(self, *path: str) -> int:
        value: Any = self.config
        for key in path:
            value = value.get(key) if isinstance(value, dict) else None
        if not isinstance(value, int):
            raise ConfigError(f"{self.folder / 'config.yaml'}: {'.'.join(path)}: expected a whole number, got {value}")
        return value

    @property
    def env(self) -> str:
        """Id of the environment."""
        return str(self.config["env"]["id"])

    @property
    def agent(self) -> str:
        """Name of the agent."""
        return str(self.config["agent"]["name"])

    def curve(self, metric: str) -> Curve:
        """The entries of one metric that are numbers; empty where it was never logged."""
        points = [(entry["step"], entry[metric]) for entry in self.entries if entry.get(metric) is not None]
        steps, values = zip(*points, strict=True) if points else ((), ())
        return Curve(np.array(steps, np.int64), np.array(values, np.float64))


def find_runs(path: Path) -> list[RunRecord]:
    """The run that `path` is, or every run below it, in the order of folders and seeds. Raises NoRun."""
    found = list(_below(path))
    if not found:
        raise NoRun(f"{path}: no run in this folder" if path.is_dir() else f"{path}: no such run")
    return found


def planned_seeds(group: Path) -> list[int] | None:
    """The seeds that a group is to have, whether they were begun or not; None where its `group.yaml` is damaged."""
    path = group / GROUP
    try:
        data = read(read_file(path), str(path), fast=True).data
        return seeds_of(data["seeds"], data.get("seed", 0))
    except (ConfigError, KeyError, TypeError, ValueError):
        return None


def _below(folder: Path) -> Iterator[RunRecord]:
    """Runs in a folder; a run's own folders are not looked into."""
    if is_run(folder):
        yield RunRecord(folder)
    elif folder.is_dir():
        for child in sorted(folder.iterdir(), key=_natural):
            yield from _below(child)


def _bytes_below(folder: Path | str) -> int:
    total = 0
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                total += _bytes_below(entry.path)
            else:
                with suppress(FileNotFoundError):  # a running run renames and removes its files
                    total += entry.stat(follow_symlinks=False).st_size
    return total


def _natural(path: Path) -> list[tuple[bool, int, str]]:
    """Numbers within a name in their own order: seed-2 before seed-10."""
    words = path.name.replace("-", " ").replace("_", " ").split()
    return [(word.isdigit(), int(word) if word.isdigit() else 0, word) for word in words]
