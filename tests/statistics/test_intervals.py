"""Figures over runs and their intervals, against numbers worked out by hand and by the field's reference code."""

import numpy as np
import pytest
from golden import A, B, legacy_draws, tasks
from scipy.stats import t, trim_mean

from rltrain.statistics.aggregates import interquartile_mean, mean, median
from rltrain.statistics.curves import mean_band
from rltrain.statistics.intervals import (
    bootstrap_estimate,
    bootstrap_interval,
    draw,
    iqm_estimate,
    mean_estimate,
    t_interval,
)

EXACT = {"rel": 0, "abs": 1e-12}


@pytest.mark.parametrize(("runs", "kept"), [(3, 3), (4, 2), (5, 3), (8, 4), (10, 6)])
def test_the_interquartile_mean_cuts_a_quarter_rounded_down_at_either_end(runs, kept):
    values = np.random.default_rng(runs).permutation(np.arange(runs) ** 2.0)
    cut = (runs - kept) // 2
    assert interquartile_mean(values) == pytest.approx(np.mean(np.arange(cut, cut + kept) ** 2.0), **EXACT)
    assert interquartile_mean(values) == pytest.approx(trim_mean(values, 0.25), **EXACT)


def test_every_task_weighs_the_same_in_the_mean_and_the_median_of_several_is_of_their_means():
    first, second, third = np.array([0.0, 1.0]), np.array([1.0, 1.0, 1.0, 1.0]), np.array([0.0, 0.0, 0.6])
    assert mean(first, second) == 0.75  # not 5/6, as all runs together would have
    assert median(first, second, third) == 0.5  # of 0.5, 1 and 0.2
    assert median(third) == 0.0  # of the runs where there is one task


def test_figures_of_the_reference_code():
    assert float(interquartile_mean(*tasks(A))) == pytest.approx(0.9323509043927649, **EXACT)
    assert float(interquartile_mean(*tasks(B))) == pytest.approx(0.8874263565891473, **EXACT)
    assert float(mean(*tasks(A))) == pytest.approx(0.8335038759689923, **EXACT)
    assert float(median(*tasks(A))) == pytest.approx(0.8795999999999999, **EXACT)


@pytest.mark.parametrize(
    ("statistic", "low", "high"),
    [
        (interquartile_mean, 0.806814728682, 0.965460671835),
        (mean, 0.704800705426, 0.94076496124),
        (median, 0.6684, 0.964),
    ],
)
def test_intervals_of_the_reference_code_with_its_draws(statistic, low, high):
    (draws,) = legacy_draws(5)
    found = bootstrap_interval(statistic, *tasks(A), draws=draws)
    assert found == pytest.approx((low, high), rel=0, abs=1e-12)  # its digits end there


def test_the_t_interval_by_hand():
    # mean 3, s^2 = 2.5, s/sqrt(5) = 0.70711, t(4) at 97.5 % = 2.776445
    assert t_interval(np.arange(1.0, 6.0)) == pytest.approx(
        (3 - 2.776445 * 0.707107, 3 + 2.776445 * 0.707107), abs=1e-5
    )
    wide, narrow = (t_interval(np.arange(1.0, 6.0), confidence) for confidence in (0.99, 0.5))
    assert wide[1] - 3 == pytest.approx(t.ppf(0.995, 4) * 0.5**0.5)
    assert narrow[1] - 3 == pytest.approx(t.ppf(0.75, 4) * 0.5**0.5)


def test_equal_seeds_give_equal_digits_and_others_nearly_equal_ones():
    values = np.random.default_rng(0).normal(size=12)
    first, again, other = (bootstrap_interval(interquartile_mean, values, seed=seed) for seed in (0, 0, 1))
    assert first == again
    assert first != other
    assert first == pytest.approx(other, abs=0.02)


def test_every_run_is_drawn_as_often_as_any_other():
    (found, _) = draw(np.random.default_rng(0), [np.zeros(5), np.zeros(3)], 20_000)
    assert found.shape == (20_000, 5)
    np.testing.assert_allclose(np.bincount(found.ravel()) / found.size, 0.2, atol=0.01)


def test_runs_are_drawn_within_their_tasks():
    # all that varies is between tasks: drawn across them, the mean would vary
    assert bootstrap_interval(mean, np.zeros(5), np.ones(5), np.array([0.5, 0.5, 0.5, 0.5, 0.5])) == (0.5, 0.5)


@pytest.mark.parametrize("value", [500.0, 0.1])
def test_runs_that_are_all_equal_give_that_value_and_no_rounding(value):
    runs = np.full(10, value)
    assert mean_estimate(runs).low == mean_estimate(runs).high == value
    found = iqm_estimate(runs)
    assert found.low == found.high == found.value == pytest.approx(value)


def test_four_runs_are_too_few_for_an_interval_and_five_are_not():
    assert mean_estimate(np.arange(4.0)).low is None
    assert mean_estimate(np.arange(5.0)).low is not None
    assert iqm_estimate(np.arange(4.0)) == bootstrap_estimate(interquartile_mean, np.arange(4.0))
    assert iqm_estimate(np.arange(4.0)).value == 1.5
    assert iqm_estimate(np.arange(4.0)).low is None
    assert iqm_estimate(np.arange(9.0), np.arange(4.0)).low is None  # the smallest task decides
    assert t_interval(np.array([1.0])) is None
    assert bootstrap_interval(mean, np.array([1.0])) is None


def test_an_interval_of_a_rate_of_success_ends_where_a_rate_does():
    rates = np.array([1.0, 1.0, 1.0, 1.0, 0.8])  # Student's interval: 0.96 +- 0.111
    assert mean_estimate(rates).high == pytest.approx(1.0711, abs=1e-4)
    found = mean_estimate(rates).within("eval/success_rate")
    assert (found.value, found.high) == (pytest.approx(0.96), 1.0)
    assert found.low == mean_estimate(rates).low == pytest.approx(0.8489, abs=1e-4)
    assert mean_estimate(rates).within("eval/return") == mean_estimate(rates)
    assert mean_estimate(1 - rates).within("eval_success_rate").low == 0.0
    assert mean_estimate(rates[:4]).within("eval/success_rate").low is None  # too few runs
    band = mean_band(np.stack([rates, 1 - rates], 1), np.array([10, 20]), "rollout/success_rate")
    np.testing.assert_allclose([band.low, band.high], [[0.8489, 0.0], [1.0, 0.1511]], atol=1e-4)
