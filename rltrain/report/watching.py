"""Section of episodes to be looked at."""

from __future__ import annotations

from collections.abc import Sequence

from rltrain.report.blocks import Block, Section, Text, Watch
from rltrain.report.episodes import EPISODES, show
from rltrain.report.methods import Method
from rltrain.report.style import plain_number


def episode_section(methods: Sequence[Method], *, videos: bool) -> Section:
    """Best, median and worst of a fresh evaluation, for each method in each environment."""
    blocks: list[Block] = []
    for method in methods:
        for task in method.tasks:
            shown = show(method.on(task), videos=videos)
            if shown.episodes:
                blocks.append(Watch(f"{method.name} on {task}", shown.episodes, _note(shown.returns.tolist())))
            if shown.notes:
                blocks.append(Text([f"{method.name} on {task}: {note}" for note in shown.notes], "warning"))
    return Section("episodes", "Episodes", blocks)


def _note(returns: Sequence[float]) -> str:
    runs = len(returns) // EPISODES
    many = f"{runs} runs, {EPISODES} each" if runs > 1 else "one run"
    span = f"from {plain_number(min(returns))} to {plain_number(max(returns))}"
    return f"Of {len(returns)} fresh greedy episodes on fixed seeds ({many}), which returned {span}."
