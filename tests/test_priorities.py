"""Prioritised replay: the tree against a naive one, how often rows are drawn, and what their weights make up for."""

import gymnasium as gym
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from rltrain.core import EnvSpec, Transition
from rltrain.priorities import Priorities, PrioritySettings, importance_weights
from rltrain.replay import ReplayBuffer
from rltrain.schedules import Constant
from rltrain.sum_tree import SumTree

SPEC = EnvSpec("test", gym.spaces.Box(-1e9, 1e9, (1,), np.float32), gym.spaces.Discrete(3), 1)
NO = np.array([False])


def naive(numbers, share):
    """The first row whose running sum is greater than that share of the total."""
    left, total = share * numbers.sum(), 0.0
    for row, number in enumerate(numbers):
        total += number
        if total > left:
            return row
    return int(np.flatnonzero(numbers)[-1])


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([1, 31, 33, 1_024, 1_025, 3_000]))
def test_the_tree_is_a_naive_one_under_random_operations(seed, capacity):
    rng, tree, numbers = np.random.default_rng(seed), SumTree(capacity), np.zeros(capacity)
    for _ in range(4):
        index = rng.integers(0, capacity, rng.integers(1, 80))
        value = rng.integers(0, 5, len(index)) * 10.0 ** rng.integers(-8, 8)  # exact sums, zeros among them
        tree[index] = value
        numbers[index] = value
        assert np.array_equal(tree[:capacity], numbers)
        assert tree.total == pytest.approx(numbers.sum(), rel=1e-12)
        if numbers.any():
            shares = rng.random(20)
            found, expected = tree.find(shares), [naive(numbers, share) for share in shares]
            same = found == expected
            before = numbers.cumsum() / numbers.sum()  # another order of adding up may go the other way at an edge
            assert (same | (np.abs(before[np.minimum(found, expected)] - shares) < 1e-12)).all()


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 10**6))
def test_a_row_of_no_weight_is_never_found_not_even_at_the_edges(seed):
    rng, tree = np.random.default_rng(seed), SumTree(2_000)
    index = rng.choice(np.arange(1_500 * (seed % 2), 2_000), 40, replace=False)
    tree[index] = rng.random(40) ** 8 + 1e-12
    edges = tree[:2_000].cumsum() / tree.total
    shares = np.concatenate(([0.0, np.nextafter(1, 0)], edges, np.nextafter(edges, 0), np.nextafter(edges, 2)))
    shares = shares.clip(0, 1)  # 1 is where (B - 1 + a random number) / B is rounded up
    assert (tree[tree.find(shares)] > 0).all()


def test_of_two_numbers_for_one_row_the_last_stays():
    tree = SumTree(100)
    tree[np.array([7, 7, 3])] = np.array([1.0, 5.0, 2.0])
    assert tree.total == 7.0


def filled(error, **config):
    """Priorities of as many rows as there are errors."""
    made = Priorities(PrioritySettings(**config), 5_000)
    for row in range(len(error)):
        made.add(row)
    made.draw(1, len(error), 1.0, np.random.default_rng(0))
    made.update(np.arange(len(error)), np.asarray(error))
    return made


def test_rows_are_drawn_in_proportion_to_their_priorities():
    error = np.random.default_rng(1).exponential(size=60)
    expected = (error + 0.01) ** 0.7
    made, rng = filled(error, alpha=0.7, eps=0.01), np.random.default_rng(2)
    drawn = np.concatenate([made.draw(1, 60, 1.0, rng)[0] for _ in range(3_000)])  # alone, so independent of each other
    assert stats.chisquare(np.bincount(drawn, minlength=60), 3_000 * expected / expected.sum()).pvalue > 1e-3


def test_a_batch_has_one_row_of_each_part_of_the_sum():
    """Four rows with half, a quarter and two eighths of the sum: of eight parts they have 4, 2, 1 and 1."""
    made = filled([4.0, 2.0, 1.0, 1.0], alpha=1.0, eps=1e-12)
    for seed in range(20):
        drawn, _ = made.draw(8, 4, 1.0, np.random.default_rng(seed))
        assert drawn.tolist() == [0, 0, 0, 0, 1, 1, 2, 3]


def test_weights_by_hand():
    """P = 1/2, 1/4, 1/8 of 4 rows: M P = 2, 1, 1/2; to the power of -1/2, over the greatest, sqrt(2)."""
    weight = importance_weights(np.array([0.5, 0.25, 0.125]), 4, 0.5)
    np.testing.assert_allclose(weight, [0.5, 0.5**0.5, 1.0], rtol=1e-12)
    error = np.random.default_rng(0).exponential(size=50)
    drawn, weight = filled(error, alpha=0.5, eps=0.1).draw(30, 50, 0.3, np.random.default_rng(0))
    share = (error + 0.1) ** 0.5 / ((error + 0.1) ** 0.5).sum()
    expected = (50 * share[drawn]) ** -0.3
    np.testing.assert_allclose(weight, expected / expected.max(), rtol=1e-12)


