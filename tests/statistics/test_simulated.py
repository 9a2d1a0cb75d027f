"""Intervals and tests on data whose truth is known; benchmarks/statistics/simulate.py does it at length."""

import sys

import pytest
from conftest import ROOT

sys.path.insert(0, str(ROOT / "benchmarks" / "statistics"))
from simulate import coverage, false_alarms


@pytest.mark.parametrize(
    ("kind", "seeds", "low", "high"), [("normal", 3, 0.92, 0.98), ("normal", 10, 0.92, 0.98), ("bimodal", 5, 0.6, 0.73)]
)
def test_the_t_interval_covers_what_it_should_and_fails_where_it_is_known_to(kind, seeds, low, high):
    found = coverage(kind, seeds, sets=500)
    assert low < found["t interval of the mean"] < high
    assert found["bootstrap of the mean"] < found["t interval of the mean"] + 0.02  # it is never the wider one


def test_the_bootstrap_of_the_iqm_is_too_narrow_with_three_seeds_and_nearly_right_with_twenty():
    few, many = (coverage("normal", seeds, sets=500)["bootstrap of the IQM"] for seeds in (3, 20))
    assert 0.65 < few < 0.84
    assert 0.88 < many < 0.98


def test_equal_methods_are_told_apart_as_seldom_as_the_tests_say():
    found = false_alarms("normal", seeds=6, triples=200)
    assert 0.02 < found["Welch"] < 0.08
    assert 0.02 < found["permutation"] < 0.08
    for name in ("Welch", "permutation"):
        assert found[f"any of 3 pairs, {name} with Holm"] < 0.09
        assert found[f"any of 3 pairs, {name} with Holm"] < found[f"any of 3 pairs, {name} without"]
