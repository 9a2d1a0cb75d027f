"""`rltrain report`: one page that holds everything, fetches nothing, and runs no script."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from rltrain.report.blocks import Section, dash_array, name_parts
from rltrain.report.heatmaps import table_section
from rltrain.report.learning import curve_section, exploration_section
from rltrain.report.methods import Method, all_tasks
from rltrain.report.outcome import compared, difference_section, outcome_section
from rltrain.report.setup import setup_section
from rltrain.report.style import COLOURS, listed, plain_number
from rltrain.report.watching import episode_section


@dataclass(frozen=True)
class Report:
    """All that the template shows."""

    title: str
    lead: str
    sections: Sequence[Section]
    foot: str
    version: str


def gather(
    methods: Sequence[Method],
    *,
    metric: str | None = None,
    threshold: float | None = None,
    videos: bool,
    announce: Callable[[str], None],
) -> Report:
    """Read, compute and draw everything. `metric` and `threshold` are `compare`'s; `announce` is told of times."""
    found = compared(methods, metric, threshold)
    made = [outcome_section(methods, found), curve_section(methods), exploration_section(methods)]
    began = time.monotonic()
    made.append(episode_section(methods, videos=videos))
    announce(f"{'videos' if videos else 'pictures'} of episodes: {time.monotonic() - began:.1f} s")
    made += [table_section(methods), difference_section(found), setup_section(methods)]
    title = f"{listed([method.name for method in methods])} on {listed(all_tasks(methods))}"
    return whole(title, _lead(methods), made)


def whole(title: str, lead: str, sections: Sequence[Section]) -> Report:
    """The page of these sections, without the empty ones."""
    own = version("rltrain")
    foot = f"Made by rltrain {own}, {time.strftime('%Y-%m-%d %H:%M %Z')}. This page is whole: it loads nothing."
    return Report(title, lead, [section for section in sections if section.blocks], foot, own)


def _lead(methods: Sequence[Method]) -> str:
    runs = [run for method in methods for run in method.runs]
    steps = {int(run.config["train"]["total_steps"]) for run in runs}
    budget = " to ".join(f"{each:,}" for each in sorted({min(steps), max(steps)}))
    unfinished = sum(run.status.value != "finished" for run in runs)
    many = f"{len(runs)} runs" if len(runs) > 1 else "One run"
    return f"{many} of {budget} environment steps" + (f", {unfinished} of them not finished." if unfinished else ".")


def render(report: Report) -> str:
    """The page as HTML. Everything that comes from runs is escaped."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    folder = Path(__file__).parent
    environment = Environment(
        loader=FileSystemLoader(folder), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    environment.filters |= {"dashes": dash_array, "plain": plain_number, "parts": name_parts}
    css = (folder / "page.css").read_text(encoding="utf-8")
    return environment.get_template("template.html").render(report=report, css=css, colours=len(COLOURS))
