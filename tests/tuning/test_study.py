"""Trials over several processes and several lives: each is done once, whatever ends, and under its own number."""

import json
import shutil

import pytest

pytest.importorskip("optuna", reason="Optuna is not installed")

from pretending import GRID, SEARCH, Pretender, at_once, worth

from rltrain.core import ConfigError
from rltrain.launch.job import MAX_LOST
from rltrain.tuning.confirm import Candidate, Confirmed, candidates, confirmed, fresh_seeds, gain, group_of, winner
from rltrain.tuning.objective import NeverLogged, Objective
from rltrain.tuning.results import write_results
from rltrain.tuning.storage import open_store
from rltrain.tuning.tuner import Tuner


def states(trials):
    return [trial.state.name for trial in trials]


def test_a_study_does_its_trials_and_judges_them_by_the_mean_of_their_seeds(bench):
    study = bench.open()
    trials = bench.search(study)
    assert states(trials) == ["COMPLETE"] * 8
    for trial in trials:
        gamma = trial.params["agent.gamma"]
        assert trial.value == pytest.approx(gamma + 0.0005)  # the mean of seeds 0 and 1
        assert trial.user_attrs["scores"] == pytest.approx({"0": gamma, "1": gamma + 0.001})
    assert len({trial.params["agent.gamma"] for trial in trials}) == 8
    assert not study.held
    assert bench.search(study) == trials  # nothing is left to do


@pytest.mark.parametrize("repetition", [0, 1, *(pytest.param(each, marks=pytest.mark.slow) for each in range(2, 20))])
def test_a_grid_has_every_point_exactly_once_with_four_at_work(bench, repetition):
    at_once(*[lambda: bench.search(bench.open(GRID))] * 4)  # the study itself is made by one of the four as well
    study = bench.open(GRID)
    trials = study.trials()
    assert states(trials) == ["COMPLETE"] * 12
    done = [json.dumps(study.space.stored(trial.params), sort_keys=True) for trial in trials]
    assert sorted(done) == sorted(json.dumps(point, sort_keys=True) for point in study.space.points)


@pytest.mark.parametrize("sampler", ["grid", "random", "tpe", "gp", "cmaes"])
def test_every_sampler_searches_and_draws_the_same_from_the_same_storage(bench, sampler, tmp_path):
    overrides = [f"tune.sampler={sampler}", "tune.trials=4", "tune.search={agent.gamma: {grid: [0.5, 0.6, 0.7, 0.8]}}"]
    if sampler != "grid":
        overrides[-1] = "tune.search={agent.gamma: {uniform: [0.5, 1.0]}, agent.visit_power: {uniform: [0, 1]}}"
    whole = [trial.params for trial in bench.search(bench.open(SEARCH, *overrides))]
    first = bench.open(SEARCH, *overrides, name="again")
    stopped = iter([False] * 12 + [True] * 99)
    bench.search(first, interrupted=lambda: next(stopped))
    assert len(first.trials()) < 4
    again = bench.search(bench.open(SEARCH, *overrides, name="again"))
    assert [trial.params for trial in again] == whole


def test_an_interrupted_trial_goes_on_from_where_it_was_under_its_number(bench):
    launcher, study = Pretender(), bench.open()
    bench.search(study, launcher, interrupted=lambda: launcher.steps >= 1_000)
    open_ = [trial.number for trial in study.trials() if trial.state.name == "RUNNING"]
    assert open_ == [1]
    again = Pretender()
    trials = bench.search(bench.open(), again)
    assert states(trials) == ["COMPLETE"] * 8
    assert launcher.steps + again.steps == 8 * 2 * 400  # not a step twice


def test_a_trial_of_a_living_process_is_left_alone_and_taken_when_that_dies(bench):
    mine, other = bench.open(), bench.open()
    held = mine.take()
    assert other.take(new=False) is None
    mine.release(held)  # as the system does it when a process ends
    taken = other.take(new=False)
    assert (taken.number, taken.values) == (held.number, held.values)


def test_a_trial_that_ends_while_another_process_looks_is_not_taken(bench, monkeypatch):
    mine, other = bench.open(), bench.open()
    held = mine.take()
    before = other.optuna.get_trials(deepcopy=True)
    mine.complete(held, 0.5, {0: 0.5, 1: 0.5})
    mine.release(held)
    monkeypatch.setattr(other.optuna, "get_trials", lambda **_: before)  # read a moment too early
    assert other.take(new=False) is None
    again = bench.open().take()
    assert again.number == 1  # and its lock is free


