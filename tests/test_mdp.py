"""Dynamic programming against numbers worked out by hand, against itself, and against known optima."""

import itertools

import gymnasium as gym
import numpy as np
import pytest

from rltrain import mdp
from rltrain.mdp import (
    Model,
    backup,
    expected_reward,
    finite_horizon_optimum,
    finite_horizon_value,
    greedy_policy,
    one_hot,
    policy_iteration,
    policy_value,
    reachable,
    uniform_policy,
    value_iteration,
)

# State 0: action 0 pays 1 and ends the task half of the time; action 1 pays nothing and leads to state 1.
# State 1: action 0 pays 10 and ends the task; action 1 pays 2 and stays. State 2 is entered only at the end.
# Ends lead to states whose value is not zero, so that forgetting the mask shows.
TABLE = {
    0: {0: [(0.5, 0, 1.0, False), (0.5, 1, 1.0, True)], 1: [(1.0, 1, 0.0, False)]},
    1: {0: [(1.0, 2, 10.0, True)], 1: [(1.0, 1, 2.0, False)]},
    2: {0: [(1.0, 0, 0.0, False)], 1: [(1.0, 0, 0.0, False)]},
}
START = [1.0, 0.0, 0.0]
TINY = Model.from_table(TABLE, START)


def random_table(rng, ends=0.1):
    states, actions = rng.integers(2, 8), rng.integers(1, 5)
    table = []
    for _ in range(states):
        row = []
        for _ in range(actions):
            count = rng.integers(1, 5)
            chance = rng.dirichlet(np.ones(count))
            row.append([(p, rng.integers(states), rng.normal(), rng.random() < ends) for p in chance])
        table.append(row)
    return table, rng.dirichlet(np.ones(states))


def random_policy(rng, model):
    return rng.dirichlet(np.ones(model.actions), model.states)


def by_paths(table, policy, state, horizon):
    """The value of a policy by following every path."""
    if horizon == 0:
        return 0.0
    return sum(
        policy[state][action] * p * (reward + (0.0 if end else by_paths(table, policy, following, horizon - 1)))
        for action in range(len(policy[state]))
        for p, following, reward, end in table[state][action]
    )


def best_by_paths(table, state, horizon):
    if horizon == 0:
        return 0.0
    return max(
        sum(p * (r + (0.0 if end else best_by_paths(table, n, horizon - 1))) for p, n, r, end in table[state][action])
        for action in range(len(table[state]))
    )


def known(id, **kwargs):
    env = gym.make(id, **kwargs).unwrapped
    return Model.from_table(env.P, env.initial_state_distrib)


def test_a_table_is_taken_over_in_its_order_with_duplicates_and_padding():
    model = Model.from_table(
        [[[(0.5, 1, 3, False), (0.25, 0, 4, True), (0.25, 0, 4, True)]], [[(1, 1, -1, True)]]], [0, 1]
    )
    assert (model.states, model.actions) == (2, 1)
    assert model.probability.tolist() == [[[0.5, 0.25, 0.25]], [[1, 0, 0]]]
    assert model.next_state.tolist() == [[[1, 0, 0]], [[1, 0, 0]]]
    assert model.reward.tolist() == [[[3, 4, 4]], [[-1, 0, 0]]]
    assert model.terminated.tolist() == [[[False, True, True]], [[True, False, False]]]
    assert model.outcomes.tolist() == [[3], [1]]
    dtypes = (model.probability, model.next_state, model.reward, model.terminated, model.outcomes, model.start)
    assert [array.dtype.name for array in dtypes] == ["float64", "int64", "float64", "bool", "int64", "float64"]


def test_a_dict_and_a_list_are_the_same_table():
    listed = Model.from_table([[TABLE[s][a] for a in range(2)] for s in range(3)], START)
    for name in ("probability", "next_state", "reward", "terminated", "outcomes", "start"):
        assert np.array_equal(getattr(listed, name), getattr(TINY, name)), name


