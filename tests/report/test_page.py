"""The page: whole, well formed, safe with hostile names, and true to the runs it is made from."""

import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest
from made import logged, train
from reading import Page, assert_heard, assert_linked, assert_whole

from rltrain.cli.main import main
from rltrain.pictures.recording import Recording
from rltrain.records import find_runs
from rltrain.report.episodes import EPISODES, TEXT_FRAMES, Part, _text, chosen
from rltrain.report.methods import find_methods
from rltrain.report.page import gather, render
from rltrain.report.setup import duration
from rltrain.saved import SavedPolicy
from rltrain.seeding import Stream, env_seeds


@pytest.fixture(scope="session")
def groups(tmp_path_factory):
    """Five seeds of Q-learning, and three of SARSA, in a folder whose name is hostile."""
    root = tmp_path_factory.mktemp("report")
    many, few = root / "q_learning", root / "<b>sarsa & co"
    for seed in range(5):
        train(many / f"seed-{seed}", "q_learning", seed)
    for seed in range(3):
        train(few / f"seed-{seed}", "sarsa", seed)
    return many, few


@pytest.fixture(scope="session")
def html(groups):
    return render(gather(find_methods(groups), videos=False, announce=lambda text: None))


@pytest.fixture(scope="session")
def page(html):
    return Page(html)


def test_the_page_fetches_nothing_and_runs_nothing(html):
    assert_whole(html)


def test_names_of_runs_are_text_and_never_tags(html, page):
    assert "<b>sarsa & co" in page.text
    assert "<b>sarsa" not in html
    assert "b" not in {tag for tag, _ in page.tags}


def test_every_name_is_there_once_and_every_reference_has_its_target(html):
    assert_linked(html)


def test_the_page_can_be_heard(page):
    assert_heard(page)


def test_few_seeds_are_said_to_be_too_few(page):
    assert "Fewer than 5 seeds (<b>sarsa & co: 3) are too few for an interval" in page.text
    assert "its 95 % t interval" in page.text


def test_the_table_of_runs_shows_what_the_runs_logged(groups, page):
    head, *rows = page.tables["table-runs"]
    runs = [run for group in groups for run in find_runs(group)]
    assert len(rows) == len(runs) == 8
    at = [cell["text"] for cell in head].index
    for row, run in zip(rows, runs, strict=True):
        returns = run.curve("eval/return").values
        assert float(row[at("last return")]["data-value"]) == returns[-1]
        assert float(row[at("best return")]["data-value"]) == returns.max()
        assert float(row[at("% of optimum")]["data-value"]) == run.curve("eval/percent_of_optimal").values[-1]
        assert row[at("status")]["text"] == "finished"
        assert int(row[at("seed")]["text"]) == run.seed


def same(cell, estimate):
    """Whether a cell holds an estimate of `compare --json`, to the last digit."""
    told = {
        key: None if cell.get(f"data-{key}") is None else float(cell[f"data-{key}"]) for key in ("value", "low", "high")
    }
    return told == estimate


def test_the_tables_are_those_of_compare(groups, page, monkeypatch, capsys):
    call(monkeypatch, "compare", *groups, "--json")
    found = json.loads(capsys.readouterr().out)
    (table,) = found["tables"]
    head, *rows = page.tables["table-figures-0"]
    at = [cell["text"] for cell in head].index
    assert len(rows) == len(table["rows"]) == 2
    for cells, row in zip(rows, table["rows"], strict=True):
        assert cells[0]["text"] == row["method"]
        assert int(cells[at("n")]["text"]) == row["n"]
        assert same(cells[at("mean")], row["mean"])
        assert same(cells[at("IQM")], row["iqm"])
        assert float(cells[at("median")]["data-value"]) == row["median"]
        assert same(cells[at("area under the curve")], row["area"])
    (pair,), (_, cells) = found["pairs"], page.tables["table-pairs"]
    assert float(cells[1]["data-value"]) == pair["difference"]
    assert same(cells[2], pair["improvement"])
    assert [float(cells[3]["data-value"]), float(cells[4]["data-value"])] == [
        pair["welch_holm"],
        pair["permutation_holm"],
    ]
    assert found["verdict"] in page.text
    assert found["concerns"]
    assert all(concern["text"] in page.text for concern in found["concerns"])
    told = {row[0]["text"] for row in page.tables["table-differences"][1:]}
    assert told == {each["name"] for each in found["differences"]}


