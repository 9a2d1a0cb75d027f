"""Tests, effect sizes and power, against SciPy, hand-worked numbers and published tables."""

import numpy as np
import pytest
from golden import A, B, legacy_draws, tasks
from scipy import stats

from rltrain.comparison.pairs import pairs_of
from rltrain.statistics.intervals import percentile_interval
from rltrain.statistics.power import chance_to_miss, detectable_difference, seeds_to_settle
from rltrain.statistics.significance import (
    difference,
    hedges_g,
    holm,
    improvement_estimate,
    improvement_replicates,
    permutation_test,
    probability_of_improvement,
    standard_error,
    welch,
)

RNG = np.random.default_rng(7)
X, Y = RNG.normal(1.0, 1.0, 8), RNG.normal(0.0, 2.0, 6)
SAME = np.full(10, 500.0)


def test_one_task_is_what_scipy_says():
    assert welch([X], [Y]) == pytest.approx(stats.ttest_ind(X, Y, equal_var=False).pvalue, rel=1e-12)
    assert probability_of_improvement([X], [Y]) == stats.mannwhitneyu(X, Y).statistic / 48
    exact = stats.permutation_test(
        (X, Y), lambda a, b: abs(a.mean() - b.mean()), n_resamples=np.inf, alternative="greater"
    )
    assert permutation_test([X], [Y]) == exact.pvalue


def test_the_permutation_test_by_hand_counts_ties():
    # of the 6 ways to choose two of 1, 2, 3, 4, the means differ by 2 or more in 2: {1, 2} and {3, 4}
    assert permutation_test([np.array([1.0, 2.0])], [np.array([3.0, 4.0])]) == 2 / 6
    assert permutation_test([np.array([0.1, 0.2])], [np.array([0.2, 0.1])]) == 1.0


def test_drawn_permutations_are_near_all_of_them_and_stay_within_tasks():
    exact = permutation_test([X], [Y])
    x, y = RNG.normal(0.6, 1, 15), RNG.normal(0, 1, 15)  # 155 million permutations
    found = permutation_test([x], [y])
    assert found == pytest.approx(stats.ttest_ind(x, y).pvalue, abs=0.02)
    assert permutation_test([x], [y], seed=1) != found
    # the tasks differ by 100, the methods by 1 in each: permuted across tasks, it would not be seen
    low, high = [X - X.mean() + 1, X - X.mean() + 101], [X - X.mean(), X - X.mean() + 100]
    assert permutation_test(low, high, sampled=2_000) < exact + 0.05


def test_drawn_permutations_never_give_a_p_of_nothing():
    assert permutation_test([np.arange(20.0)], [np.arange(100.0, 120.0)], sampled=999) == 1 / 1000


def test_welch_over_tasks_is_the_mean_difference_with_its_own_standard_error():
    # two copies of a task: the same difference, half the variance, twice the degrees of freedom
    t = stats.ttest_ind(X, Y, equal_var=False)
    assert welch([X, X], [Y, Y]) == pytest.approx(2 * stats.t.sf(abs(t.statistic) * 2**0.5, 2 * t.df), rel=1e-12)


