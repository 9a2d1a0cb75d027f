"""Comparisons of runs made for it: what is unfair, figures, verdicts."""

import json

import numpy as np
import pytest

from rltrain.comparison.compare import ALL, compare
from rltrain.comparison.methods import names_of, open_methods
from rltrain.core import ConfigError
from rltrain.launch.evaluate import seeds_in
from rltrain.statistics.aggregates import median
from rltrain.statistics.intervals import bootstrap_interval
from rltrain.statistics.power import chance_to_miss
from rltrain.statistics.significance import holm, permutation_test, welch
from runs import make_group, make_run

GOOD = [490, 500, 480, 470, 495, 500, 485, 478]
FAIR = [300, 420, 250, 380, 310, 405, 350, 290]


def opened(tmp_path, *names):
    return open_methods([tmp_path / name for name in names])


def kinds(found):
    return {concern.kind for concern in found.concerns}


def test_figures_of_one_environment(tmp_path):
    make_group(tmp_path / "good", GOOD)
    make_group(tmp_path / "fair", FAIR)
    found = compare(opened(tmp_path, "good", "fair"))
    assert found.concerns == ()
    (table,) = found.tables
    assert (table.task, table.budget, table.threshold) == ("CartPole-v1", 100, 475.0)
    first, second = table.rows
    assert first.scores == tuple(GOOD)
    assert first.mean.value == np.mean(GOOD)
    assert first.median == np.median(GOOD)
    assert first.median_interval == bootstrap_interval(median, np.array(GOOD))
    # half the score at 50 and before, then rising to the whole: 0.5 * (0.5 + 0.75)
    assert first.area.value == pytest.approx(0.625 * np.mean(GOOD))
    assert first.steps == (100, 100, 100, None, 100, 100, 100, 100)
    assert (first.reached, first.median_steps) == (7, 100)
    assert (second.reached, second.median_steps) == (0, None)
    (pair,) = found.pairs
    x, y = [np.array(GOOD, float)], [np.array(FAIR, float)]
    assert pair.difference == pytest.approx(np.mean(GOOD) - np.mean(FAIR))
    assert (pair.welch, pair.permutation) == (welch(x, y), permutation_test(x, y))
    assert pair.winner == "good"
    assert found.verdict == (
        "good is better than fair: P = 1.00, every run above every run, p < 0.001; with these 8 seeds a difference "
        "of 149 would be missed less than 1 % of the time. Over the whole budget good is ahead (area under the curve 93.2 "
        "more, p < 0.001)."
    )
    assert pair.area_difference == pytest.approx(0.625 * pair.difference)
    (dominant, other) = found.profile
    assert dominant.shares[0] == 1
    assert other.shares[0] == 7 / 8  # strictly above the least
    assert json.loads(json.dumps(found.to_dict()))["pairs"][0]["winner"] == "good"


def test_the_order_of_the_arguments_does_not_decide(tmp_path):
    make_group(tmp_path / "good", GOOD)
    make_group(tmp_path / "fair", FAIR)
    (pair,) = compare(opened(tmp_path, "fair", "good")).pairs
    assert pair.winner == "good"
    assert pair.difference < 0
    assert pair.verdict.startswith("good is better than fair")


def test_where_nothing_can_be_said_the_verdict_says_how_many_seeds_would(tmp_path):
    make_group(tmp_path / "a", [300, 420, 250, 380, 310])
    make_group(tmp_path / "b", [350, 440, 260, 420, 330])
    found = compare(opened(tmp_path, "a", "b"))
    (pair,) = found.pairs
    assert pair.winner is None
    assert 1 - pair.improvement.value == pytest.approx(16.5 / 25)  # 3, 5, 1, 4 and a half, 3 runs of a are below b's
    assert pair.missed > 0.5
    assert pair.more_seeds > 5
    assert found.verdict.startswith("No difference between a and b can be shown (b above a: P = 0.66 [")
    assert (
        f"; with these 5 seeds a difference of 28 would be missed {100 * pair.missed:.0f} % of the time"
        in found.verdict
    )
    assert f"; {pair.more_seeds} more seeds of each would settle it." in found.verdict


