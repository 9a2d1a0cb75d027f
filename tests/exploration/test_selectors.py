"""What every selector draws, against the probabilities that it states or the distribution that is stated of it."""

import math

import numpy as np
import pytest
from pydantic import ValidationError
from scipy import stats

from rltrain.core import ActionValues
from rltrain.exploration.boltzmann import Boltzmann
from rltrain.exploration.greedy import Greedy
from rltrain.exploration.thompson import Thompson, choose_by_moments, posterior
from rltrain.exploration.ucb import Ucb, upper_bounds
from rltrain.registry import find, names, settings_class
from rltrain.schedules import Linear
from rltrain.selection import RowSelector, random_action

STEP = 5_000  # half-way down the default schedules
KNOWN = {
    name: component
    for name in names("explorations")
    if issubclass(component := find("explorations", name), RowSelector) and component.probabilities is not None
}
ROWS = [
    ([0.0, 1.0, 0.5, 0.2], [3, 1, 4, 2]),
    ([1.0, 1.0, 0.0, 1.0], [2, 2, 9, 2]),
    ([0.0, 0.0, 0.0], [5, 5, 5]),
    ([-2.0, -1.0, -1.0, -3.0, -1.5], [0, 2, 0, 3, 0]),
    ([0.0, 0.0, 1.0, 1.0, -1.0], [4, 4, 4, 4, 4]),  # ties below the best
    ([0.3, -0.1], [0, 0]),
    ([7.0], [1]),
]


def probabilities(selector, q, visits=None):
    out = np.full(len(q), np.nan)
    type(selector).probabilities(np.array(q), visits, selector.levels_at(STEP), out)
    return out


def counts(selector, q, visits=None, draws=20_000):
    """How often each action is selected."""
    repeated = None if visits is None else np.tile(visits, (draws, 1))
    chosen = selector.select(ActionValues(np.tile(q, (draws, 1)), visits=repeated), STEP, np.random.default_rng(0))
    return np.bincount(chosen, minlength=len(q))


def assert_drawn_from(expected, seen):
    """Chi-squared at p = 0.001 over the actions that can be drawn, and none of the others is."""
    possible = expected > 0
    assert seen[~possible].sum() == 0
    draws = seen.sum()
    statistic = ((seen - draws * expected)[possible] ** 2 / (draws * expected[possible])).sum()
    assert statistic <= stats.chi2.ppf(0.999, max(1, possible.sum() - 1)), (expected, seen)


def test_these_selectors_tell_their_probabilities():
    assert {*KNOWN} >= {"greedy", "epsilon_greedy", "boltzmann", "ucb"}


@pytest.mark.parametrize(("q", "visits"), ROWS)
@pytest.mark.parametrize("name", KNOWN)
def test_actions_are_drawn_from_the_probabilities_that_are_stated(name, q, visits):
    selector = KNOWN[name](settings_class("explorations", name)(name=name))
    expected = probabilities(selector, q, visits)
    assert expected.sum() == pytest.approx(1, abs=1e-12)
    assert (expected >= 0).all()
    assert_drawn_from(expected, counts(selector, q, visits))


@pytest.mark.parametrize(
    ("name", "settings", "expected"),
    [
        ("greedy", {}, [1 / 2, 0, 1 / 2, 0]),
        ("epsilon_greedy", {"epsilon": 0.4}, [0.4, 0.1, 0.4, 0.1]),  # 0.4/4 for each, 0.6/2 more for the best two
        ("epsilon_greedy", {"epsilon": 0.0}, [1 / 2, 0, 1 / 2, 0]),
        ("epsilon_greedy", {"epsilon": 1.0}, [1 / 4] * 4),
        (
            "boltzmann",
            {"temperature": 1 / math.log(2)},
            [4 / 11, 2 / 11, 4 / 11, 1 / 11],
        ),  # 2 to the power of 2, 1, 2, 0
    ],
)
def test_probabilities_worked_out_by_hand_for_2_1_2_0(name, settings, expected):
    selector = KNOWN[name](KNOWN[name].Config(**settings))
    q = [2.0, 1.0, 2.0, 0.0]
    np.testing.assert_allclose(probabilities(selector, q), expected, rtol=1e-12)
    assert_drawn_from(np.array(expected), counts(selector, q))