@pytest.mark.parametrize(
    ("table", "start", "message"),
    [
        ([[[(0.5, 0, 0, False)]]], [1], "sum to 1"),
        ([[[(1 + 2e-6, 0, 0, False)]]], [1], "sum to 1"),
        ([[[(1.5, 0, 0, False), (-0.5, 0, 0, False)]]], [1], "at least 0"),
        ([[[(float("nan"), 0, 0, False)]]], [1], "sum to 1"),
        ([[[]]], [1], "sum to 1"),
        ([[[(1, 1, 0, False)]]], [1], "next state"),
        ([[[(1, -1, 0, False)]]], [1], "next state"),
        ([[[(1, 0.5, 0, False)]]], [1], "next state"),
        ([[[(1, 0, float("inf"), False)]]], [1], "reward"),
        ([[[(1, 0, 0, True)]] * 2, [[(1, 0, 0, True)]]], [1, 0], "state 1 has 1 actions, state 0 has 2"),
        ([[[(1, 0, 0)]]], [1], "unpack"),
        ([[[(1,)]]], [1], "unpack"),
        ({1: [[(1, 0, 0, True)]]}, [1], "state 0 is missing"),
        ([{1: [(1, 0, 0, True)]}], [1], "action 0 of state 0 is missing"),
        ([], [], "state 0 is missing"),
        ([[[(1, 0, 0, True)]]], [0.9], "start"),
        ([[[(1, 0, 0, True)]]], [1, 0], "start"),
    ],
)
def test_a_broken_table_is_refused_with_its_fault(table, start, message):
    with pytest.raises(ValueError, match=message):
        Model.from_table(table, start)


def test_rounding_in_a_distribution_is_accepted():
    assert Model.from_table([[[(1 - 9e-7, 0, 0, False)]]], [1]).states == 1


def test_a_backup_is_the_reward_and_the_discounted_value_of_what_goes_on():
    assert expected_reward(TINY).tolist() == [[1, 0], [10, 2], [0, 0]]
    # 1 + .5 * .5 * 4, 0 + .5 * 8; 10 and nothing after the end, 2 + .5 * 8; .5 * 4 twice
    assert backup(TINY, np.array([4.0, 8.0, 100.0]), 0.5).tolist() == [[2, 4], [10, 6], [2, 2]]
    both = Model.from_table([[[(0.25, 0, 4, False), (0.75, 0, -2, True)]]], [1])
    assert expected_reward(both).tolist() == [[-0.5]]  # .25 * 4 - .75 * 2


def test_the_optimum_of_the_tiny_process_is_that_of_hand():
    # gamma .5: state 1 takes 10 (staying: 2 + 5), state 0 jumps: 5 (waiting: 1 + .25 * 5), state 2: .5 * 5
    expected = [[2.25, 5], [10, 7], [2.5, 2.5]]
    q, sweeps = value_iteration(TINY, 0.5)
    assert q == pytest.approx(np.array(expected), abs=1e-9)
    assert 3 <= sweeps <= 6
    q, policy, evaluated = policy_iteration(TINY, 0.5)
    assert q == pytest.approx(np.array(expected), abs=1e-12)
    assert policy.tolist()[:2] == [1, 0]
    assert 2 <= evaluated <= 4
    assert greedy_policy(q).tolist() == [[0, 1], [1, 0], [1, 0]]  # of equals the lowest


def test_value_iteration_stops_at_its_cap_where_the_optimum_is_infinite():
    q, sweeps = value_iteration(TINY, 1.0, max_sweeps=7)
    assert sweeps == 7
    assert q[1].tolist() == [10, 22]  # six times 2, then 10
    q, sweeps = value_iteration(TINY, 0.5, max_sweeps=1)
    assert (q.tolist(), sweeps) == (expected_reward(TINY).tolist(), 1)


def test_value_iteration_ends_for_values_so_large_that_rounding_exceeds_the_tolerance():
    huge = Model.from_table([[[(0.3, 0, 1e9 / 3, False), (0.7, 1, 1e9, False)]], [[(1, 0, 1e9 / 7, False)]]], [1, 0])
    # values near 1e11, whose tolerance is 10: 1e9 * .99**n < 10 from n = 1833 on
    assert value_iteration(huge, 0.99, max_sweeps=10_000)[1] < 1_900


def test_the_values_of_a_policy_are_those_of_hand():
    wait = one_hot(np.array([0, 0, 0]), 2)
    # state 0: V = 1 + gamma / 2 * V, state 2: gamma * V
    assert policy_value(TINY, wait, 1.0) == pytest.approx(np.array([2, 10, 2]))
    assert policy_value(TINY, wait, 0.5) == pytest.approx(np.array([4 / 3, 10, 2 / 3]))
    # uniform, gamma 1: V1 = .5 * 10 + .5 * (2 + V1) = 12, V0 = .5 * (1 + .5 * V0) + .5 * V1 = 6.5 / .75
    assert policy_value(TINY, uniform_policy(TINY), 1.0) == pytest.approx(np.array([26 / 3, 12, 26 / 3]))


