"""Advantages against hand-worked numbers, closed forms and brute force; rollouts and where they bootstrap."""

import gymnasium as gym
import numpy as np
import pytest

from rltrain.nn.distributions import distribution
from rltrain.rollout import BadObservation, IntrinsicSettings, Rollout, gae

POLICY = distribution(gym.spaces.Discrete(3), log_std=0.0, by_state=False, squash=False)


def column(*numbers):
    return np.array(numbers, np.float32)[:, None]


def test_advantages_by_hand():
    """gamma 0.5, lambda 0.5. delta: 1 + 0.5*4 - 2 = 1;  2 + 0 - 4 = -2, an end;  3 + 0.5*6 - 2 = 4;  0 + 0.5*8 - 6 = -2.

    A_3 = -2;  A_2 = 4 + 0.25 * -2 = 3.5;  A_1 = -2, nothing passes the end;  A_0 = 1 + 0.25 * -2 = 0.5.
    """
    over = np.array([[False], [True], [False], [False]])
    found = gae(column(1, 2, 3, 0), column(2, 4, 2, 6), column(4, 0, 6, 8), over, 0.5, 0.5)
    assert found[:, 0].tolist() == [0.5, -2, 3.5, -2]


GOLDEN = [  # values after the last step included; no end, but for step 3 of the second
    ([0, 0, 1, 0, -0.5], [1, 4, -3, -2, -1, -1], 0.99, None, 1.0, [-1.451188, -4.455746, 2.539651, 0.5249, -0.49]),
    ([0, 0, 1, 0, -0.5], [1, 4, -3, -2, -1, -1], 0.99, None, 0.7, [-0.676979, -5.248167, 2.484608, 0.67043, -0.49]),
    ([0, 0, 0, 0, 1], [-3, -2, -1, 0, 5, -1], 0.9, 3, 1.0, [3, 2, 1, 0, -4.9]),
    ([0, 0, 0, 0, 1], [-3, -2, -1, 0, 5, -1], 0.9, 3, 0.7, [2.2899, 1.73, 1, 0, -4.9]),
]


@pytest.mark.parametrize(("reward", "value", "gamma", "end", "lam", "expected"), GOLDEN)
def test_advantages_are_those_of_rlax(reward, value, gamma, end, lam, expected):
    """Numbers of rlax's own tests of truncated_generalized_advantage_estimation."""
    value, over = column(*value), np.zeros((5, 1), bool)
    after = value[1:].copy()
    if end is not None:
        over[end], after[end] = True, 0
    np.testing.assert_allclose(gae(column(*reward), value[:-1], after, over, gamma, lam)[:, 0], expected, atol=1e-5)


def stream(seed, steps=40, envs=3):
    """Random steps with ends, and cuts whose successor has a value that no row has."""
    rng = np.random.default_rng(seed)
    reward, value, successor = rng.normal(size=(3, steps, envs)).astype(np.float32)
    terminated, truncated = rng.random((2, steps, envs)) < 0.12
    over = terminated | truncated
    after = np.concatenate((value[1:], successor[-1:]))
    after = np.where(over, successor, after)
    after[terminated] = 0
    return reward, value, after.astype(np.float32), over


def brute_force(reward, value, after, over, gamma, lam):
    """The definition: the sum of (gamma lambda)^k delta_(t+k) to the episode's end, for each t and environment."""
    result = np.zeros(reward.shape)
    for n in range(reward.shape[1]):
        for t in range(len(reward)):
            for k in range(len(reward) - t):
                at = t + k, n
                delta = float(reward[at]) + gamma * float(after[at]) - float(value[at])
                result[t, n] += (gamma * lam) ** k * delta
                if over[at]:
                    break
    return result


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize(("gamma", "lam"), [(0.99, 0.95), (0.9, 0.5), (1.0, 1.0)])
def test_advantages_are_the_definitions_sums(seed, gamma, lam):
    data = stream(seed)
    np.testing.assert_allclose(gae(*data, gamma, lam), brute_force(*data, gamma, lam), atol=1e-5)


@pytest.mark.parametrize("seed", range(5))
def test_lambda_0_is_the_td_error_and_lambda_1_the_return_minus_the_value(seed):
    reward, value, after, over = stream(seed)
    np.testing.assert_allclose(gae(reward, value, after, over, 0.9, 0.0), reward + 0.9 * after - value, atol=1e-6)
    returns, total = np.zeros(reward.shape), after[-1].astype(float)
    for t in range(len(reward) - 1, -1, -1):
        total = reward[t] + 0.9 * np.where(over[t], after[t], total)
        returns[t] = total
    np.testing.assert_allclose(gae(reward, value, after, over, 0.9, 1.0), returns - value, atol=1e-5)