def test_levels_are_the_schedules_at_the_step():
    schedule = Linear(schedule="linear", start=1.0, end=0.2, steps=2 * STEP)
    q = [1.0, 0.0]
    selector = find("explorations", "epsilon_greedy")(find("explorations", "epsilon_greedy").Config(epsilon=schedule))
    np.testing.assert_allclose(probabilities(selector, q), [0.7, 0.3])  # epsilon is 0.6 half-way
    assert_drawn_from(np.array([0.7, 0.3]), counts(selector, q))
    assert selector.metrics(0) == {"exploration/epsilon": 1.0}


def test_a_random_action_is_uniform():
    rng = np.random.default_rng(0)
    assert_drawn_from(np.full(5, 0.2), np.bincount([random_action(5, rng) for _ in range(20_000)], minlength=5))


# --- Boltzmann


@pytest.mark.parametrize("temperature", [1e-8, 1e-4, 0.01, 1.0, 1e4, 1e8])
@pytest.mark.parametrize("scale", [1e-6, 1.0, 7.93, 1e3, 1e6])
def test_boltzmann_neither_overflows_nor_loses_probability(temperature, scale):
    selector = Boltzmann(Boltzmann.Config(temperature=temperature))
    for seed in range(20):
        q = np.random.default_rng(seed).uniform(-scale, scale, 6)
        q[0], q[1] = scale, -scale
        found = probabilities(selector, q)
        assert np.isfinite(found).all()
        assert abs(found.sum() - 1) <= 1e-6
        assert found.argmax() == 0
        if temperature <= 1e-3 * (scale - np.sort(q)[-2]):
            np.testing.assert_allclose(found, np.eye(6)[0], atol=1e-12)  # its limit is greedy
        if temperature >= 1e7 * scale:
            np.testing.assert_allclose(found, 1 / 6, rtol=1e-6)  # its limit is uniform


def test_a_cold_boltzmann_shares_among_the_best():
    found = probabilities(Boltzmann(Boltzmann.Config(temperature=1e-8)), [1e6, -1e6, 1e6, 1e6 - 1e-3])
    np.testing.assert_array_equal(found, [0.5, 0, 0.5, 0])


class Draw:
    """A generator that always draws the same."""

    def __init__(self, value):
        self.random = lambda: value


@pytest.mark.parametrize(("draw", "action"), [(0.0, 1), (0.4999, 1), (0.5001, 3), (1 - 2**-53, 3)])
def test_boltzmann_never_draws_an_action_of_probability_0_whatever_the_rounding(draw, action):
    q = [-1e6, 1.0, -1e6, 1.0, -1e6]
    assert Boltzmann.choose(q, (), [1e-3, 0.0], [0.0] * 5, Draw(draw)) == action


def test_what_rounding_leaves_beyond_the_last_action_goes_to_the_last_that_can_be_drawn():
    """The greatest draw there is, less the first three weights, is 0 and not below it."""
    assert Boltzmann.choose([-1.8, -1.5, 0.6, -1e6], (), [1.0, 0.0], [0.0] * 4, Draw(1 - 2**-53)) == 2


@pytest.mark.parametrize("temperature", [0, 0.0, -1.0, {"schedule": "linear", "start": 1.0, "end": 0.0, "steps": 10}])
def test_a_temperature_that_is_ever_0_is_refused(temperature):
    with pytest.raises(ValidationError, match="temperature must be above 0"):
        Boltzmann.Config(temperature=temperature)


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("epsilon_greedy", {"epsilon": 1.1}),
        ("epsilon_greedy", {"epsilon": -0.1}),
        ("ucb", {"c": -1.0}),
        ("thompson", {"prior_std": 0.0}),
        ("thompson", {"noise_std": -1.0}),
    ],
)
def test_levels_without_a_meaning_are_refused(name, settings):
    with pytest.raises(ValidationError, match=next(iter(settings))):
        find("explorations", name).Config(**settings)


# --- UCB


