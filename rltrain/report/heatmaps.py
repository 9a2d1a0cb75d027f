"""Section on learnt tables: their picture, and how far the policy is from the optimum."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Sequence
from pathlib import Path

from rltrain.core import RltrainError
from rltrain.envs.vector import make_env
from rltrain.pictures.panels import DPI
from rltrain.pictures.table_picture import draw_table, table_of
from rltrain.records import RunRecord
from rltrain.report.blocks import Block, Picture, Section, Text
from rltrain.report.media import png_uri
from rltrain.report.methods import Method, last
from rltrain.saved import SavedPolicy

SCREEN_DPI = 96


def table_section(methods: Sequence[Method]) -> Section:
    """Values, greedy actions and visits of the run of each method that is in the middle."""
    blocks = [block for method in methods for task in method.tasks for block in _pictures(method, task)]
    return Section("tables", "Learnt tables", blocks)


def middle(runs: Sequence[RunRecord]) -> RunRecord:
    """The run of the median last return; of two, the lower."""
    scores = [last(run, "eval/return") for run in runs]
    ordered = sorted(range(len(runs)), key=lambda at: -math.inf if (score := scores[at]) is None else score)
    return runs[ordered[(len(ordered) - 1) // 2]]


def _pictures(method: Method, task: str) -> list[Block]:
    run = middle(method.on(task))
    try:
        with SavedPolicy.open(run.folder) as policy, tempfile.TemporaryDirectory() as folder:
            made = make_env(policy.config.env)
            made.close()
            table = table_of(policy, made.unwrapped)
            if table is None:
                return []
            path = Path(folder) / "table.png"
            draw_table(path, table, title=f"{run.agent} on {task}, seed {run.seed}, step {policy.step:,}")
            heading = f"{method.name}: seed {run.seed}, the median run of {len(method.on(task))}"
            alt = f"Values, greedy actions and visits that {method.name} learnt on {task} with seed {run.seed}"
            uri, width = png_uri(path)
            return [Picture(heading, uri, alt, round(width * SCREEN_DPI / DPI))]
    except RltrainError as error:
        return [Text([f"{method.name}: no table can be shown: {error}"], "warning")]
