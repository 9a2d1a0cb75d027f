"""`rltrain report STUDY`: everything about one search on one page."""

from __future__ import annotations

from rltrain.report.page import Report, whole
from rltrain.report.study.outcome import go_on_section, outcome_section
from rltrain.report.study.searched import searched_section
from rltrain.report.study.trials import history_section, importance_section, settings_section, table_section
from rltrain.report.study.view import View
from rltrain.tuning.study import Study


def gather_study(study: Study) -> Report:
    """Read, compute and draw everything."""
    view = View(study)
    sections = [
        outcome_section(view),
        searched_section(view),
        history_section(view),
        importance_section(view),
        settings_section(view),
        table_section(view),
        go_on_section(view),
    ]
    agent = study.space.base["agent"]["name"]
    return whole(f"Search for settings of {agent} on {study.config.env.id}", _lead(view), sections)


def _lead(view: View) -> str:
    states = ("complete", "pruned", "failed", "running")
    counts = ", ".join(f"{len(found)} {state}" for state in states if (found := view.of(state)))
    return (
        f"Study {view.study.name}: {len(view.trials)} of {view.study.budget} trials{f', {counts}' if counts else ''}."
    )
