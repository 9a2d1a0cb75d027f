"""Episodic novelty by hand, and what an episode's end does to it."""

import gymnasium as gym
import numpy as np
import pytest
from streams import UNIT, bonus, spec, step, walk

C, EPS = 0.001, 0.0001


class AsItIs:
    """Stands for the whitening, so that distances can be worked out by hand."""

    def update(self, rows):
        pass

    def __call__(self, rows):
        return np.asarray(rows, np.float32)

    def state_dict(self):
        return {}


def plain(num_envs=1, **settings):
    part = bonus("episodic", spec(UNIT, num_envs=num_envs), **{"neighbors": 2, "cluster_distance": 0.0, **settings})
    part._white = AsItIs()
    return part


def moved(part, obs, next_obs, end=False):
    return float(part.bonus(step([obs], [next_obs], ends=[end]))[0])


def test_novelty_is_that_of_the_equation_by_hand():
    part = plain()
    # memory (0, 0); to (1, 0): d^2 = 1, m = 1, K = eps / (1 + eps)
    assert moved(part, (0, 0), (1, 0)) == pytest.approx(1 / (np.sqrt(EPS / (1 + EPS)) + C), rel=1e-5)
    # memory (0, 0), (1, 0); to (1, 1): d^2 = 2 and 1, m = (1 + 2 + 1) / 3 = 4 / 3
    k = EPS / (1.5 + EPS) + EPS / (0.75 + EPS)
    assert moved(part, (1, 0), (1, 1)) == pytest.approx(1 / (np.sqrt(k) + C), rel=1e-5)
    # the two nearest of (0, 0), (1, 0), (1, 1) to (1, 0): d^2 = 0 and 1, m = (4 + 1) / 5 = 1
    k = 1 + EPS / (1 + EPS)
    assert moved(part, (1, 1), (1, 0)) == pytest.approx(1 / (np.sqrt(k) + C), rel=1e-5)
    # once more to (1, 0): d^2 = 0 and 0, K = 2
    assert moved(part, (1, 0), (1, 0)) == pytest.approx(1 / (np.sqrt(2) + C), rel=1e-5)


def test_distances_within_a_cluster_count_as_none():
    part = plain(cluster_distance=0.5)
    moved(part, (0, 0), (1, 0))
    # d^2 = 0.04 and 0.64, m = (1 + 0.68) / 3 = 0.56: 0.0714 is within the cluster, 1.1429 is 0.6429 beyond it
    k = 1 + EPS / (0.64 / 0.56 - 0.5 + EPS)
    assert moved(part, (1, 0), (0.8, 0)) == pytest.approx(1 / (np.sqrt(k) + C), rel=1e-5)


@pytest.mark.parametrize("end", ["terminated", "truncated"])
def test_the_memory_is_cleared_at_the_end_of_its_own_environments_episode(end):
    part = plain(2)

    def both(obs, next_obs, ends):
        over = np.array(ends)
        made = step([obs, obs], [next_obs, next_obs])._replace(**{end: over})
        return part.bonus(made).tolist()

    first = both((0, 0), (1, 0), [False, False])
    assert first[0] == first[1]
    both((1, 0), (1, 1), [True, False])
    assert part.seen.tolist() == [0, 3]
    assert (part.state_dict()["memory"] != 0).any((1, 2)).tolist() == [False, True]
    again = both((0, 0), (1, 0), [False, False])
    assert again[0] > 20
    assert again[1] < 1.001
    part.abandon(1)
    assert part.seen.tolist() == [2, 0]
    assert both((0, 0), (1, 1), [False, False])[1] > 20


def test_the_beginning_of_an_episode_is_no_novelty_when_it_is_come_back_to():
    part = plain()
    moved(part, (0, 0), (1, 0))
    assert moved(part, (1, 0), (0, 0)) < 1


def test_no_more_is_remembered_than_there_is_room_for_and_the_oldest_give_way():
    part = plain(memory_size=3)
    for x in range(5):  # the memory holds 3, 4, 5 in the end
        moved(part, (x, 0), (x + 1, 0))
    assert part.state_dict()["memory"].shape == (1, 3, 2)
    assert sorted(part.state_dict()["memory"][0, :, 0]) == [3, 4, 5]
    assert moved(part, (5, 0), (0, 0)) > 20  # forgotten
    assert moved(part, (0, 0), (5, 0)) < 1


def test_long_episodes_have_the_novelty_of_a_plain_search():
    env = spec(num_envs=3)
    part = bonus("episodic", env, neighbors=4, memory_size=150)
    part._white = AsItIs()
    memory, distances = [[] for _ in range(3)], []
    for t, made in enumerate(walk(env, 260, end_every=170)):
        found, expected = part.bonus(made), []
        nearest = []
        for e in range(3):
            if not memory[e]:
                memory[e].append(made.obs[e])
            d2 = sorted(float(((x - made.next_obs[e]) ** 2).sum()) for x in memory[e][-150:])[:4]
            nearest.append(d2)
            distances += d2
        for e in range(3):
            k = sum(EPS / (max(d / np.mean(distances) - 0.008, 0) + EPS) for d in nearest[e])
            expected.append(1 / (np.sqrt(k) + C))
            memory[e] = [] if made.terminated[e] else [*memory[e], made.next_obs[e]]
        np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_observations_are_whitened():
    """Two numbers of very different size: seen in units of their own deviation, both are looked at."""
    rng = np.random.default_rng(0)
    env = spec(gym.spaces.Box(-np.inf, np.inf, (2,)), num_envs=50)
    rows = (rng.normal(size=(50, 2)) * [1e-3, 1e3]).astype(np.float32)
    one, other = bonus("episodic", env), bonus("episodic", env)
    for _ in range(3):
        a, b = one.bonus(step(rows, rows[::-1])), other.bonus(step(rows * [1e6, 1.0], rows[::-1] * [1e6, 1.0]))
        np.testing.assert_allclose(a, b, rtol=1e-3)