def test_a_trial_whose_process_died_before_it_had_a_folder_is_replaced_and_does_not_count(bench):
    study = bench.open(GRID)
    study.optuna.enqueue_trial(study.space.encoded(study.space.points[0]), user_attrs={"point": 0})
    study.optuna.ask()
    trials = bench.search(bench.open(GRID, "tune.trials=2"))
    assert [trial.user_attrs["point"] for trial in trials] == [0, 1]
    assert states(study.optuna.trials).count("FAIL") == 1


def test_a_lost_process_costs_nothing_but_its_time_up_to_a_limit(bench):
    launcher = Pretender(lose=lambda job, attempt: attempt <= 2)
    assert states(bench.search(bench.open(), launcher)) == ["COMPLETE"] * 8
    assert launcher.steps == 8 * 2 * 400
    hopeless = Pretender(lose=lambda job, attempt: True)
    endless = bench.open(SEARCH, "train.total_steps=100_000", "tune.trials=1", name="hopeless")
    (trial,) = bench.search(endless, hopeless)
    assert trial.state.name == "FAIL"
    assert max(hopeless.attempts.values()) == MAX_LOST + 1


def test_a_seed_that_fails_fails_its_trial_with_its_reason_and_the_others_go_on(bench):
    launcher = Pretender(
        fail=lambda job: "the loss is not finite" if job.folder.parts[-2:] == ("trial-0003", "seed-1") else None
    )
    study = bench.open()
    trials = bench.search(study, launcher)
    assert states(trials) == ["COMPLETE"] * 3 + ["FAIL"] + ["COMPLETE"] * 4
    assert trials[3].user_attrs["reason"] == "seed 1: the loss is not finite"
    write_results(study, [], "finished")
    assert "3,failed,,0." in (study.folder / "trials.csv").read_text()


def test_no_seed_begins_once_a_search_has_nothing_to_go_by(bench):
    tuner = Tuner(bench.open(), 3, lambda work: None)
    begun = [tuner.next_job() for _ in range(3)]
    assert [job.folder.parts[-2:] for job in begun[:2]] == [("trial-0000", "seed-0"), ("trial-0000", "seed-1")]
    tuner.hopeless = "the metric was never logged"
    assert tuner.next_job() is None  # though another seed of the trial that has begun waits
    tuner.leave()


def test_values_that_do_not_go_together_fail_their_trial_and_the_others_go_on(bench):
    """A gaussian posterior has no noise_shape: each of the two goes by itself, and one pair of four does not."""
    part = "exploration={name: thompson, posterior: normal_inverse_gamma}"
    posteriors = "exploration.posterior: {choice: [gaussian, normal_inverse_gamma]}"
    search = f"tune.search={{{posteriors}, exploration.noise_shape: {{choice: [2.0, 3.0]}}}}"
    study = bench.open(SEARCH, part, "tune.sampler=grid", "tune.trials=null", search)
    trials = bench.search(study)
    assert sorted(states(trials)) == ["COMPLETE"] * 3 + ["FAIL"]
    (failed,) = [trial for trial in trials if trial.state.name == "FAIL"]
    assert failed.params == {"exploration.posterior": "gaussian", "exploration.noise_shape": 3.0}
    assert "noise_shape is for posterior normal_inverse_gamma" in failed.user_attrs["reason"]
    assert not study.held


def test_a_metric_that_no_run_logs_fails_with_the_names_of_those_that_there_are(bench):
    study = bench.open(SEARCH, "tune.objective=eval/retrun", "tune.trials=1")
    (trial,) = bench.search(study)
    assert trial.user_attrs["reason"] == (
        "seed 0: eval/retrun was never logged, did you mean 'eval/return'? (logged: eval/return)"
    )


def test_a_metric_that_no_run_logs_ends_the_study_at_its_first_seed(bench):
    study, launcher = bench.open(SEARCH, "tune.objective=train/loss", "tune.direction=minimize"), Pretender()
    (trial,) = bench.search(study, launcher)
    assert (trial.state.name, launcher.steps) == ("FAIL", 400)


