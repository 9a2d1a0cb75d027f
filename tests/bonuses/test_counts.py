"""Counts against a dictionary, and observations that are counted together."""

import gymnasium as gym
import numpy as np
import pytest
from streams import REAL, UNIT, bonus, spec, step, walk

from rltrain.hashing import HashSettings


def by_dictionary(steps, key):
    """1 / sqrt(n) of everything with an equal key, one environment after the other."""
    counts, found = {}, []
    for transition in steps:
        row = []
        for env in range(len(transition.reward)):
            k = key(transition, env)
            counts[k] = counts.get(k, 0) + 1
            row.append(counts[k] ** -0.5)
        found.append(row)
    return np.array(found), counts


STATES = gym.spaces.Discrete(5, start=3)
MOVES = gym.spaces.Discrete(3, start=-1)
KEYS = {
    "state": lambda t, env: int(t.next_obs[env]),
    "state_action": lambda t, env: (int(t.obs[env]), int(t.action[env])),
}


def counted(part):
    """Visits by hash, as a checkpoint holds them."""
    state = part.state_dict()
    return {tuple(key): visits for key, (visits,) in zip(state["keys"].tolist(), state["visits"].tolist(), strict=True)}


@pytest.mark.parametrize("over", KEYS)
@pytest.mark.parametrize(
    ("name", "settings"), [("count", {}), ("hashed_count", {"hash": "bins"}), ("hashed_count", {})]
)
def test_discrete_observations_are_counted_as_by_a_dictionary(name, settings, over):
    env = spec(STATES, MOVES, 4)
    steps = list(walk(env, 200))
    expected, _ = by_dictionary(steps, KEYS[over])
    part = bonus(name, env, over=over, **settings)
    np.testing.assert_allclose([part.bonus(t) for t in steps], expected, rtol=1e-6)


@pytest.mark.parametrize("over", ["state", "state_action"])
def test_bins_are_those_of_equal_parts_of_the_range_and_open_at_the_ends(over):
    env = spec(REAL, MOVES, 3)
    part = bonus("hashed_count", env, hash="bins", bins=4, low=[-1.0] * 4, high=[1.0, 1.0, 1.0, 3.0], over=over)

    def cell(obs):
        edges = [np.linspace(-1, high, 5)[1:-1] for high in (1, 1, 1, 3)]
        return tuple(int(np.digitize(x, e)) for x, e in zip(obs, edges, strict=True))

    keys = {
        "state": lambda t, env: cell(t.next_obs[env]),
        "state_action": lambda t, env: (*cell(t.obs[env]), int(t.action[env])),
    }
    steps = list(walk(env, 400))
    expected, counts = by_dictionary(steps, keys[over])
    np.testing.assert_allclose([part.bonus(t) for t in steps], expected, rtol=1e-6)
    assert counted(part) == counts
    assert 20 < len(counts) < 1_200
    assert part.metrics()["entries"] == len(counts)


def test_a_bound_itself_falls_into_the_bin_beside_it():
    part = bonus("hashed_count", spec(UNIT), hash="bins", bins=4)
    for x in ([-1.0, 1.0], [-0.5, 0.49], [-9.0, 9.0], [0.0, 0.0]):
        part.bonus(step([x], [x]))
    assert counted(part) == {(0, 3): 2, (1, 2): 1, (2, 2): 1}


def angle(x, y):
    g, h = np.append(x, 1.0), np.append(y, 1.0)
    return np.arccos(g @ h / np.linalg.norm(g) / np.linalg.norm(h))