def test_holm_by_hand():
    # sorted 0.01, 0.02, 0.03, 0.04: times 4, 3, 2, 1 is 0.04, 0.06, 0.06, 0.04, and none is below one before it
    assert holm([0.03, 0.01, 0.04, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([0.04]) == [0.04]
    assert holm([]) == []


def test_probability_of_improvement_of_the_reference_code():
    # first task: 1, 2, 1, 2 against 1, 2, 3 wins 4 of 12, the second alike
    x, y = np.array([[1, 2], [2, 2], [1, 1], [2, 1]]).T, np.array([[1, 1], [2, 2], [3, 3]]).T
    assert probability_of_improvement(list(x), list(y)) == pytest.approx(1 / 3, rel=1e-12)
    assert probability_of_improvement(tasks(A), tasks(B)) == pytest.approx(0.7416666666666667, rel=1e-12)
    assert probability_of_improvement(tasks(B), tasks(A)) == pytest.approx(0.25833333333333336, rel=1e-12)
    found = improvement_replicates(tasks(A), tasks(B), *legacy_draws(5, 4))
    assert percentile_interval(found) == pytest.approx((0.533333333333, 0.925), abs=1e-12)


def test_hedges_g_by_hand():
    # means 2 and 4, both variances 1, df 4: d = -2, J(4) = Gamma(2) / (sqrt(2) Gamma(1.5)) = 1 / (1.41421 * 0.886227)
    x, y = np.array([1.0, 2.0, 3.0]), np.array([3.0, 4.0, 5.0])
    assert hedges_g([x], [y]) == pytest.approx(-2 / (2**0.5 * 0.8862269254527580), rel=1e-12)
    assert hedges_g([np.tile(x, 200)], [np.tile(y, 200)]) == pytest.approx(-2 * 1.5**0.5, rel=2e-3)  # s^2 is 2/3 there


def test_without_any_spread_there_is_a_sensible_answer():
    assert welch([SAME], [SAME]) == permutation_test([SAME], [SAME]) == 1.0
    assert welch([SAME], [SAME - 1]) == 0.0
    assert permutation_test([SAME], [SAME - 1]) == pytest.approx(2 / 184_756)
    assert hedges_g([SAME], [SAME - 1]) is None
    found = improvement_estimate([SAME], [SAME])
    assert (found.value, found.low, found.high) == (0.5, 0.5, 0.5)
    assert chance_to_miss(3.0, [SAME], [SAME]) == 0.0
    assert detectable_difference([SAME], [SAME]) == 0.0
    assert seeds_to_settle(0.0, [SAME], [SAME]) is None


@pytest.mark.parametrize("value", [7.93, 0.1, -0.99])
def test_equal_scores_differ_by_nothing_whatever_their_numbers(value):
    """As rounded, the mean of 10 equal numbers is not that of 7, nor their variance 0."""
    x, y = [np.full(10, value)], [np.full(7, value)]
    assert difference(x, y) == standard_error(x, y)[0] == 0.0
    assert permutation_test(x, y) == 1.0
    (pair,) = pairs_of({"a": x, "b": y}, {"a": x, "b": y}, "eval/return")
    assert (pair.permutation, pair.area_difference, pair.area_holm, pair.winner) == (1.0, 0.0, 1.0, None)
    assert pair.verdict == "a and b are the same: every run has the same score."


def test_a_single_run_has_no_test_and_few_have_no_interval():
    assert welch([X[:1]], [Y]) is None
    assert hedges_g([X[:1]], [Y[:1]]) is None
    assert improvement_estimate([X[:4]], [Y]).low is None
    assert improvement_estimate([X[:5]], [Y]).low is not None


def standard(runs):
    """Runs with mean 0 and standard deviation 1."""
    values = np.linspace(-1, 1, runs)
    return values / values.std(ddof=1)


@pytest.mark.parametrize(("effect", "runs"), [(1.0, 17), (0.5, 64), (0.8, 26)])
def test_power_is_that_of_published_tables(effect, runs):
    # Cohen 1988, table 2.4.1: two-sided 5 %, power 80 %: 17, 64 and 26 a group
    x = standard(runs)
    assert chance_to_miss(effect, [x], [x]) == pytest.approx(0.2, abs=0.012)
    few = standard(10) / standard(10).std(ddof=1)
    assert seeds_to_settle(effect, [few], [few]) + 10 == pytest.approx(runs, abs=1)


def test_the_power_is_that_of_simulated_experiments():
    rng, x = np.random.default_rng(0), standard(6)
    drawn = [rng.normal(shift, 1, (20_000, 6)) for shift in (1.2, 0)]
    missed = np.mean(stats.ttest_ind(*drawn, axis=1, equal_var=False).pvalue > 0.05)
    assert chance_to_miss(1.2, [x], [x]) == pytest.approx(missed, abs=0.02)


def test_the_detectable_difference_is_missed_one_time_in_five_and_enough_seeds_are_enough():
    found = detectable_difference([X], [Y], alpha=0.01)
    assert chance_to_miss(found, [X], [Y], alpha=0.01) == pytest.approx(0.2, abs=1e-6)
    assert seeds_to_settle(100.0, [X], [Y]) == 0
    assert seeds_to_settle(1e-6, [X], [Y]) is None
    more = seeds_to_settle(1.0, [X], [Y])
    assert chance_to_miss(1.0, [X], [Y], more=more) <= 0.2 < chance_to_miss(1.0, [X], [Y], more=more - 1)