def test_who_was_ahead_all_along_is_told_beside_who_is_ahead_at_the_end(tmp_path):
    for seed in range(6):
        make_run(tmp_path / "early" / f"{seed}", seed, [400 + seed, 400 + seed])
        make_run(tmp_path / "late" / f"{seed}", seed, [10 + seed, 450 + seed])
        make_run(tmp_path / "alike" / f"{seed}", seed, [10 + seed, 400 + seed])
    found = compare(opened(tmp_path, "early", "late", "alike"))
    verdicts = [pair.verdict for pair in found.pairs]
    # 0.5 * 10 + 0.5 * 230 is 120 in place of 400
    assert verdicts[0].startswith("late is better than early")
    assert verdicts[0].endswith("But over the whole budget early is ahead (area under the curve 280 more, p = 0.006).")
    assert verdicts[1].startswith("No difference between early and alike can be shown (early above alike: P = 0.50 [")
    assert verdicts[1].endswith("Over the whole budget early is ahead (area under the curve 292 more, p = 0.006).")
    assert found.verdict == "late has the highest mean, and is better than early and alike."


def test_one_seed_and_few_seeds_are_called_that(tmp_path):
    make_group(tmp_path / "one", [500])
    make_group(tmp_path / "three", [100, 110, 120])
    make_group(tmp_path / "other", [10, 20, 30, 40, 50])
    found = compare(opened(tmp_path, "one", "other"))
    assert found.verdict.startswith("Nothing can be said of one and other: one seed")
    assert found.pairs[0].welch is None
    assert found.tables[0].rows[0].mean.low is None
    assert "one has 1 seed: no interval across seeds, which takes 5" in [concern.text for concern in found.concerns]
    found = compare(opened(tmp_path, "three", "other"))
    assert found.verdict.startswith("3 to 5 seeds are too few for a verdict on three and other")
    assert found.pairs[0].winner is None  # though the permutation test alone would have it
    assert found.pairs[0].permutation < 0.05


def test_every_seed_at_the_top_is_a_tie_and_not_a_nan(tmp_path):
    make_group(tmp_path / "a", [500] * 6)
    make_group(tmp_path / "b", [500] * 6)
    found = compare(opened(tmp_path, "a", "b"))
    assert found.verdict == "a and b are the same: every run has the same score."
    (row, _) = found.tables[0].rows
    assert (row.mean.low, row.iqm.high) == (500, 500)
    assert "NaN" not in json.dumps(found.to_dict())


def test_outliers_that_decide_the_mean_make_no_winner(tmp_path):
    make_group(tmp_path / "often", [11.0] * 9 + [0] * 3)
    make_group(tmp_path / "seldom", [10.0] * 9 + [400.0] * 3)
    (pair,) = compare(opened(tmp_path, "often", "seldom")).pairs
    assert pair.difference < 0
    assert pair.improvement.value > 0.5
    assert pair.winner is None


def test_outliers_are_the_reason_where_both_tests_agree_whatever_the_numbers_of_seeds(tmp_path):
    make_group(tmp_path / "seldom", [100.0] * 6 + [-1.0] * 10)
    make_group(tmp_path / "steady", [0.0, 0.5, 1.0] * 5)
    (pair,) = compare(opened(tmp_path, "seldom", "steady")).pairs
    assert max(pair.permutation, pair.welch) < 0.05
    assert pair.winner is None
    assert "seldom has the higher mean (p = 0.017), but a run of it is not more often the better one" in pair.verdict


def test_unequal_spread_with_unequal_numbers_of_seeds_makes_no_winner(tmp_path):
    rng = np.random.default_rng(16)
    make_group(tmp_path / "few", rng.normal(100, 30, 5).round().tolist())
    make_group(tmp_path / "many", rng.normal(100, 10, 20).round().tolist())
    (pair,) = compare(opened(tmp_path, "few", "many")).pairs
    assert pair.permutation < 0.01
    assert pair.welch > 0.05
    assert pair.area_holm == pytest.approx(pair.welch)  # areas are five eighths of the scores here
    assert pair.winner is None
    assert "of seeds differ; p = 0.103 by Welch's test); with these 5 to 20 seeds a difference" in pair.verdict


