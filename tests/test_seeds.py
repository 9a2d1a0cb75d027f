"""The setting `seeds`, and what figures over seeds come to."""

import pytest

from rltrain.config.load import parse
from rltrain.config.seeds import seeds_text
from rltrain.core import ConfigError
from rltrain.launch.aggregate import across, too_few

TINY = """
env: {id: FrozenLake-v1}
agent: {name: q_learning}
exploration: {name: epsilon_greedy}
train: {total_steps: 1_500}
"""


@pytest.mark.parametrize(
    ("written", "seeds"),
    [
        ("3", [7, 8, 9]),
        ("0-2", [0, 1, 2]),
        ("0-1, 5", [0, 1, 5]),
        ("[4, 2]", [4, 2]),
        ('"6"', [6]),
        ("1", None),
        ("null", None),
    ],
)
def test_seeds_are_a_number_a_list_or_a_text(written, seeds):
    config = parse(TINY + f"seed: 7\nseeds: {written}\n", source="x.yaml").config
    assert config.group == seeds
    if seeds is not None:
        single = config.single(seeds[0])
        assert (single.seed, single.group) == (seeds[0], None)


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ("0", "seeds: expected a number of seeds from 1 to 10,000, got 0"),
        ("-3", "seeds: expected a number of seeds from 1 to 10,000, got -3"),
        ("[]", "seeds: expected at least one seed, got an empty list"),
        ("[1, 2, 1]", "seeds: seed 1 twice: equal seeds are the same run"),
        ("0-4,3", "seeds: seed 3 twice: equal seeds are the same run"),
        ("[-1]", "seeds: a seed is a whole number from 0 to 2**63 - 1, got -1"),
        ("9-0", "seeds: '9-0' ends before it begins: write 0-9"),
        ("ten", "seeds: expected seeds such as 0-9 or 0-4,7, got 'ten'"),
        ("0-99999999", "seeds: '0-99999999' is more than 10,000 seeds, or they are too large"),
        ("true", "seeds: expected a whole number or text or null, got true"),
    ],
)
def test_seeds_that_mean_nothing_are_refused_with_their_line(written, message):
    with pytest.raises(ConfigError) as refused:
        parse(TINY + f"seeds: {written}\n", source="x.yaml")
    assert refused.value.messages == (f"x.yaml:6: {message}",)


def test_seeds_that_count_beyond_the_greatest_are_refused():
    """The greatest seed is 2**63 - 1, so two fit from 2**63 - 2 on."""
    start = f"seed: {2**63 - 2}\n"
    assert parse(TINY + start + "seeds: 2\n", source="x.yaml").config.group == [2**63 - 2, 2**63 - 1]
    with pytest.raises(
        ConfigError, match=r"seeds: 3 seeds from \d+ on go beyond 2\*\*63 - 1, the greatest: lower seed"
    ):
        parse(TINY + start + "seeds: 3\n", source="x.yaml")


def test_seeds_are_written_as_short_as_they_can_be():
    assert seeds_text([3]) == "3"
    assert seeds_text([9, 0, 1, 2, 5, 6]) == "0-2,5-6,9"


def test_figures_over_seeds_have_the_intervals_of_the_textbook():
    found = across("success_rate", [{"success_rate": value} for value in (1.0, 1.0, 0.0, 1.0, 1.0)])
    # sd = sqrt(0.8 / 4) = 0.4472, t(4) = 2.7764: 0.8 -+ 2.7764 * 0.4472 / sqrt(5) = 0.8 -+ 0.5553, and no rate is above 1
    assert found["mean"] == pytest.approx(0.8)
    assert found["mean_ci95"] == [pytest.approx(0.2447, abs=1e-4), 1.0]
    assert found["iqm"] == 1.0  # of five, one is cut at either end
    beyond = across("return_mean", [{"return_mean": value} for value in (1.0, 1.0, 0.0, 1.0, 1.0)])
    assert beyond["mean_ci95"][1] == pytest.approx(1.3553, abs=1e-4)  # a return may be anything


def test_fewer_than_five_seeds_have_no_interval_and_a_figure_that_one_lacks_is_none():
    rows = [{"a": float(value), "b": None if value == 2 else 1.0} for value in range(4)]
    found = across("a", rows)
    assert (found["n"], found["mean"], found["mean_ci95"], found["iqm_ci95"]) == (4, 1.5, None, None)
    assert across("b", rows) is None
    assert across("a", []) is None
    assert [too_few(n) for n in (1, 4, 5)] == [
        "1 seed: no interval across seeds", "4 seeds: too few for an interval, which needs 5", None,
    ]  # fmt: skip


def test_seeds_that_are_all_equal_have_an_interval_of_no_width():
    found = across("a", [{"a": 500.0}] * 10)
    assert (found["mean_ci95"], found["iqm_ci95"]) == ([500.0, 500.0], [500.0, 500.0])