@pytest.mark.parametrize("other", [[0.3, 0.1], [-0.9, 0.4], [0.4, -0.3], [0.6, -0.4]])
def test_two_observations_collide_as_often_as_their_angle_says(other):
    """P(all bits equal) = (1 - angle / pi)^bits, over 4,000 draws of 3 planes; the last one differs in length only."""
    x, hits = np.array([0.3, -0.2]), 0
    for seed in range(4_000):
        part = bonus("hashed_count", spec(UNIT, num_envs=2), seed=seed, bits=3)
        both = np.array([x, other], np.float32)
        hits += part.bonus(step(both, both))[1] < 1
    p = (1 - angle(x, np.array(other)) / np.pi) ** 3
    assert abs(hits / 4_000 - p) < 3.5 * np.sqrt(p * (1 - p) / 4_000)


def test_bounds_bring_numbers_of_any_size_to_one_scale():
    wide = gym.spaces.Box(np.array([0.0, -1e4], np.float32), np.array([1e-3, 1e4], np.float32))
    rows = np.random.default_rng(0).uniform(-1, 1, (300, 2)).astype(np.float32)
    stretched = np.stack(((rows[:, 0] + 1) * 5e-4, rows[:, 1] * 1e4), 1).astype(np.float32)
    unit, other = bonus("hashed_count", spec(UNIT, num_envs=300)), bonus("hashed_count", spec(wide, num_envs=300))
    np.testing.assert_array_equal(unit.bonus(step(rows, rows)), other.bonus(step(stretched, stretched)))
    assert 50 < len(counted(unit)) < 100
    given = bonus(
        "hashed_count", spec(gym.spaces.Box(-np.inf, np.inf, (2,)), num_envs=300), low=[0, -1e4], high=[1e-3, 1e4]
    )
    given.bonus(step(stretched, stretched))
    assert counted(given) == counted(other)


def box(low, high):
    return gym.spaces.Box(np.array(low, np.float32), np.array(high, np.float32))


LARGEST = float(np.finfo(np.float32).max)
CONSTANT = box([0.0, 5.0], [1.0, 5.0])


def test_a_number_without_a_range_and_one_of_the_greatest_range_are_taken_as_they_are():
    """As if they had no bounds: a range of 0 or of 1e38 says nothing of where a number lies."""
    rows = np.random.default_rng(0).uniform(0, 1, (300, 3)).astype(np.float32)
    odd = bonus("hashed_count", spec(box([0.0, 5.0, -LARGEST], [1.0, 5.0, LARGEST]), num_envs=300))
    free = bonus("hashed_count", spec(box([0.0, -np.inf, -np.inf], [1.0, np.inf, np.inf]), num_envs=300))
    np.testing.assert_array_equal(odd.bonus(step(rows, rows)), free.bonus(step(rows, rows)))
    assert len(counted(free)) > 50


@pytest.mark.parametrize(
    ("settings", "space", "told"),
    [
        ({}, CONSTANT, None),
        ({"low": (0.0, 5.0)}, CONSTANT, "x: every number of low must be below that of high"),
        ({"low": (0.0, 4.0), "hash": "bins"}, CONSTANT, None),
        ({"hash": "bins"}, CONSTANT, "set low and high"),
        ({"hash": "bins"}, box([-LARGEST], [LARGEST]), "set low and high"),
    ],
)
def test_bounds_are_asked_for_where_they_count(settings, space, told):
    found = [problem.message for problem in HashSettings(**settings).hash_problems(spec(space), "bonuses", "x")]
    assert len(found) == (told is not None)
    assert told is None or told in found[0]


def test_hashes_follow_from_the_seed_and_more_planes_tell_more_apart():
    rows = np.random.default_rng(0).normal(size=(500, 4)).astype(np.float32)

    def counts(seed, bits):
        part = bonus("hashed_count", spec(num_envs=500), seed=seed, bits=bits)
        part.bonus(step(rows, rows))
        return counted(part)

    assert counts(3, 16) == counts(3, 16)
    assert counts(3, 16) != counts(4, 16)
    sizes = [len(counts(3, bits)) for bits in (1, 4, 16, 62)]
    assert sizes[0] == 2
    assert sizes == sorted(set(sizes))
    assert sizes[3] > 450