def test_of_three_methods_p_values_are_corrected_together(tmp_path):
    rng = np.random.default_rng(3)
    for name, shift in (("a", 0), ("b", 10), ("c", 60)):
        make_group(tmp_path / name, (300 + shift + rng.normal(0, 20, 8)).tolist())
    found = compare(opened(tmp_path, "a", "b", "c"))
    assert [(pair.a, pair.b) for pair in found.pairs] == [("a", "b"), ("a", "c"), ("b", "c")]
    assert [pair.permutation_holm for pair in found.pairs] == holm([pair.permutation for pair in found.pairs])
    assert [pair.welch_holm for pair in found.pairs] == holm([pair.welch for pair in found.pairs])
    assert found.verdict == "c has the highest mean, and is better than a and b."
    first, second = ([np.array(row.scores)] for row in found.tables[0].rows[:2])
    assert found.pairs[0].missed == chance_to_miss(found.pairs[0].difference, first, second, alpha=0.05 / 3)


def test_runs_come_in_the_order_of_their_seeds_whatever_their_folders(tmp_path):
    for folder, seed in (("first", 12), ("second", 3), ("third", 7)):
        make_run(tmp_path / "a" / folder, seed, [float(seed)])
    (table,) = compare(opened(tmp_path, "a")).tables
    assert (table.rows[0].seeds, table.rows[0].scores) == ((3, 7, 12), (3.0, 7.0, 12.0))


def test_several_environments_are_compared_in_normalised_scores(tmp_path):
    for name, lift in (("a", 0), ("b", 20)):
        make_group(tmp_path / name / "pole", [300 + lift + 10 * k for k in range(6)])
        make_group(tmp_path / name / "car", [-200 + lift / 4 + k for k in range(6)], env={"id": "MountainCar-v0"})
    found = compare(opened(tmp_path, "a", "b"))
    assert [table.task for table in found.tables] == ["MountainCar-v0", "CartPole-v1", ALL]
    # the range is 300 to 370 on the pole and -200 to -190 on the car; the differences are 20 and 5
    assert found.pairs[0].difference == pytest.approx(-(20 / 70 + 5 / 10) / 2)
    row = found.tables[-1].rows[0]
    assert row.n == 12
    assert row.mean.value == pytest.approx((25 / 70 + 2.5 / 10) / 2)
    assert kinds(found) == set()
    assert "a normalised difference of 0.393 would be missed" in found.verdict


def test_normalised_areas_stay_between_0_and_1_however_low_curves_begin(tmp_path):
    for name, lift in (("a", 0), ("b", 1)):
        for task in ("CartPole-v1", "MountainCar-v0"):
            for seed in range(6):
                make_run(tmp_path / name / task / f"seed-{seed}", seed, [-500.0, 10.0 + lift + seed], env={"id": task})
    rows = compare(opened(tmp_path, "a", "b")).tables[-1].rows
    # areas of a are x + 0 ... x + 5 parts and those of b one part more, on a range of 6 parts; so are the scores
    assert [row.area.value for row in rows] == pytest.approx([2.5 / 6, 3.5 / 6])


def test_what_is_unfair_is_pointed_out(tmp_path):
    make_group(tmp_path / "a", GOOD)
    make_group(tmp_path / "b" / "pole", GOOD[:6], train={"total_steps": 200}, eval={"episodes": 5})
    make_run(
        tmp_path / "b" / "pole" / "late",
        20,
        [400],
        status="interrupted",
        train={"total_steps": 200},
        eval={"episodes": 5},
    )
    make_run(
        tmp_path / "b" / "mixed",
        21,
        [400],
        train={"total_steps": 200},
        eval={"episodes": 5},
        agent={"learning_rate": 1},
    )
    make_run(
        tmp_path / "b" / "mute", 22, [1], metric="rollout/return", train={"total_steps": 200}, eval={"episodes": 5}
    )
    make_group(tmp_path / "b" / "car", [-200.0] * 5, env={"id": "MountainCar-v0"})
    texts = [concern.text for concern in compare(opened(tmp_path, "a", "b")).concerns]
    assert texts == [
        "environments differ: MountainCar-v0 has runs of b only, and does not count",
        "b on CartPole-v1 is not one configuration: its runs differ in agent.learning_rate",
        "budgets differ: a 100, b 200 environment steps",
        "eval.episodes differs: a 20, b 5",
        "1 of 14 runs of b never logged eval/return and do not count (seed 22)",
        "1 of 14 runs of b have not finished (1 interrupted): their last eval/return counts",
    ]