def test_a_metric_that_some_trials_log_goes_on(bench, monkeypatch):
    """Trial 3 has not logged it, and others have: it depends on what is searched."""
    never = NeverLogged("never")
    score = Objective.score

    def scored(self, run):
        if run.folder.parent.name == "trial-0003":
            raise never
        return score(self, run)

    monkeypatch.setattr(Objective, "score", scored)
    assert states(bench.search(bench.open())) == ["COMPLETE"] * 3 + ["FAIL"] + ["COMPLETE"] * 4


def test_where_nothing_is_evaluated_early_hyperband_still_saves_seeds(bench):
    """With one worker a seed is known before the next begins."""
    text = [
        "train.total_steps=100",
        "tune.pruner=hyperband",
        "eval.every=null",
        "tune.trials=12",
        "tune.seeds_per_trial=4",
    ]
    launcher = Pretender()
    bench.search(bench.open(SEARCH, *text), launcher, together=1)
    assert launcher.steps < 12 * 4 * 100


def test_bad_trials_are_pruned_by_the_mean_of_their_seeds_and_save_their_steps(bench):
    launcher, study = Pretender(), bench.open(SEARCH, "tune.pruner=median", "tune.trials=14")
    trials = bench.search(study, launcher)
    pruned = [trial for trial in trials if trial.state.name == "PRUNED"]
    assert len(pruned) >= 2
    assert launcher.steps < 14 * 2 * 400
    best = max(trials, key=lambda trial: trial.params["agent.gamma"])
    assert best.state.name == "COMPLETE"
    for trial in trials:
        for step, value in trial.intermediate_values.items():  # seed 0 and 1 together: their steps one after the other
            assert value == pytest.approx((trial.params["agent.gamma"] + 0.0005) * (step - 400) / 400)
    long = bench.open(SEARCH, "tune.pruner=median", "tune.trials=10", "train.total_steps=800", name="long")
    early = [trial for trial in bench.search(long) if trial.state.name == "PRUNED"]
    assert early
    assert all(trial.last_step == 800 + 200 for trial in early)  # as soon as they may: not in the first quarter
    hyperband = bench.search(bench.open(SEARCH, "tune.pruner=hyperband", "tune.trials=8", name="hyperband"))
    assert "PRUNED" in states(hyperband)
    alone = bench.open(SEARCH, "tune.pruner=median", "tune.trials=1", name="alone")
    first = bench.search(alone, Pretender(), together=1)  # one worker: a seed alone counts before the mean of both
    assert {step for trial in first for step in trial.intermediate_values} == set(range(100, 801, 100))


def test_steps_to_a_threshold_are_minimised_and_never_counts_twice_the_budget(bench):
    study = bench.open(SEARCH, "tune.objective=steps_to_threshold", "tune.threshold=0.7", "tune.trials=6")
    for trial in bench.search(study):
        gamma = trial.params["agent.gamma"]
        steps = [
            next((step for step in (100, 200, 300, 400) if (gamma + 0.001 * seed) * step / 400 >= 0.7), 800)
            for seed in (0, 1)
        ]
        assert trial.value == sum(steps) / 2
    assert study.optuna.best_value == min(trial.value for trial in study.trials()) < 800


def test_the_area_under_the_curve_is_its_mean_over_the_budget(bench):
    study = bench.open(SEARCH, "tune.objective=area_under_curve", "tune.trials=1", "tune.seeds_per_trial=1")
    (trial,) = bench.search(study)
    # before the first entry it counts as that: (1/4 + (1/4 + 1/2)/2 + (1/2 + 3/4)/2 + (3/4 + 1)/2) / 4
    assert trial.value == pytest.approx(trial.params["agent.gamma"] * 0.53125)