def test_settings_that_differ_are_those_of_the_methods_and_not_the_seeds(page):
    names = {row[0]["text"]: [cell["text"] for cell in row[1:]] for row in page.tables["table-differences"][1:]}
    assert names["agent.name"] == ["q_learning", "sarsa"]
    assert "seed" not in names
    assert "agent.gamma" not in names


def test_what_explored_is_shown(page):
    for heading in (
        "Epsilon",
        "Share of exploratory choices",
        "Entropy of the actions taken",
        "Distinct states visited",
    ):
        assert heading in page.text


def test_ranks_go_to_the_earliest_episode_of_each_return():
    # sorted: 1 2 5 9 9; the median is 5, and the first 9 stands at index 1
    assert chosen(np.array([2.0, 9, 5, 9, 1])) == {1: "Best", 2: "Median", 4: "Worst"}
    assert chosen(np.array([3.0, 3, 1])) == {0: "Best and median", 2: "Worst"}
    assert chosen(np.array([4.0, 4])) == {0: "Best, median and worst"}


def test_episodes_are_those_of_a_fresh_evaluation(groups, page):
    returns = []
    for run in find_runs(groups[0]):
        with SavedPolicy.open(run.folder) as policy:
            seeds = env_seeds(0, Stream.REPORT_EVAL, EPISODES)
            returns += policy.evaluator.episodes(seeds, policy.wrappers).returns.tolist()
    assert f"Of {len(returns)} fresh greedy episodes on fixed seeds (5 runs, 20 each)" in page.text
    assert f"which returned from {min(returns):g} to {max(returns):g}." in page.text
    assert "does not repeat itself" not in page.text


def test_text_of_a_terminal_keeps_what_it_marked_and_loses_its_codes():
    seen = Recording(texts=["S\x1b[41mF\x1b[0mG"] * (TEXT_FRAMES + 2))
    parts = _text(seen)["text"]
    assert parts[:3] == [Part("S", False), Part("F", True), Part("G\nS", False)]
    assert parts[-1].text.endswith("... 2 more frames")
    assert not any("\x1b" in part.text for part in parts)


def test_durations_are_written_for_people():
    assert [duration(x) for x in (None, 4.23, 200, 3_720)] == ["\u2013", "4.2 s", "3 min 20 s", "1 h 02 min"]


def call(monkeypatch, *arguments, code=0):
    monkeypatch.setattr(sys, "argv", ["rltrain", *map(str, arguments)])
    with pytest.raises(SystemExit) as end:
        main()
    assert (end.value.code or 0) == code


@pytest.mark.parametrize(
    ("path", "out", "code", "told"),
    [
        ("missing", "page.html", 66, "no such run"),
        ("", "none/page.html", 73, "there is no folder"),
        ("", "", 2, "must end in .html"),
        ("", "folder.html", 73, "it is a folder"),
    ],
)
def test_report_refuses_before_it_works(groups, tmp_path, monkeypatch, capsys, path, out, code, told):
    (tmp_path / "folder.html").mkdir()
    monkeypatch.setattr("rltrain.report.page.gather", None)
    call(monkeypatch, "report", groups[0] / path, "--out", tmp_path / out, code=code)
    error = capsys.readouterr().err
    assert told in error
    assert error.count("\n") == 1


def test_a_metric_that_was_never_logged_is_refused(groups, tmp_path, monkeypatch, capsys):
    call(monkeypatch, "report", groups[0], "--out", tmp_path / "page.html", "--metric", "eval/retrun", code=2)
    assert "did you mean 'eval/return'?" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_page_with_videos_is_written_whole(groups, tmp_path, monkeypatch, capsys):
    out = tmp_path / "page.html"
    call(monkeypatch, "report", groups[0] / "seed-0", "--out", out)
    assert [path.name for path in tmp_path.iterdir()] == ["page.html"]
    videos = Page(out.read_text()).all("video")
    assert videos
    assert all(str(each["src"]).startswith("data:video/mp4;base64,") for each in videos)
    assert "wrote" in capsys.readouterr().out


def test_runs_without_an_end_or_a_checkpoint_still_make_a_page(tmp_path):
    methods = find_methods([logged(tmp_path, "bare", 0, rollout__return=[1.0, 2.0, 3.0])])
    page = Page(render(gather(methods, videos=False, announce=lambda text: None)))
    assert "interrupted" in page.text
    assert re.search(r"seed 0 could not be evaluated: .*no checkpoint", page.text)


def test_what_the_page_needs_is_in_the_package():
    folder = Path(sys.modules["rltrain.report.page"].__file__).parent
    assert {"template.html", "page.css"} <= {path.name for path in folder.iterdir()}