def test_advantages_change_none_of_what_they_are_made_of():
    data = stream(0)
    before = [part.copy() for part in data]
    gae(*data, 0.9, 0.9)
    assert all(np.array_equal(one, other) for one, other in zip(data, before, strict=True))


class Line:
    """N environments that count up from 10 n; observation s, value of s: s itself."""

    def __init__(self, steps, envs=1):
        self.rollout = Rollout(steps, envs, (1,), POLICY)
        self.obs = 10.0 * np.arange(envs, dtype=np.float32)[:, None]

    def step(self, terminated=(), truncated=(), bonus=0.0):
        envs = len(self.obs)
        ends = [np.isin(np.arange(envs), part) for part in (terminated, truncated)]
        after = self.obs + 1
        self.rollout.add(self.obs, np.zeros((envs, 1), np.int64), np.ones(envs), after, *ends, bonus)
        self.obs = np.where((ends[0] | ends[1])[:, None], np.float32(100), after)  # episodes begin at 100

    def next_values(self):
        return self.rollout.next_values(self.rollout.everything_seen()[:, 0])


def test_the_value_after_a_step_is_that_of_its_true_successor():
    line = Line(4, 2)  # environment 0 is cut after its second step, 1 ends after its first
    line.step(terminated=[1])
    line.step(truncated=[0])
    line.step()
    line.step()
    # 0: 0 -> 1 -> 2 | 100 -> 101 -> 102;  1: 10 -> end | 100 -> 101 -> 102 -> 103
    assert line.rollout.obs[:, :, 0].tolist() == [[0, 10], [1, 100], [100, 101], [101, 102]]
    assert line.next_values().tolist() == [[1, 0], [2, 101], [101, 102], [102, 103]]
    assert line.rollout.over.tolist() == [[False, True], [True, False], [False, False], [False, False]]


def test_the_last_step_bootstraps_from_the_true_successor_too():
    line = Line(2, 4)  # goes on, ends, is cut, both
    line.step()
    line.step(terminated=[1, 3], truncated=[2, 3])
    assert line.next_values().tolist() == [[1, 11, 21, 31], [2, 0, 22, 0]]


def test_an_end_wins_over_a_cut_at_the_same_step():
    line = Line(3)
    line.step()
    line.step(terminated=[0], truncated=[0])
    line.step()
    assert line.next_values()[:, 0].tolist() == [1, 0, 101]
    assert len(line.rollout.everything_seen()) == 3 + 1  # rows and the last observation, nothing cut
    advantage = gae(line.rollout.reward, np.zeros((3, 1), np.float32), line.next_values(), line.rollout.over, 0.5, 1.0)
    assert advantage[1] == 1  # r exactly


def test_n_step_returns_bootstrap_from_the_value_after_the_last_step():
    """Rewards of 1, gamma 0.5: G_2 = 1 + 0.5 * 3 = 2.5, G_1 = 1 + 0.5 * 2.5 = 2.25, G_0 = 1 + 0.5 * 2.25 = 2.125."""
    line = Line(3)
    for _ in range(3):
        line.step()
    rollout, value = line.rollout, line.rollout.obs[:, :, 0]
    returns = gae(rollout.reward, value, line.next_values(), rollout.over, 0.5, 1.0) + value
    assert returns[:, 0].tolist() == [2.125, 2.25, 2.5]


def test_what_is_seen_next_goes_on_across_the_ends_of_episodes():
    """0 -> 1 | 100 -> 101 | 100 -> 101: an end, a cut, and another end where the next episode is not known yet."""
    line = Line(3)
    line.step(terminated=[0])
    line.step(truncated=[0])
    line.step(terminated=[0])
    values = line.rollout.everything_seen()[:, 0]
    assert line.rollout.next_values(values, episodic=False)[:, 0].tolist() == [100, 100, 101]
    assert line.rollout.next_values(values)[:, 0].tolist() == [0, 101, 0]