def test_a_policy_that_never_ends_has_a_value_with_discount_and_an_error_without():
    stay = one_hot(np.array([1, 1, 0]), 2)
    assert policy_value(TINY, stay, 0.5) == pytest.approx(np.array([2, 4, 1]))  # 2 / (1 - .5)
    with pytest.raises(ValueError, match=r"improper policy.*from state 0"):
        policy_value(TINY, stay, 1.0)
    circle = Model.from_table([[[(1, 1, 1, False)]], [[(0.3, 0, 1, False), (0.7, 1, 1, False)]]], [1, 0])
    with pytest.raises(ValueError, match="improper"):
        policy_value(circle, uniform_policy(circle), 1.0)
    rare = Model.from_table([[[(1.0, 0, 1, False), (1e-30, 0, 1, True)]]], [1])
    with pytest.raises(ValueError, match="too rarely"):
        policy_value(rare, uniform_policy(rare), 1.0)


@pytest.mark.parametrize("seed", range(50))
def test_value_iteration_policy_iteration_and_the_linear_system_agree(seed):
    rng = np.random.default_rng(seed)
    table, start = random_table(rng)
    model = Model.from_table(table, start)
    gamma = rng.uniform(0.3, 0.98)
    q, _ = value_iteration(model, gamma, tolerance=1e-13)
    q2, policy, _ = policy_iteration(model, gamma)
    assert q == pytest.approx(q2, abs=1e-8)
    assert policy_value(model, greedy_policy(q), gamma) == pytest.approx(q.max(1), abs=1e-8)
    assert backup(model, q2.max(1), gamma) == pytest.approx(q2, abs=1e-11)
    assert q2[np.arange(model.states), policy] == pytest.approx(q2.max(1), abs=1e-11)
    mixed = random_policy(rng, model)
    values = policy_value(model, mixed, gamma)
    assert (mixed * backup(model, values, gamma)).sum(1) == pytest.approx(values, abs=1e-11)
    assert (values <= q2.max(1) + 1e-9).all()


def test_the_optimum_is_the_best_of_every_deterministic_policy():
    model = Model.from_table(*random_table(np.random.default_rng(1)))
    every = itertools.product(range(model.actions), repeat=model.states)
    best = max(policy_value(model, one_hot(np.array(p), model.actions), 0.9).sum() for p in every)
    assert policy_iteration(model, 0.9)[0].max(1).sum() == pytest.approx(best, abs=1e-9)


def test_values_within_a_horizon_are_those_of_hand():
    wait = one_hot(np.array([0, 0, 0]), 2)
    expected = {0: [0, 0, 0], 1: [1, 10, 0], 2: [1.5, 10, 1], 3: [1.75, 10, 1.5]}
    for horizon, values in expected.items():
        assert finite_horizon_value(TINY, wait, horizon).tolist() == values
    # one step: wait, take 10; two: jump and take 10, stay and take 10; three: jump, stay, take
    for horizon, values in {0: [0, 0, 0], 1: [1, 10, 0], 2: [10, 12, 1], 3: [12, 14, 10]}.items():
        assert finite_horizon_optimum(TINY, horizon).tolist() == values


def test_a_horizon_beyond_which_no_value_changes_takes_no_time(monkeypatch):
    model = Model.from_table(*random_table(np.random.default_rng(0), ends=0.3))
    policy, horizon = uniform_policy(model), 3_000
    (reward, transitions), ahead = mdp._chain(model, policy), mdp._ahead
    value, best, steps = np.zeros(model.states), np.zeros(model.states), itertools.count()
    for _ in range(horizon):
        value, best = reward + transitions @ value, (expected_reward(model) + ahead(model, best)).max(1)

    class Counted:
        """A matrix that will not be asked too often."""

        def __init__(self, matrix):
            self.matrix = matrix

        def __matmul__(self, values):
            assert next(steps) < 2 * horizon
            return self.matrix @ values

    monkeypatch.setattr(mdp, "_chain", lambda model, policy: (reward, Counted(transitions)))
    monkeypatch.setattr(mdp, "_ahead", lambda model, values: ahead(model, (Counted(np.eye(len(values))) @ values)))
    assert finite_horizon_value(model, policy, 10**9).tolist() == value.tolist()
    assert finite_horizon_optimum(model, 10**9).tolist() == best.tolist()


