"""The page on a study: true to what the storage holds, and plain about what there is not."""

import json
import math
import sys

import pytest

optuna = pytest.importorskip("optuna", reason="Optuna is not installed")

from pretending import SEARCH, Bench, Pretender
from reading import Page, assert_heard, assert_linked, assert_whole

from rltrain.cli.main import main
from rltrain.config.tune import Parameter
from rltrain.core import RltrainError
from rltrain.report.page import render
from rltrain.report.study.page import gather_study
from rltrain.report.study.searched import range_text
from rltrain.report.study.trials import _best_so_far, _curves, _points, importances
from rltrain.report.study.view import Scale, View, short_names
from rltrain.tuning.confirm import candidates, group_of, so_far
from rltrain.tuning.reading import read_study
from rltrain.tuning.results import write_results

WIDE = SEARCH.replace("trials: 8", "trials: 34\n  pruner: median") + (
    "    agent.learning_rate: {log_uniform: [0.01, 1.0]}\n"
    "    exploration.name: {choice: [epsilon_greedy, greedy]}\n"
    "    exploration.epsilon: {uniform: [0.1, 0.9], when: {exploration.name: epsilon_greedy}}\n"
)


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    return Bench(tmp_path_factory.mktemp("study"))


@pytest.fixture(scope="module")
def study(bench):
    """Complete, pruned and failed trials, of which the best were confirmed."""
    hostile = Pretender(fail=lambda job: "<b>boom" if job.folder.parent.name == "trial-0002" else None)
    study = bench.open(WIDE, name="wide")
    bench.search(study, hostile, together=1)
    jobs = [job for each in candidates(study) for job in group_of(study, each).jobs()]
    hostile.run(iter([*jobs, None]).__next__, lambda event: None)
    study = read_study(bench.folder / "tune" / "wide", None)
    write_results(study, so_far(study), "finished")
    return study


@pytest.fixture(scope="module")
def html(study):
    return render(gather_study(study))


def test_the_page_is_whole_and_can_be_heard_and_shows_reasons_as_text(html):
    page = Page(html)
    assert_whole(html)
    assert_linked(html)
    assert_heard(page)
    assert "1 of 34 trials failed: <b>boom." in page.text
    assert "b" not in {tag for tag, _ in page.tags}
    assert len([picture for picture in page.all("svg") if "class" not in picture]) == 5 + 4  # and a slice a setting


def test_the_table_of_trials_holds_what_the_storage_holds_best_first(html, study):
    head, *rows = Page(html).tables["table-trials"]
    at = [cell["text"] for cell in head].index
    trials = {str(trial.number): trial for trial in study.trials()}
    assert len(rows) == len(trials) == 34
    states = [row[at("state")]["text"] for row in rows]
    assert states == sorted(states, key=["complete", "pruned", "failed"].index)
    assert states.count("failed") == 1
    assert states.count("pruned") > 2
    for row in rows:
        trial = trials[row[0]["text"]]
        assert row[at("value")].get("data-value") == (None if trial.value is None else str(trial.value))
        for label, name in (("learning_rate", "agent.learning_rate"), ("epsilon", "exploration.epsilon")):
            told = row[at(label)].get("data-value")
            assert told == (str(trial.params[name]) if name in trial.params else None)
        assert row[at("exploration.name")]["text"] == trial.params["exploration.name"]
        assert row[at("why")]["text"] == ("seed 0: <b>boom" if trial.number == 2 else "\u2013")
    values = [float(row[at("value")]["data-value"]) for row in rows if row[at("state")]["text"] == "complete"]
    assert values == sorted(values, reverse=True)


def test_the_outcome_is_what_the_command_told(html, study):
    page, summary = Page(html), json.loads((study.folder / "summary.json").read_text())
    assert summary["verdict"][1:] in page.text
    assert f"Chosen: trial {summary['chosen']}, with agent.gamma" in page.text
    _, *rows = page.tables["table-confirmed"]
    for row, told in zip(rows, [*summary["confirmed"], summary["as_it_stands"]], strict=True):
        assert row[0]["text"] == ("as it stands" if told["trial"] is None else f"trial {told['trial']}")
        assert float(row[2]["data-value"]) == told["confirmed"]["value"]
        assert float(row[2]["data-low"]) == told["confirmed"]["low"]
        assert row[4].get("data-value") == (None if told["winners_curse"] is None else str(told["winners_curse"]))
    assert f"rltrain train {study.folder}/best.yaml" in page.text


def test_a_conditional_setting_has_points_only_where_it_was_searched(study):
    view = View(study)
    scale = next(scale for scale in view.scales if scale.name == "exploration.epsilon")
    shown = list(_points(view, scale))
    searched = [t for t in study.trials() if t.value is not None and "exploration.epsilon" in t.params]
    assert 0 < len(searched) < len(list(_points(view)))
    assert [point.y for point in shown] == [trial.value for trial in searched]
    assert [scale.value(point.x) for point in shown] == pytest.approx(
        [t.params["exploration.epsilon"] for t in searched]
    )
    assert sum(point.kind == "chosen" for point in _points(view)) == 1