def test_ucb_takes_each_action_that_was_never_taken_before_any_other():
    selector = Ucb(Ucb.Config())
    q, visits = np.array([9.0, -9.0, 3.0, 0.0]), np.zeros(4, np.int64)
    rng, order = np.random.default_rng(0), []
    for _ in range(4):
        order.append(int(selector.select(ActionValues(q[None], visits=visits[None]), 0, rng)[0]))
        visits[order[-1]] += 1
    assert sorted(order) == [0, 1, 2, 3]
    assert_drawn_from(np.array([0, 1 / 2, 0, 1 / 2]), counts(selector, q, [1, 0, 5, 0]))


@pytest.mark.parametrize(
    ("c", "action"),
    [
        # n = (1, 4, 5), 10 in all: ln 10 = 2.302585; sqrt(ln 10 / n) = 1.517427, 0.758714, 0.678614
        (0.0, 2),  # bounds 0, 0.8, 1
        (0.5, 2),  # 0.758714, 1.179357, 1.339307
        (1.2, 0),  # 1.820913, 1.710456, 1.814337
        (1.0, 2),  # 1.517427, 1.558714, 1.678614
    ],
)
def test_ucb_takes_the_greatest_upper_bound(c, action):
    selector = Ucb(Ucb.Config(c=c))
    q, visits = [0.0, 0.8, 1.0], [1, 4, 5]
    np.testing.assert_array_equal(probabilities(selector, q, visits), np.eye(3)[action])
    assert counts(selector, q, visits, draws=20)[action] == 20


def test_the_bounds_of_ucb_shrink_with_the_root_of_the_visits():
    bounds = [0.0] * 3
    upper_bounds([0.0, 0.8, 1.0], [1, 4, 5], [2.0], bounds)
    assert bounds == pytest.approx([3.034854, 2.317427, 2.357228], abs=1e-6)  # 2 * the roots above


# --- Thompson


@pytest.mark.parametrize(
    ("prior_mean", "prior_std", "noise_std", "q", "n", "mean", "std"),
    [
        # precision 1/p^2 + n/w^2, mean (m/p^2 + n Q/w^2) / precision, std 1/sqrt(precision)
        (3.0, 2.0, 1.0, 9.0, 0, 3.0, 2.0),  # nothing seen: the prior, whatever stands in the table
        (0.0, 1.0, 1.0, 4.0, 3, 3.0, 0.5),  # 1 + 3 = 4; (0 + 12)/4
        (1.0, 0.5, 2.0, -3.0, 48, -2.0, 0.25),  # 4 + 12 = 16; (4 - 36)/16
        (-5.0, 1e3, 1.0, 2.0, 100, 2.0, 0.1),  # a prior that knows nothing: the average, and 1/sqrt(n)
    ],
)
def test_thompson_draws_from_the_closed_form_of_the_posterior(prior_mean, prior_std, noise_std, q, n, mean, std):
    rng, drawn = np.random.default_rng(0), np.zeros((5_000, 2))
    for row in drawn:
        action = Thompson.choose([q, q], [n, n], [prior_mean, prior_std, noise_std], row, rng)
        assert action == row.argmax()
    for column in drawn.T:  # Kolmogorov and Smirnov
        assert stats.kstest(column, "norm", args=(mean, std)).pvalue > 1e-3
    assert abs(np.corrcoef(drawn.T)[0, 1]) < 0.06  # each action is drawn by itself; 4 standard deviations


def test_thompson_takes_each_action_as_often_as_it_is_the_best():
    """3 visits each, Q = 4 and 3.2: theta ~ N(3, 1/2) and N(2.4, 1/2), so the first wins with Phi(0.6 / sqrt(1/2))."""
    selector = Thompson(Thompson.Config())
    share = stats.norm.cdf(0.6 / math.sqrt(0.5))
    assert_drawn_from(np.array([share, 1 - share]), counts(selector, [4.0, 3.2], [3, 3]))


