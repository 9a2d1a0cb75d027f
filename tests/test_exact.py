"""Exact evaluation against known figures, and every figure against its definition."""

import numpy as np
import pytest

from rltrain import exact
from rltrain.config.schema import EnvSettings, EvalSettings
from rltrain.core import EnvSpec
from rltrain.envs.blackjack import blackjack_model
from rltrain.envs.model import read_model
from rltrain.evaluation import DEFAULT_CAP, EvalProtocol
from rltrain.exact import ExactEvaluator
from rltrain.mdp import Model, policy_iteration, value_iteration

LAKE, LAKE8 = read_model(EnvSettings(id="FrozenLake-v1")), read_model(EnvSettings(id="FrozenLake8x8-v1"))
KEYS = {
    "exact_return", "optimal_return", "time_aware_return", "random_return",
    "percent_of_optimal", "regret", "optimal_action_share", "value_error",
}  # fmt: skip

# State 0: action 0 waits for 1 and ends half of the time, action 1 jumps to state 1, action 2 does the same.
# State 1: any action pays 2 and ends. State 2 is entered only at the end, and there action 1 would be the best.
JUMP = [(1.0, 1, 0.0, False)]
TAKE = [(1.0, 2, 2.0, True)]
TINY = Model.from_table(
    [
        [[(0.5, 0, 1.0, False), (0.5, 2, 1.0, True)], JUMP, JUMP],
        [TAKE, TAKE, TAKE],
        [[(1.0, 0, 0.0, False)], [(1.0, 0, 50.0, True)], TAKE],
    ],
    [1.0, 0.0, 0.0],
)


def best(model, gamma):
    q, _ = value_iteration(model, gamma)
    return q.argmax(1), q


@pytest.mark.parametrize(
    ("model", "horizon", "time_aware", "random", "returns"),
    [
        (LAKE, 100, 0.744190, 0.013940, {0.9: 0.729766, 0.95: 0.729766, 0.99: 0.740165, 0.999: 0.740165}),
        (LAKE8, 200, 0.913220, 0.001901, {0.9: 0.738576, 0.95: 0.738576, 0.99: 0.862955, 0.999: 0.885654}),
    ],
    ids=["4x4", "8x8"],
)
def test_frozen_lake_has_its_known_figures(model, horizon, time_aware, random, returns):
    for gamma, value in returns.items():
        figures = ExactEvaluator(model, gamma=gamma, horizon=horizon)(*best(model, gamma))
        assert set(figures) == KEYS
        assert figures["exact_return"] == pytest.approx(value, abs=6e-7)
        assert figures["optimal_return"] == pytest.approx(returns[0.999], abs=6e-7)
        assert figures["time_aware_return"] == pytest.approx(time_aware, abs=6e-7)
        assert figures["random_return"] == pytest.approx(random, abs=6e-7)
        assert figures["regret"] == pytest.approx(returns[0.999] - value, abs=2e-6)
        assert figures["percent_of_optimal"] == pytest.approx(
            100 * (value - random) / (returns[0.999] - random), abs=1e-3
        )
        assert figures["optimal_action_share"] == 1
        assert figures["value_error"] < 1e-6


@pytest.mark.parametrize(
    ("id", "kwargs", "horizon", "optimum", "random"),
    [
        ("Taxi-v4", {}, 200, 7.93, -771.09),
        ("CliffWalking-v1", {}, 200, -13, -2079.12),
        ("CliffWalkingSlippery-v1", {}, 10_000, -64.709176, None),
        ("FrozenLake-v1", {"is_slippery": False}, 100, 1, None),
        ("FrozenLake8x8-v1", {"is_slippery": False}, 200, 1, None),
    ],
)
@pytest.mark.parametrize("gamma", [0.9, 1.0])
def test_other_environments_have_their_known_optimum(id, kwargs, horizon, optimum, random, gamma):
    model = read_model(EnvSettings(id=id, kwargs=kwargs))
    policy, q = best(model, 0.9)
    figures = ExactEvaluator(model, gamma=gamma, horizon=horizon)(policy, q)
    for key in ("exact_return", "optimal_return", "time_aware_return"):
        assert figures[key] == pytest.approx(optimum, abs=6e-7)
    assert (figures["percent_of_optimal"], figures["regret"]) == (100.0, 0.0)
    if random is not None:
        assert figures["random_return"] == pytest.approx(random, abs=5e-3)
    if gamma == 0.9:
        assert figures["optimal_action_share"] == 1