@pytest.mark.parametrize("seed", range(5))
def test_with_beta_1_weighted_means_are_those_of_the_buffer(seed):
    rng = np.random.default_rng(seed)
    error, value = rng.exponential(size=300), rng.normal(size=300)
    error[value > 0] *= 5  # what is drawn is not like what there is
    drawn, weight = filled(error, alpha=0.8, eps=0.05).draw(40_000, 300, 1.0, rng)
    mean = (weight * value[drawn]).sum() / weight.sum()
    deviation = (weight * (value[drawn] - mean)).std() / weight.mean() / 200
    assert abs(value[drawn].mean() - value.mean()) > 20 * deviation
    assert abs(mean - value.mean()) < 4 * deviation  # smaller still, as the draws are spread


def test_alpha_0_is_uniform_replay():
    drawn, weight = filled(np.arange(100.0), alpha=0.0).draw(200, 100, 1.0, np.random.default_rng(0))
    assert np.bincount(drawn).tolist() == [2] * 100
    np.testing.assert_allclose(weight, 1.0, rtol=1e-12)


def buffer(capacity, n_step=1, **config):
    return ReplayBuffer(
        capacity, SPEC, gamma=0.9, n_step=n_step, prioritized=PrioritySettings(**config), rng=np.random.default_rng(0)
    )


def store(replay, values):
    for value in values:
        obs = np.full((1, 1), value, np.float32)
        replay.add(Transition(obs, np.array([0]), np.array([float(value)]), obs + 1, NO, NO))


@pytest.mark.parametrize("n_step", [1, 3])
def test_what_is_new_has_the_greatest_priority_that_there_ever_was(n_step):
    replay = buffer(50, n_step, alpha=1.0, eps=1e-9)
    store(replay, range(20))
    rows = len(replay)
    assert rows == 21 - n_step
    assert replay.state_dict()["priorities"]["priority"].tolist() == [1.0] * rows
    replay.update_priorities(np.arange(rows), np.linspace(0.5, -3, rows))  # the sign does not matter
    replay.update_priorities(np.array([rows - 1]), np.array([0.25]))  # 3 was the greatest
    store(replay, range(20, 60))
    priority = replay.state_dict()["priorities"]["priority"]
    assert len(priority) == 50
    assert np.count_nonzero(np.isclose(priority, 3.0)) >= 40  # the new, among them those over the oldest
    assert priority[rows - 1] == pytest.approx(0.25)


def test_a_batch_is_a_gather_of_what_was_drawn_and_its_weights():
    replay = buffer(30, alpha=1.0, beta=Constant(value=0.5), eps=1e-9)
    store(replay, range(40))  # rows 0 to 9 hold 30 to 39
    replay.sample(1)
    replay.update_priorities(np.arange(30), np.where(np.arange(30) == 4, 29.0, 1.0))  # half of the sum
    batch = replay.sample(40, beta=0.5)
    assert np.count_nonzero(batch.reward == 34) == 20
    assert batch.weight.dtype == np.float32
    assert batch.weight[batch.reward == 34] == pytest.approx(29**-0.5)
    assert (batch.weight[batch.reward != 34] == 1).all()
    assert (batch.next_obs == batch.obs + 1).all()


@pytest.mark.parametrize("rows", [15, 45])
def test_a_restored_buffer_draws_the_same(rows):
    first, second = buffer(30), buffer(30)
    store(first, range(rows))
    first.update_priorities(first.sample(20).indices, np.random.default_rng(0).normal(size=20))
    store(first, range(5))
    store(second, range(90, 300))  # forgotten
    second.update_priorities(np.arange(30), np.full(30, 100.0))
    second.load_state_dict(first.state_dict())
    for replay in (first, second):
        store(replay, range(3))
    ours, theirs = first.sample(25, beta=0.7), second.sample(25, beta=0.7)
    assert np.array_equal(ours.indices, theirs.indices)
    assert np.array_equal(ours.weight, theirs.weight)


@pytest.mark.parametrize("beta", [{"schedule": "linear", "start": 0.4, "end": 1.2, "steps": 10}, -0.1])
def test_beta_is_between_0_and_1(beta):
    with pytest.raises(ValueError, match="beta must stay between 0 and 1"):
        PrioritySettings(beta=beta)


@pytest.mark.parametrize("alpha", [-0.1, 1.1, 1_000])  # of 1,000 every priority would be 0, and nothing could be drawn
def test_alpha_is_between_0_and_1(alpha):
    with pytest.raises(ValueError, match="alpha"):
        PrioritySettings(alpha=alpha)