def test_numbers_of_seeds_copies_and_time_limits_are_pointed_out(tmp_path):
    make_group(tmp_path / "a", GOOD, env={"max_episode_steps": 200})
    make_group(tmp_path / "b" / "first", GOOD[:6])
    make_group(tmp_path / "b" / "second", FAIR[:5])
    found = compare(opened(tmp_path, "a", "b"))
    assert [concern.text for concern in found.concerns] == [
        "env.max_episode_steps differs: a 200, b null",
        "numbers of seeds differ: a 8, b 6",
        "5 runs of b left out: settings and seed of another",
    ]
    assert found.tables[0].rows[1].scores == (*FAIR[:5], GOOD[5])
    make_run(tmp_path / "b" / "third" / "seed-0", 0, [1.0], status="interrupted")
    make_run(tmp_path / "b" / "third" / "seed-5", 5, [2.0])
    rows = compare(opened(tmp_path, "a", "b")).tables[0].rows
    assert rows[1].scores == (*FAIR[:5], 2.0)  # the newest that has finished


def test_a_rule_for_stopping_and_the_width_of_a_log_entry_are_part_of_the_protocol(tmp_path):
    make_group(tmp_path / "a", GOOD, train={"stop": {"return": 475}}, metric="rollout/return")
    make_group(tmp_path / "b", GOOD, train={"stop": {"return": None}, "log_every": 50}, metric="rollout/return")
    found = compare(opened(tmp_path, "a", "b"), metric="rollout/return")
    assert [concern.text for concern in found.concerns] == [
        "train.stop.return differs: a 475, b null",
        "train.log_every differs: a 10, b 50",
    ]


def test_no_environment_in_common_is_no_comparison(tmp_path):
    make_group(tmp_path / "a", GOOD)
    make_group(tmp_path / "b", GOOD, env={"kwargs": {"sutton_barto_reward": True}})
    found = compare(opened(tmp_path, "a", "b"))
    assert found.verdict == "No environment that all have in common: these methods cannot be compared."
    assert (found.pairs, found.profile) == ((), ())
    assert len(found.tables) == 2


def test_settings_that_differ_are_told_by_their_dotted_names_and_seeds_are_not(tmp_path):
    make_group(tmp_path / "a", GOOD, agent={"learning_rate": 0.01, "gamma": 0.9})
    make_group(tmp_path / "b", GOOD)
    make_run(tmp_path / "b" / "other", 9, [500], agent={"learning_rate": 0.5})
    found = {each.name: each.values for each in compare(opened(tmp_path, "a", "b")).differences}
    assert found == {"agent.learning_rate": (0.01, "several: 0.5 and 0.001"), "agent.gamma": (0.9, "not set")}


def test_runs_of_one_seed_are_not_told_to_be_seeds_and_which_environment_has_few_is_told(tmp_path):
    for number in range(4):
        make_run(tmp_path / "a" / f"{number}", 0, [500], agent={"gamma": 0.9 + number / 100})
    make_group(tmp_path / "b", GOOD)
    make_run(tmp_path / "b" / "other", 0, [500], env={"kwargs": {"size": 3}})
    found = compare(opened(tmp_path, "a", "b"))
    assert found.tables[0].rows[0].n == 4
    assert [each.text for each in found.concerns if each.kind == "seeds" and "has" in each.text] == [
        "a has 4 runs of 1 seed, too few for an interval, which takes 5",
        "b has 1 seed on CartPole-v1 (size=3): no interval across seeds, which takes 5",
    ]


