"""Selectors that remember: actions held for a while, and the head of an ensemble that is followed for an episode."""

import numpy as np
import pytest

from rltrain.core import ActionValues
from rltrain.exploration.boltzmann import Boltzmann
from rltrain.exploration.epsilon_z_greedy import EpsilonZGreedy
from rltrain.exploration.max_boltzmann import MaxBoltzmann
from rltrain.exploration.thompson import Thompson


def held(steps, envs=1, seed=0, **settings):
    selector = EpsilonZGreedy(EpsilonZGreedy.Config(**settings))
    rng = np.random.default_rng(seed)
    q = np.tile([0.0, 0.0, 1.0, 0.0], (envs, 1))
    return selector, np.array([selector.select(ActionValues(q), step, rng) for step in range(steps)])


def test_without_epsilon_the_best_action_is_taken():
    assert (held(100, epsilon=0.0)[1] == 2).all()


def test_durations_follow_the_zeta_distribution():
    """With epsilon 1 and two actions of equal chance a run of equal actions is a sum of durations; with many actions
    it nearly is one: p(1) = 1/zeta(2) = 0.608, p(2) = 0.152."""
    selector = EpsilonZGreedy(EpsilonZGreedy.Config(epsilon=1.0))
    rng, q = np.random.default_rng(0), ActionValues(np.zeros((1, 1_000)))
    actions = np.array([selector.select(q, 0, rng)[0] for _ in range(60_000)])
    ends = np.flatnonzero(np.append(actions[1:] != actions[:-1], True))
    lengths = np.diff(ends, prepend=-1)
    assert np.mean(lengths == 1) == pytest.approx(0.608, abs=0.015)
    assert np.mean(lengths == 2) == pytest.approx(0.152, abs=0.015)


def test_no_action_is_held_for_longer_than_allowed():
    selector = EpsilonZGreedy(EpsilonZGreedy.Config(epsilon=1.0, max_duration=3))
    rng, q = np.random.default_rng(0), ActionValues(np.zeros((1, 10_000)))  # so many that none is drawn twice in a row
    actions = np.array([selector.select(q, 0, rng)[0] for _ in range(5_000)])
    ends = np.flatnonzero(np.append(actions[1:] != actions[:-1], True))
    assert np.diff(ends, prepend=-1).max() == 3


def test_every_environment_holds_its_own_action_and_a_saved_one_goes_on():
    whole, expected = held(400, envs=5, epsilon=0.5)
    assert any(len(set(row)) > 1 for row in expected)
    first, rng = EpsilonZGreedy(EpsilonZGreedy.Config(epsilon=0.5)), np.random.default_rng(0)
    q = ActionValues(np.tile([0.0, 0.0, 1.0, 0.0], (5, 1)))
    for step in range(200):
        first.select(q, step, rng)
    second = EpsilonZGreedy(EpsilonZGreedy.Config(epsilon=0.5))
    second.load_state_dict(first.state_dict())
    rest = np.array([second.select(q, step, rng) for step in range(200, 400)])
    np.testing.assert_array_equal(rest, expected[200:])


def heads(seed=0, envs=3, count=4):
    """Heads that each prefer an action of their own."""
    samples = np.zeros((count, envs, count))
    samples[np.arange(count), :, np.arange(count)] = 1.0
    return samples


def test_one_head_is_followed_until_an_episode_begins_and_all_come_up():
    selector, rng, samples = Thompson(Thompson.Config()), np.random.default_rng(0), heads()
    seen, last = [], None
    for episode in range(200):
        for step in range(5):
            first = np.full(3, step == 0)
            action = selector.select(ActionValues(samples.mean(0), samples=samples, first=first), 0, rng)
            if step:
                np.testing.assert_array_equal(action, last)
            last = action
        seen.append(last)
    frequencies = np.bincount(np.concatenate(seen), minlength=4) / 600
    np.testing.assert_allclose(frequencies, 0.25, atol=0.06)


def test_only_the_environment_whose_episode_begins_changes_its_head():
    selector, rng, samples = Thompson(Thompson.Config()), np.random.default_rng(1), heads(count=50)
    before = selector.select(ActionValues(samples.mean(0), samples=samples, first=np.ones(3, bool)), 0, rng)
    first = np.array([False, True, False])
    after = selector.select(ActionValues(samples.mean(0), samples=samples, first=first), 0, rng)
    assert (after == before).tolist() == [True, False, True]
    other = Thompson(Thompson.Config())
    other.load_state_dict(selector.state_dict())
    again = other.select(ActionValues(samples.mean(0), samples=samples, first=np.zeros(3, bool)), 0, rng)
    np.testing.assert_array_equal(again, after)


def probabilities(selector, q):
    out = np.zeros(len(q))
    type(selector).probabilities(np.array(q), None, selector.levels_at(0), out)
    return out


def test_max_boltzmann_mixes_the_best_with_boltzmanns_draw():
    """Q 0 and ln 3 at temperature 1: Boltzmann 1/4 and 3/4; with epsilon 0.4: 0.1 and 0.9."""
    selector = MaxBoltzmann(MaxBoltzmann.Config(epsilon=0.4, temperature=1.0))
    np.testing.assert_allclose(probabilities(selector, [0.0, np.log(3.0)]), [0.1, 0.9])
    drawn = selector.select(ActionValues(np.tile([0.0, np.log(3.0)], (20_000, 1))), 0, np.random.default_rng(0))
    assert np.mean(drawn) == pytest.approx(0.9, abs=0.01)
    assert set(selector.metrics(0)) == {"exploration/temperature", "exploration/epsilon"}


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_a_normalised_temperature_serves_values_of_any_scale(scale):
    """In units of the range, Q 0 and x are 1 apart: 1 / (1 + e) and e / (1 + e) at temperature 1."""
    selector = Boltzmann(Boltzmann.Config(temperature=1.0, normalize=True))
    np.testing.assert_allclose(probabilities(selector, [0.0, scale]), [1 / (1 + np.e), np.e / (1 + np.e)])
    np.testing.assert_allclose(probabilities(selector, [scale, scale]), [0.5, 0.5])


@pytest.mark.parametrize("width", [5e-324, 1e-323, 1e-300])
def test_a_range_that_is_nearly_none_is_no_division_by_zero(width):
    """1e-4 of the least number above 0 is 0; such a range is none, and the temperature is in units of Q."""
    selector = Boltzmann(Boltzmann.Config(temperature=1e-4, normalize=True))
    expected = [0.5, 0.5] if width < 1e-320 else [0.0, 1.0]
    np.testing.assert_allclose(probabilities(selector, [0.0, width]), expected, atol=1e-12)