def test_blackjack_has_its_known_optimum_without_discount():
    model = blackjack_model()
    figures = ExactEvaluator(model, gamma=1.0, horizon=1_000)(*best(model, 1.0))
    assert figures["exact_return"] == pytest.approx(-0.046556, abs=5e-7)
    assert figures["time_aware_return"] == pytest.approx(-0.046556, abs=5e-7)
    assert (figures["optimal_action_share"], figures["value_error"]) == (1, pytest.approx(0, abs=1e-9))
    hit_below_20 = (np.arange(model.states) // 22 < 20).astype(int)
    assert ExactEvaluator(model, gamma=1.0, horizon=1_000)(hit_below_20)["exact_return"] == pytest.approx(
        -0.353554, abs=5e-7
    )


def test_every_figure_of_the_tiny_process_is_that_of_hand():
    # gamma .8: V*(1) = 2, V*(0) = max(1 + .4 V*(0), 1.6) = 5/3 by waiting. Two steps: waiting pays 1.5, jumping 2.
    # The other discounts: .9 has wait 1/.55 = 1.818 > 1.8; .95 has 1/.525 = 1.905 > 1.9; .99, .999 wait likewise.
    # So every greedy policy waits. Random: V_1(0) = 1/3, V_2(0) = (1 + .5 * 1/3 + 2 + 2) / 3 = 31/18.
    evaluator = ExactEvaluator(TINY, gamma=0.8, horizon=2)
    q = np.array([[1.0, 1.5, 0.0], [2.25, 0.0, 2.0], [99.0, 0.0, 0.0]])
    assert evaluator(np.array([2, 1, 0]), q) == pytest.approx(
        {
            "exact_return": 2.0,
            "optimal_return": 1.5,
            "time_aware_return": 2.0,
            "random_return": 31 / 18,
            "percent_of_optimal": 100.0,  # the optimum is no better than random here
            "regret": -0.5,
            "optimal_action_share": 0.5,  # state 1: all are equal; state 2 does not count
            "value_error": 0.25,  # |1.5 - 5/3| and |2.25 - 2|
        }
    )


def test_an_error_of_value_counts_in_both_directions():
    evaluator = ExactEvaluator(TINY, gamma=0.8, horizon=2)
    for sign in (-1, 1):  # V* is 5/3 and 2 where an action can be taken
        q = np.array([[5 / 3] * 3, [2 + 0.75 * sign] * 3, [0.0] * 3])
        assert evaluator(np.array([0, 0, 0]), q)["value_error"] == pytest.approx(0.75)


def test_without_discount_values_are_exact_though_convergence_is_slow():
    slow = Model.from_table([[[(0.99, 0, 1.0, False), (0.01, 0, 1.0, True)]]], [1.0])  # ends after 100 steps on average
    figures = ExactEvaluator(slow, gamma=1.0, horizon=2)(np.array([0]), np.array([[100.0]]))
    assert figures["value_error"] < 1e-8


def test_a_gamma_of_1_does_not_compete_for_the_optimum():
    # 1 at once, or 1.0005 a step later, which is less for every discount up to .999
    end = [(1.0, 1, 1.0005, True)]
    model = Model.from_table([[[(1.0, 1, 1.0, True)], [(1.0, 1, 0.0, False)]], [end, end]], [1.0, 0.0])
    assert ExactEvaluator(model, gamma=1.0, horizon=2)(np.array([0, 0]))["optimal_return"] == 1


def test_the_agents_own_discount_competes_for_the_optimum(monkeypatch):
    monkeypatch.setattr(exact, "MAX_SWEEPS", 1_000)  # without discount it never converges
    # leaving pays 3 at once and ends; staying pays 1 for ever. Within 2 steps leaving is best.
    stay, leave = [(1.0, 0, 1.0, False)], [(1.0, 0, 3.0, True)]
    model = Model.from_table([[stay, leave]], [1.0])
    assert ExactEvaluator(model, gamma=0.5, horizon=2)(np.array([0]))["optimal_return"] == 3  # 1/(1 - .5) < 3
    assert ExactEvaluator(model, gamma=0.9, horizon=2)(np.array([0]))["optimal_return"] == 2
    assert ExactEvaluator(model, gamma=1.0, horizon=2)(np.array([0]))["optimal_return"] == 2


def test_percent_of_optimal_is_linear_between_random_and_the_optimum():
    # random: a third of 0, 3 and 6; the optimum is 6
    model = Model.from_table([[[(1.0, 0, reward, True)] for reward in (0.0, 3.0, 6.0)]], [1.0])
    evaluator = ExactEvaluator(model, gamma=0.9, horizon=5)
    found = [evaluator(np.array([action]))["percent_of_optimal"] for action in range(3)]
    assert found == pytest.approx([-100.0, 0.0, 100.0])
    equal = Model.from_table([[[(1.0, 0, 2.0, True)]] * 3], [1.0])
    assert ExactEvaluator(equal, gamma=0.9, horizon=5)(np.array([1]))["percent_of_optimal"] == 100.0


def test_actions_within_rounding_of_the_best_are_optimal_and_others_are_not():
    rewards = (1e6, 1e6 - 1e-4, 1e6 - 2e-3)  # a tie is 1e-9 * 1e6 = 1e-3
    model = Model.from_table([[[(1.0, 0, reward, True)] for reward in rewards]], [1.0])
    evaluator = ExactEvaluator(model, gamma=0.9, horizon=5)
    assert [evaluator(np.array([a]))["optimal_action_share"] for a in range(3)] == [1, 1, 0]


def test_without_action_values_only_their_error_is_left_out():
    assert set(ExactEvaluator(LAKE, gamma=0.99, horizon=100)(np.zeros(16, int))) == KEYS - {"value_error"}


def test_where_the_optimum_is_infinite_only_the_comparison_with_it_is_left_out(monkeypatch):
    monkeypatch.setattr(exact, "MAX_SWEEPS", 500)
    model = Model.from_table([[[(1.0, 0, 1.0, False)], [(1.0, 0, 0.0, True)]]], [1.0])
    figures = ExactEvaluator(model, gamma=1.0, horizon=10)(np.array([0]), np.zeros((1, 2)))
    assert set(figures) == KEYS - {"optimal_action_share", "value_error"}
    assert (figures["exact_return"], figures["optimal_return"]) == (10, 10)


def test_a_policy_that_does_not_end_is_cut_at_the_horizon():
    cliff = read_model(EnvSettings(id="CliffWalking-v1"))
    up = np.zeros(48, int)
    assert ExactEvaluator(cliff, gamma=1.0, horizon=150)(up)["exact_return"] == -150


def test_nothing_that_does_not_depend_on_the_policy_is_computed_again(monkeypatch):
    evaluator = ExactEvaluator(LAKE, gamma=0.99, horizon=100)
    for name in ("value_iteration", "policy_iteration", "finite_horizon_optimum", "reachable"):
        monkeypatch.setattr(exact, name, None)
    asked = []
    inner = exact.finite_horizon_value
    monkeypatch.setattr(exact, "finite_horizon_value", lambda *args: asked.append(1) or inner(*args))
    first, second = (evaluator(np.zeros(16, int)) for _ in range(2))
    assert first == second
    assert len(asked) == 2


def test_the_arguments_are_not_changed():
    q = policy_iteration(LAKE, 0.99)[0]
    policy = q.argmax(1)
    before = q.copy(), policy.copy()
    ExactEvaluator(LAKE, gamma=0.99, horizon=100)(policy, q)
    assert np.array_equal(q, before[0])
    assert np.array_equal(policy, before[1])


def test_a_process_solves_equal_models_once_and_tells_others_apart(monkeypatch):
    solved = []

    def counted(model, gamma, **limits):
        solved.append(gamma)
        return value_iteration(model, gamma, **limits)

    monkeypatch.setattr(exact, "value_iteration", counted)
    exact._greedy_return.cache_clear()
    first, again = (ExactEvaluator(read_model(EnvSettings(id="FrozenLake-v1")), gamma=0.7, horizon=50) for _ in "ab")
    assert solved == [0.9, 0.95, 0.99, 0.999, 0.7]
    policy = np.zeros(16, np.int64)
    assert first(policy) == again(policy)
    other = ExactEvaluator(
        read_model(EnvSettings(id="FrozenLake-v1", kwargs={"is_slippery": False})), gamma=0.7, horizon=50
    )
    assert len(solved) == 10
    assert other(policy)["optimal_return"] == 1
    ExactEvaluator(LAKE, gamma=0.7, horizon=40)
    assert len(solved) == 15  # another step limit is another question


@pytest.mark.parametrize(
    ("asked", "limit", "cap"), [(2_000, 100, 100), (50, 100, 50), (None, 100, 100), (50, None, 50), (None, None, 1_000)]
)
def test_an_evaluation_is_cut_where_the_first_limit_is(asked, limit, cap):
    """Beyond the environment's own limit an exact figure would be of steps that nobody plays."""
    spec = EnvSpec("x", LAKE, LAKE, num_envs=1, max_episode_steps=limit)  # the spaces are not looked at
    assert EvalProtocol.of(EvalSettings(max_episode_steps=asked), spec).max_episode_steps == cap
    assert DEFAULT_CAP == 1_000