@pytest.mark.parametrize("seed", range(10))
def test_values_within_a_horizon_are_those_of_every_path(seed):
    rng = np.random.default_rng(seed)
    table, start = random_table(rng, ends=0.3)
    model = Model.from_table(table, start)
    policy = random_policy(rng, model)
    for s in range(model.states):
        assert finite_horizon_value(model, policy, 3)[s] == pytest.approx(by_paths(table, policy, s, 3), abs=1e-12)
        assert finite_horizon_optimum(model, 3)[s] == pytest.approx(best_by_paths(table, s, 3), abs=1e-12)


def test_only_states_in_which_an_action_can_be_taken_are_reachable():
    assert reachable(TINY).tolist() == [True, True, False]  # 2 is entered at the end
    chain = [[[(1, min(s + 1, 4), 0, s == 3)]] for s in range(5)]
    assert reachable(Model.from_table(chain, [0, 1, 0, 0, 0])).tolist() == [False, True, True, True, False]
    never = [[[(1, 0, 0, False), (0, 1, 0, False)]], [[(1, 0, 0, True)]]]
    assert reachable(Model.from_table(never, [1, 0])).tolist() == [True, False]
    assert reachable(known("FrozenLake-v1")).sum() == 11  # 16 without 4 holes and the goal
    assert reachable(known("CliffWalking-v1")).sum() == 37  # 48 without 10 of cliff and the goal
    assert reachable(known("Taxi-v4")).sum() == 400  # 500 without the passenger at the destination


# Optima computed independently: V*(start) by discount.
OPTIMA = [
    ("FrozenLake-v1", {0.9: 0.068891, 0.95: 0.180472, 0.99: 0.542026, 0.999: 0.785533, 1.0: 14 / 17}),
    ("FrozenLake8x8-v1", {0.99: 0.414640, 0.999: 0.892635, 1.0: 1.0}),
    ("Taxi-v4", {0.9: -1.263323, 0.99: 6.327464, 1.0: 7.93}),
    ("CliffWalking-v1", {0.9: -7.458134, 0.95: -9.733158, 0.99: -12.247898, 1.0: -13.0}),
    ("CliffWalkingSlippery-v1", {1.0: -64.709176}),
]


@pytest.mark.parametrize(("id", "gamma", "value"), [(id, g, v) for id, of in OPTIMA for g, v in of.items()])
def test_the_known_optimum_is_found_from_the_start(id, gamma, value):
    model = known(id)
    q, _ = value_iteration(model, gamma, tolerance=1e-12)
    assert model.start @ q.max(1) == pytest.approx(value, abs=6e-7)
    if gamma < 1:
        assert policy_iteration(model, gamma)[0] == pytest.approx(q, abs=1e-8)


@pytest.mark.parametrize("id", ["CliffWalking-v1", "CliffWalkingSlippery-v1"])
def test_where_every_step_costs_policy_iteration_needs_no_discount(id):
    model = known(id)
    q, policy, _ = policy_iteration(model, 1.0)
    assert q == pytest.approx(value_iteration(model, 1.0, tolerance=1e-12)[0], abs=1e-6)
    assert policy_value(model, one_hot(policy, 4), 1.0) == pytest.approx(q.max(1), abs=1e-9)


def test_large_models_are_solved_sparse_and_to_the_same_values(monkeypatch):
    from rltrain import mdp

    rng = np.random.default_rng(0)
    table = {
        s: {a: [(0.5, int(rng.integers(30)), float(rng.random()), s % 7 == 0), (0.5, s, 0.1, False)] for a in range(2)}
        for s in range(30)
    }
    model = mdp.Model.from_table(table, np.full(30, 1 / 30))
    policy = mdp.uniform_policy(model)
    dense = mdp.policy_value(model, policy, 0.9)
    monkeypatch.setattr(mdp, "DENSE_STATES", 10)
    assert np.abs(mdp.policy_value(model, policy, 0.9) - dense).max() < 1e-10