@pytest.mark.parametrize("episodic", [False, True])
def test_advantages_of_bonuses_go_on_across_episodes_with_a_discount_of_their_own(episodic):
    """Observations 0, then the end, 100, 101; value s of rewards and s / 2 of bonuses; rewards 1, bonuses 1, 2, 0.5.

    Rewards, gamma 1, lambda 0.25: delta = 1 + 0 - 0, an end; 1 + 101 - 100 = 2; 1 + 102 - 101 = 2.
        A_2 = 2, A_1 = 2 + 0.25 * 2 = 2.5, A_0 = 1.
    Bonuses, gamma 0.5: delta = 1 + 0.5 * 50 - 0 = 26; 2 + 0.5 * 50.5 - 50 = -22.75; 0.5 + 0.5 * 51 - 50.5 = -24.5.
        A_2 = -24.5, A_1 = -22.75 + 0.125 * -24.5 = -25.8125, A_0 = 26 + 0.125 * -25.8125; episodic A_0 = 1.
    """
    line = Line(3)
    line.step(terminated=[0], bonus=1.0)
    line.step(bonus=2.0)
    line.step(bonus=0.5)
    seen = line.rollout.everything_seen()
    own = IntrinsicSettings(gamma=0.5, episodic=episodic)
    found = line.rollout.advantages(np.concatenate((seen, seen / 2), 1), 1.0, 0.25, own)
    first = 1 if episodic else 26 + 0.125 * -25.8125
    np.testing.assert_allclose(found, [[1, first], [2.5, -25.8125], [2, -24.5]])
    assert np.array_equal(line.rollout.advantages(seen, 1.0, 0.25, None), found[:, :1])


def test_an_abandoned_episode_counts_as_cut_short_at_its_last_step():
    line = Line(3, 2)
    line.step()
    line.rollout.abandon(0)
    line.obs = np.array([[50], [11]], np.float32)  # where environment 0 begins anew
    line.step()
    line.step()
    assert line.rollout.over[:, 0].tolist() == [True, False, False]
    assert not line.rollout.over[:, 1].any()
    assert line.next_values().tolist() == [[1, 11], [51, 12], [52, 13]]


def test_abandoning_changes_nothing_where_no_step_or_an_ended_episode_is_the_last():
    line = Line(2)
    line.rollout.abandon(0)
    assert not line.rollout.over.any()
    line.step(terminated=[0])
    line.rollout.abandon(0)
    line.step(truncated=[0])
    line.rollout.abandon(0)
    assert len(line.rollout.everything_seen()) == 2 + 1 + 1  # one cut, once
    assert line.next_values()[:, 0].tolist() == [0, 101]


def test_nothing_of_a_rollout_is_left_in_the_next():
    line = Line(2)
    line.step(truncated=[0])
    line.step(terminated=[0])
    assert line.rollout.full
    line.rollout.clear()
    assert not line.rollout.full
    line.obs = np.full((1, 1), 50, np.float32)
    line.step()
    line.step()
    assert line.next_values()[:, 0].tolist() == [51, 52]
    assert not line.rollout.over.any()


def test_the_rollout_keeps_copies():
    rollout = Rollout(1, 1, (1,), POLICY)
    obs, after = np.array([[1.0]], np.float32), np.array([[2.0]], np.float32)
    rollout.add(obs, np.zeros((1, 1), np.int64), np.ones(1), after, np.array([False]), np.array([True]))
    obs[:], after[:] = 7, 7
    assert rollout.everything_seen()[:, 0].tolist() == [1, 2, 2]


@pytest.mark.parametrize("steps", [0, 1, 3])
def test_state_round_trips_in_the_middle(steps):
    first, second = Line(5, 2), Line(5, 2)
    for t in range(steps):
        first.step(truncated=[t % 2], bonus=float(t))
    second.step(terminated=[0, 1])  # forgotten by loading
    second.rollout.clear()
    second.rollout.load_state_dict(first.rollout.state_dict())
    second.obs = first.obs.copy()
    for line in (first, second):
        line.rollout.abandon(1)  # which asks for the observation after the latest step
        while not line.rollout.full:
            line.step()
    assert np.array_equal(first.rollout.everything_seen(), second.rollout.everything_seen())
    assert np.array_equal(first.next_values(), second.next_values())
    for name in ("obs", "choice", "reward", "bonus", "terminated", "over"):
        assert np.array_equal(getattr(first.rollout, name), getattr(second.rollout, name)), name


def test_a_saved_state_does_not_change_with_the_rollout():
    line = Line(4)
    line.step(truncated=[0])
    state = line.rollout.state_dict()
    before = {name: np.array(state[name]) for name in ("obs", "reward", "over", "last")}
    line.step()
    line.rollout.clear()
    line.step(terminated=[0])
    assert all(np.array_equal(state[name], before[name]) for name in before)
    assert state["steps"] == len(state["cut"]) == 1


@pytest.mark.parametrize("where", ["row", "last", "cut"])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_an_observation_that_is_not_finite_is_named(where, bad):
    line = Line(2)
    if where == "row":
        line.obs[:] = bad
    line.step(truncated=[0])
    if where == "cut":
        line.rollout._cut[0][2][:] = bad
    line.step()
    if where == "last":
        line.rollout._last[:] = bad
    with pytest.raises(BadObservation, match="not finite"):
        line.rollout.everything_seen()