def test_booleans_and_null_are_shown_as_yaml_has_them(tmp_path):
    for seed, (double, limit) in enumerate([(True, None), (False, 1_000)]):
        make_run(tmp_path / "a" / f"{seed}", seed, [500], agent={"double": double}, eval={"max_episode_steps": limit})
    make_group(tmp_path / "b", GOOD)
    found = compare(opened(tmp_path, "a", "b"))
    shown = {each.name: each.values[0] for each in found.differences}
    assert shown["agent.double"] == "several: true and false"
    assert shown["eval.max_episode_steps"] == "several: null and 1,000"
    assert any("eval.max_episode_steps differs: a null and 1,000, b not set" in each.text for each in found.concerns)
    with pytest.raises(ConfigError, match=r"differ in agent\.double \(true, false\), eval"):
        seeds_in(tmp_path / "a")


def test_another_metric_may_be_asked_for_and_one_that_was_never_logged_is_refused(tmp_path):
    make_group(tmp_path / "a", GOOD)
    make_group(tmp_path / "b", FAIR)
    runs = opened(tmp_path, "a", "b")
    assert compare(runs, metric="train/loss").tables[0].rows[0].scores == (0.5,) * 8
    assert compare(runs, metric="train/loss").tables[0].threshold is None
    assert compare(runs, threshold=200.0).tables[0].rows[0].steps == (50,) * 8
    with pytest.raises(
        ConfigError,
        match=r"eval/retrun: never logged by a, did you mean 'eval/return'\? \(logged: eval/return, train/loss\)",
    ):
        compare(runs, metric="eval/retrun")


def test_where_the_exact_return_was_logged_it_is_recommended(tmp_path):
    make_group(tmp_path / "a", GOOD)
    make_group(tmp_path / "b", FAIR)
    assert compare(opened(tmp_path, "a", "b")).notes == ()
    for log in tmp_path.rglob("metrics.jsonl"):
        log.write_text(log.read_text() + '{"step": 100, "eval/exact_return": 1.0}\n')
    (note,) = compare(opened(tmp_path, "a", "b")).notes
    assert note.endswith("--metric eval/exact_return")


def test_of_a_metric_that_is_not_to_be_raised_it_is_only_said_which_is_higher(tmp_path):
    make_group(tmp_path / "a", GOOD, metric="eval/length")
    make_group(tmp_path / "b", FAIR, metric="eval/length")
    found = compare(opened(tmp_path, "a", "b"), metric="eval/length")
    assert found.verdict.startswith("a has a higher eval/length than b: P = 1.00")
    assert "Over the whole budget a is higher" in found.verdict
    make_group(tmp_path / "c", FAIR[::-1], metric="eval/length")
    runs = opened(tmp_path, "a", "b", "c")
    of_three = compare(runs, metric="eval/length").verdict
    assert of_three == "a has the highest mean, and has a higher eval/length than b and c."
    with pytest.raises(ConfigError, match=r"--threshold .* not known to be better for eval/length: leave it out"):
        compare(runs, metric="eval/length", threshold=200.0)


def test_names_are_what_tells_the_paths_apart(tmp_path):
    assert names_of([tmp_path / "dqn" / "1", tmp_path / "ppo" / "2"]) == ["dqn", "ppo"]
    assert names_of([tmp_path / "dqn" / "1", tmp_path / "dqn" / "2", tmp_path / "ppo" / "1"]) == [
        "dqn/1",
        "dqn/2",
        "ppo/1",
    ]
    assert names_of([tmp_path / "dqn"]) == ["dqn"]
    with pytest.raises(ConfigError, match="named twice"):
        names_of([tmp_path / "dqn", tmp_path / "x" / ".." / "dqn"])


def test_a_run_that_belongs_to_two_methods_is_refused(tmp_path):
    make_group(tmp_path / "all" / "a", GOOD)
    with pytest.raises(ConfigError, match="cannot be compared with itself"):
        opened(tmp_path, "all", "all/a")