def test_the_best_so_far_never_falls_and_progress_breaks_between_seeds(study):
    view = View(study)
    numbers, values = zip(*_best_so_far(view), strict=True)
    assert list(values) == sorted(values)
    assert values[-1] == view.best.value
    assert numbers[-1] == 33
    curves = list(_curves(view))
    assert {kind for kind, _, _ in curves} == {"chosen", "complete", "pruned"}
    for kind, steps, values in curves:
        if kind != "pruned":  # one worker: the first seed alone, then the mean of both
            assert steps == [100, 200, 300, 400, pytest.approx(math.nan, nan_ok=True), 500, 600, 700, 800]
            assert [math.isnan(value) for value in values] == [math.isnan(step) for step in steps]


def test_importances_are_optunas_own_and_find_what_matters(study):
    view = View(study)
    found = importances(view)
    assert sum(found.values()) == pytest.approx(1)
    assert max(found, key=found.get) == "agent.gamma"  # which is all that the made-up value depends on
    assert set(found) == {scale.name for scale in view.scales}
    evaluator = optuna.importance.PedAnovaImportanceEvaluator(target_quantile=5 / len(view.complete))
    assert found == optuna.importance.get_param_importances(study.optuna, evaluator=evaluator)


ONE = "tune.search={agent.gamma: {uniform: [0.5, 1.0]}}"


@pytest.mark.parametrize(
    ("name", "trials", "launcher", "told", "untold"),
    [
        ("none", 4, None, ["0 of 4 trials are done", "No trial has a value yet.", "--study none --resume"], ["History", "Trials, best first"]),
        ("failed", 3, Pretender(fail=lambda job: "no luck"), ["All trials failed: no luck.", "No trial has a value."], ["History"]),
        ("one", 1, Pretender(), ["Nothing was run again on fresh seeds", "need 10 complete trials; there are 1"], ["All settings together"]),
        ("constant", 11, Pretender(worth=lambda config: 1.0), ["All 11 complete trials have the same value, 1", "Importances cannot be told"], []),
    ],
)  # fmt: skip
def test_a_study_that_tells_little_says_so(bench, name, trials, launcher, told, untold):
    study = bench.open(SEARCH, f"tune.trials={trials}", ONE, name=name)
    if launcher is not None:
        bench.search(study, launcher)
    html = render(gather_study(read_study(bench.folder / "tune" / name, None)))
    assert_whole(html)
    assert_linked(html)
    text = Page(html).text
    assert all(each in text for each in told)
    assert not any(each in text for each in untold)


def test_settings_stand_where_their_scale_says():
    def scale(**written):
        return Scale("a.b", "b", Parameter(**written))

    log = scale(log_uniform=(0.001, 10.0))
    assert [log.place(value) for value in (0.001, 0.1, 10.0)] == pytest.approx([0, 0.5, 1])
    assert log.marks == [(0.0, "0.001"), (0.5, "0.1"), (1.0, "10")]
    assert scale(int=(2, 10), step=4).place(6) == 0.5
    blocks = scale(choice=([64, 64], [256], "x", True, 1))
    assert [blocks.place(value) for value in ([256], True, 1)] == pytest.approx(
        [0.3, 0.7, 0.9]
    )  # fifths, in the middle
    assert blocks.marks[0][1] == "[64, 64]"
    assert range_text(Parameter(int=(2, 10), step=4)) == "whole numbers 2 to 10 in steps of 4"
    assert range_text(Parameter(log_uniform=(1e-5, 0.01))) == "1e-05 to 0.01, uniform in the logarithm"


def test_names_are_as_short_as_they_can_be_told_apart():
    names = ["agent.learning_rate", "agent.name", "exploration.name", "exploration.epsilon.end", "bonuses[0].scale.end"]
    assert list(short_names(names).values()) == [
        "learning_rate",
        "agent.name",
        "exploration.name",
        "epsilon.end",
        "scale.end",
    ]
    assert short_names(["end", "x.end"]) == {"end": "end", "x.end": "x.end"}


def test_a_study_in_another_storage_is_found_by_its_name(bench, study, tmp_path):
    folder, url = study.folder.parent / "elsewhere", str(tmp_path / "other.journal")
    bench.search(bench.open(SEARCH, "tune.trials=1", ONE, name="elsewhere", url=url))
    (folder / "summary.json").write_text(json.dumps({"storage": url}))
    with pytest.raises(RltrainError, match="has no study elsewhere"):
        read_study(folder, None)
    for none in (str(tmp_path / "none.journal"), f"sqlite:///{tmp_path}/none.db"):
        with pytest.raises(RltrainError, match=f"there is no such storage; name it with --storage .{url}"):
            read_study(folder, none)
    assert not (tmp_path / "none.db").exists()
    assert len(read_study(folder, url).trials()) == 1


def test_a_study_has_a_page_of_its_own_and_is_judged_by_its_objective(bench, study, monkeypatch, capsys, tmp_path):
    def report(*arguments):
        monkeypatch.setattr(sys, "argv", ["rltrain", "report", *map(str, arguments), "--out", str(tmp_path / "x.html")])
        with pytest.raises(SystemExit) as caught:
            main()
        return caught.value.code, capsys.readouterr().err

    assert report(study.folder, bench.folder)[1].endswith("a study has a page of its own: name nothing beside it\n")
    code, told = report(study.folder, "--metric", "eval/length")
    assert code == 2
    assert "--metric: goes with runs" in told
    assert not (tmp_path / "x.html").exists()
