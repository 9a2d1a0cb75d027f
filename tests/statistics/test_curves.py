"""Runs over time, by hand."""

import numpy as np
import pytest
from golden import A, tasks

from rltrain.statistics.curves import (
    align,
    area_under_curve,
    common_grid,
    median_of_censored,
    performance_profile,
    profile,
    steps_to_threshold,
)

EARLY = np.array([10, 20, 40]), np.array([0.0, 1.0, 3.0])
LATE = np.array([20, 80]), np.array([2.0, 8.0])


def test_curves_meet_on_a_grid_from_where_all_have_begun_to_where_the_last_ends():
    grid = common_grid([EARLY, LATE], points=4)
    np.testing.assert_array_equal(grid, [20, 40, 60, 80])
    np.testing.assert_allclose(
        align([EARLY, LATE], grid), [[1, 3, 3, 3], [2, 4, 6, 8]]
    )  # the first keeps its last value


def test_the_area_is_the_mean_over_the_budget():
    # 0 to 10: 0, to 20: 0.5 on average, to 40: 2, to 80: 3 -> (0 + 5 + 40 + 120) / 80
    assert area_under_curve(*EARLY, budget=80) == pytest.approx(165 / 80)
    assert area_under_curve(*EARLY, budget=20) == pytest.approx(5 / 20)  # nothing beyond the budget counts
    assert area_under_curve(*EARLY, budget=30) == pytest.approx((5 + 15) / 30)  # 2 between the entries at 20 and 40


def test_a_threshold_is_reached_at_the_first_entry_that_is_not_below_it_or_never():
    assert steps_to_threshold(*EARLY, threshold=1.0) == 20
    assert steps_to_threshold(*EARLY, threshold=1.5) == 40
    assert steps_to_threshold(*EARLY, threshold=3.1) is None


def test_never_is_later_than_any_number():
    assert median_of_censored([30, None, 10]) == 30
    assert median_of_censored([30, None, None]) is None
    assert median_of_censored([30, None]) is None  # half of them is not enough: between 30 and never lies never
    assert median_of_censored([10, 20]) == 15


def test_a_profile_counts_what_is_strictly_above():
    np.testing.assert_allclose(profile(np.array([0.0, 1.0, 2.0]), np.array([0.0, 1.0, 2.0, 3.0])), [0.75, 0.5, 0.25])
    found = profile(np.array([0, 0.25, 0.5, 0.75, 0.9, 1]), *tasks(A))
    np.testing.assert_allclose(found, [14 / 15, 14 / 15, 13 / 15, 12 / 15, 10 / 15, 0], rtol=0, atol=1e-12)


def test_a_profile_has_a_band_from_five_runs_on():
    thresholds = np.array([0.5, 1.0])
    found = performance_profile(thresholds, *tasks(A))
    assert found.low[0] < found.value[0] < found.high[0]
    assert (found.low[1], found.high[1]) == (0, 0)
    assert performance_profile(thresholds, *(task[:4] for task in tasks(A))).low is None