def test_the_best_are_confirmed_on_seeds_that_no_trial_had_and_the_gain_has_its_interval(bench):
    def lucky(config):  # the first seeds flatter a small gamma
        return config.agent.gamma - (0.4 if config.seed > 1 and config.agent.gamma < 0.9 else 0) + 0.001 * config.seed

    study = bench.open(
        SEARCH, "agent.gamma=0.7", "tune.search={agent.gamma: {grid: [0.89, 0.91, 0.95]}}", "tune.sampler=grid"
    )
    bench.search(
        study,
        Pretender(worth=lambda config: lucky(config) + (0.2 if config.agent.gamma == 0.89 and config.seed < 2 else 0)),
    )
    assert fresh_seeds(study) == [2, 3, 4, 5, 6]
    chosen = candidates(study)
    assert [each.name for each in chosen] == ["trial-0000", "trial-0002", "as-it-stands"]
    groups = [group_of(study, each) for each in chosen]
    jobs = [job for group in groups for job in group.jobs()]
    Pretender(worth=lucky).run(iter([*jobs, None]).__next__, lambda event: None)
    found = [confirmed(study, each, group) for each, group in zip(chosen, groups, strict=True)]
    best = winner(study.objective, found)
    assert best.candidate.number == 2  # the trial that was best in the study was so by luck
    assert found[0].luck == pytest.approx(1.0905 - (0.49 + 0.004))
    assert found[1].luck == pytest.approx(0.9505 - 0.954)
    assert gain(best, found[2]).value == pytest.approx(0.954 - 0.304)
    summary = write_results(study, found, "finished")
    assert summary["chosen"] == 2
    assert summary["gain"]["low"] < 0.65 < summary["gain"]["high"]
    assert summary["verdict"].startswith("better than the configuration as it stands")
    header = (study.folder / "best.yaml").read_text()
    assert "eval/return: 0.954 [" in header
    assert "on 5 fresh seeds (2-6), 95 % interval" in header
    assert group_of(study, chosen[0]).jobs() == []  # a second time there is nothing to do


def test_of_equal_candidates_the_one_of_the_best_mean_is_chosen(bench):
    study = bench.open(SEARCH, "tune.objective=eval/return_iqm")
    rows = [(0, [0, 5, 5, 5, 5]), (1, [4, 5, 5, 5, 5]), (None, [9, 9, 9, 9, 9])]  # an IQM of 5, 5 and 9
    found = [
        Confirmed(
            Candidate(str(number), number, {}, study.config, 5.0),
            study.folder,
            dict(enumerate(scores)),
            0,
            study.objective.estimate(scores),
        )
        for number, scores in rows
    ]
    assert found[0].estimate.value == found[1].estimate.value == 5
    assert winner(study.objective, found).candidate.number == 1


def test_a_study_is_the_same_search_as_long_as_it_goes_on(bench):
    bench.open()
    with pytest.raises(ConfigError, match="go on with it with --resume"):
        bench.open(resume=False)
    with pytest.raises(ConfigError, match=r"tune\.search\.agent\.gamma\.uniform differ"):
        bench.open(SEARCH, "tune.search={agent.gamma: {uniform: [0.5, 0.9]}}")
    with pytest.raises(ConfigError, match=r"agent\.learning_rate"):
        bench.open(SEARCH, "agent.learning_rate=0.2")
    assert bench.open(SEARCH, "tune.trials=20", "tune.confirm.top=1").budget == 20


def test_a_trial_can_be_worth_more_than_its_lost_folder(bench):
    study = bench.open()
    bench.search(study)
    shutil.rmtree(study.folder_of(0))  # scores stand in the storage
    assert states(bench.search(bench.open())) == ["COMPLETE"] * 8
    assert worth(study.space.config({"agent.gamma": 0.5}, seed=1)) == 0.501


def test_sqlite_keeps_a_study_that_two_begin_at_once(bench, tmp_path):
    few = (GRID, "tune.trials=4", "tune.seeds_per_trial=1", "train.total_steps=100")
    url = f"sqlite:///{tmp_path}/studies.db"
    at_once(*[lambda: bench.search(bench.open(*few, url=url))] * 2)
    trials = bench.open(*few, url=url).trials()
    assert states(trials) == ["COMPLETE"] * 4
    assert {trial.user_attrs["point"] for trial in trials} == {0, 1, 2, 3}


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("mysql://me:pw12345@host/x", "unknown kind 'mysql'"),
        ("postgresql://me:pw12345@host/x", r"write postgresql\+psycopg://"),
        ("sqlite://", "expected a file"),
        ("studies.db", "a database is named sqlite:///studies.db"),
    ],
)
def test_an_address_of_another_kind_is_refused_without_its_password(tmp_path, url, told):
    with pytest.raises(ConfigError, match=told) as caught:
        open_store(url, tmp_path)
    assert "pw12345" not in str(caught.value)
