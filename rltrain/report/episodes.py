"""The best, the median and the worst episode of a fresh greedy evaluation, as videos, pictures or text.

Every run of a method plays the same episodes, on seeds that neither training nor its evaluations have seen.
"""

from __future__ import annotations

import math
import re
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np

from rltrain.core import Array, ConfigError, RltrainError
from rltrain.envs.vector import make_env
from rltrain.pictures.film import filming
from rltrain.pictures.recording import Recording, Stage, prepare_headless, record, render_modes, stage
from rltrain.records import RunRecord
from rltrain.report.media import data_uri, jpeg_uri
from rltrain.report.style import listed
from rltrain.saved import SavedPolicy
from rltrain.seeding import Stream, env_seeds

EPISODES = 20
"""Played by each run."""
EVAL_SEED = 0
"""Decides the episodes, as `rltrain eval --seed 0` does."""
FRAMES_PER_SECOND = 25
"""A video has no more; steps in between are left out, at the environment's own speed."""
ROUNDING = 1e-3
"""Share of a return by which an episode may differ when it is played again, alone: a network rounds otherwise then."""
MOMENTS = 5
"""Parts into which a picture divides an episode."""
TEXT_FRAMES = 60
"""Frames of text, at most."""
_ESCAPE = re.compile(r"\x1b\[([0-9;]*)m")


class Part(NamedTuple):
    """A piece of text; what the terminal would colour is marked."""

    text: str
    marked: bool


@dataclass(frozen=True)
class ShownEpisode:
    """One episode to be looked at."""

    ranks: str  # "Best", "Median and worst", ...
    seed: int  # of the run
    number: int  # among the episodes of its evaluation, from 1
    value: float  # undiscounted return
    length: int
    note: str = ""
    video: str | None = None  # data URI
    picture: str | None = None  # data URI: six moments, or what is seen before the video plays
    text: Sequence[Part] = ()


@dataclass(frozen=True)
class Shown:
    """What there is to see of a method."""

    episodes: Sequence[ShownEpisode] = ()
    returns: Array = field(default_factory=lambda: np.zeros(0))  # of all episodes of all runs
    notes: Sequence[str] = ()  # what could not be shown, and why


def chosen(returns: Array) -> dict[int, str]:
    """Index -> rank of the best, median and worst of returns (E,); equal ones are one, the earliest."""
    order = np.argsort(returns, kind="stable")
    middle = returns[order[(len(order) - 1) // 2]]
    ranks: dict[int, list[str]] = {}
    for rank, value in (("best", returns.max()), ("median", middle), ("worst", returns.min())):
        ranks.setdefault(int(np.flatnonzero(returns == value)[0]), []).append(rank)
    return {index: listed(names).capitalize() for index, names in ranks.items()}


def show(runs: Sequence[RunRecord], *, videos: bool, episodes: int = EPISODES) -> Shown:
    """Evaluate every run afresh and show the chosen episodes, as pictures where videos are not wanted.

    Raises ConfigError where MUJOCO_GL names what cannot draw here.
    """
    played: list[_Played] = []
    notes = []
    for run in runs:
        try:
            with SavedPolicy.open(run.folder) as policy:
                seeds = env_seeds(EVAL_SEED, Stream.REPORT_EVAL, episodes)
                found = policy.evaluator.episodes(seeds, policy.wrappers)
        except RltrainError as error:
            notes.append(f"seed {run.seed} could not be evaluated: {error}")
            continue
        ends = zip(found.returns.tolist(), found.lengths.tolist(), strict=True)
        played += [_Played(run, number, *end) for number, end in enumerate(ends)]
    if not played:
        return Shown(notes=notes)
    returns = np.array([each.value for each in played])
    shown = []
    for index, ranks in chosen(returns).items():
        try:
            shown.append(_shown(played[index], ranks, videos=videos))
        except ConfigError:  # the user's choice of what draws
            raise
        except Exception as error:  # drawing is the environment's, or that of a library it may lack
            notes.append(f"the {ranks} episode (seed {played[index].run.seed}) could not be drawn: {error}")
    return Shown(shown, returns, notes)


class _Played(NamedTuple):
    """An episode of the evaluation."""

    run: RunRecord
    number: int  # from 0
    value: float
    length: int


def _shown(one: _Played, ranks: str, *, videos: bool) -> ShownEpisode:
    """Play the episode again and draw it."""
    run, number = one.run, one.number
    with SavedPolicy.open(run.folder) as policy:
        env = make_env(policy.config.env)
        env.close()
        prepare_headless(env)
        modes = render_modes(policy, env)
        mode = next((mode for mode in ("rgb_array", "ansi") if mode in modes), None)
        if mode is None:
            raise RltrainError(f"{policy.spec.id} draws neither pictures nor text")
        seed = env_seeds(EVAL_SEED, Stream.REPORT_EVAL, number + 1)[number]
        with stage(policy, mode) as on:
            if mode == "ansi":
                seen = record(policy, on, seed)
                media = _text(seen)
            else:
                smooth, sparse = max(1, round(on.fps / FRAMES_PER_SECOND)), max(1, -(-one.length // MOMENTS))
                seen, media = _filmed(policy, on, seed, smooth if videos else sparse, videos=videos)
    return ShownEpisode(ranks, run.seed, number + 1, one.value, one.length, _note(one, seen), **media)  # type: ignore[arg-type]


def _note(one: _Played, seen: Recording) -> str:
    """What to say where an episode is another when it is played again."""
    if seen.length == one.length and math.isclose(seen.total, one.value, rel_tol=ROUNDING, abs_tol=ROUNDING):
        return ""
    return f"Played again it returned {seen.total:g}, {seen.length} steps: it does not repeat itself."


def _filmed(
    policy: SavedPolicy, on: Stage, seed: int, every: int, *, videos: bool
) -> tuple[Recording, dict[str, object]]:
    """An episode, and a video of it and its last frame; or a contact sheet."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / ("episode.mp4" if videos else "episode.png")
        with filming(path, path.suffix[1:], max(1, round(on.fps / every))) as film:
            seen = record(policy, on, seed, every=every, film=film)
        if not videos:
            return seen, {"picture": data_uri(path)}
        assert film.last is not None
        return seen, {"video": data_uri(path), "picture": jpeg_uri(film.last)}


def _text(seen: Recording) -> dict[str, object]:
    """The frames one after the other, without the terminal's codes."""
    frames = seen.texts[:TEXT_FRAMES]
    if len(seen.texts) > len(frames):
        frames.append(f"... {len(seen.texts) - len(frames)} more frames")
    parts, marked, at = [], False, 0
    text = "\n".join(frames)
    for code in _ESCAPE.finditer(text):
        parts.append(Part(text[at : code.start()], marked))
        marked, at = code[1] not in ("", "0"), code.end()
    parts.append(Part(text[at:], marked))
    return {"text": [part for part in parts if part.text]}