@pytest.mark.parametrize(
    ("targets", "mean", "count", "shape", "rate"),
    [
        # prior m 1, p 2, w 4, c 3: k = (4/2)^2 = 4, b = 3 * 16 = 48
        ([], 1.0, 4.0, 3.0, 48.0),
        ([6.0], 2.0, 5.0, 3.5, 58.0),  # (4 + 6)/5; 48 + 4 * 1/5 * 25 / 2 = 58
        # mean 4, M = 4 + 0 + 4 + 4 + 4 = 16: (4 + 20)/9; 48 + 16/2 + 4 * 5/9 * 9 / 2 = 66
        ([2.0, 4.0, 6.0, 2.0, 6.0], 24 / 9, 9.0, 5.5, 66.0),
    ],
)
def test_the_normal_inverse_gamma_posterior_is_the_closed_form(targets, mean, count, shape, rate):
    """Murphy 2007: m_n = (k m + sum x)/(k + n), k_n = k + n, a_n = a + n/2, b_n = b + M/2 + k n (x - m)^2/(2 (k + n))"""
    average = np.mean(targets) if targets else 123.0  # nothing seen: whatever stands in the table
    squares = np.sum((np.array(targets) - average) ** 2)
    found = posterior(average, float(len(targets)), squares, [1.0, 2.0, 4.0, 3.0])
    assert found == pytest.approx((mean, count, shape, rate))


def test_the_posterior_after_one_target_and_then_four_is_that_after_five():
    """What is believed after the first is the prior of the rest: k = k_n, w^2 = b_n / a_n, p^2 = w^2 / k_n."""
    targets, prior = np.array([2.0, 4.0, 6.0, 2.0, 6.0]), [1.0, 2.0, 4.0, 3.0]
    mean, count, shape, rate = posterior(targets[0], 1.0, 0.0, prior)
    believed = [mean, math.sqrt(rate / shape / count), math.sqrt(rate / shape), shape]
    rest = targets[1:]
    after = posterior(rest.mean(), 4.0, rest.var() * 4, believed)
    assert after == pytest.approx(posterior(targets.mean(), 5.0, targets.var() * 5, prior))


@pytest.mark.parametrize(("n", "squares"), [(0, 0.0), (1, 0.0), (6, 20.0)])
def test_draws_by_moments_have_students_distribution(n, squares):
    """theta ~ m_n + sqrt(b_n / (a_n k_n)) t with 2 a_n degrees of freedom, each action by itself."""
    levels, rng, drawn = [0.5, 2.0, 3.0, 2.0], np.random.default_rng(0), np.zeros((5_000, 2))
    for row in drawn:
        assert choose_by_moments([4.0, 4.0], [[n, squares]] * 2, levels, row, rng) == row.argmax()
    mean, count, shape, rate = posterior(4.0, n, squares, levels)
    for column in drawn.T:
        scale = math.sqrt(rate / (shape * count))
        assert stats.kstest(column, "t", args=(2 * shape, mean, scale)).pvalue > 1e-3
    assert abs(stats.spearmanr(drawn).statistic) < 0.06


def test_a_noise_that_is_firmly_believed_gives_the_gaussian_posterior():
    levels, rng, drawn = [1.0, 0.5, 2.0, 1e9], np.random.default_rng(0), np.zeros((5_000, 2))
    for row in drawn:
        choose_by_moments([-3.0, -3.0], [[48, 700.0]] * 2, levels, row, rng)
    assert stats.kstest(drawn[:, 0], "norm", args=(-2.0, 0.25)).pvalue > 1e-3  # as above


def test_what_only_the_other_posterior_has_is_refused_and_each_says_what_it_needs():
    with pytest.raises(ValidationError, match="noise_shape is for posterior normal_inverse_gamma"):
        Thompson.Config(noise_shape=5.0)
    learns = Thompson(Thompson.Config(posterior="normal_inverse_gamma", noise_shape=5.0))
    assert (learns.needs, learns.reads) == (("moments",), "moments")
    values = ActionValues(np.array([[0.0, 50.0]]), moments=np.array([[[9.0, 1.0], [9.0, 1.0]]]))
    assert learns.select(values, 0, np.random.default_rng(0)).tolist() == [1]


def test_the_selectors_that_need_visits_say_so():
    assert Ucb.needs == ("visits",)
    assert Thompson.needs == ("visits", "samples")
    assert Boltzmann.needs == Greedy.needs == ()
