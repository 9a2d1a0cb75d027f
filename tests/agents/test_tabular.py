"""What a table asks its exploration, and what it hands to its rule: actions, probabilities, step sizes, numbers."""

from types import SimpleNamespace

import gymnasium as gym
import numpy as np
import pytest
from by_hand import Coins, Q, agent, changed, learn

from rltrain.core import EnvSpec, Transition
from rltrain.exploration.epsilon_z_greedy import EpsilonZGreedy
from rltrain.registry import find, settings_class
from rltrain.schedules import Linear

LEARNERS = [
    "q_learning", "sarsa", "expected_sarsa", "double_q_learning", "n_step_sarsa", "sarsa_lambda", "watkins_q_lambda",
    "monte_carlo", "dyna_q",
]  # fmt: skip
DRAW_NEXT = ["sarsa", "n_step_sarsa", "sarsa_lambda", "watkins_q_lambda", "monte_carlo"]
NO_PLANNING = {"dyna_q": {"planning_steps": 0}}


def step(obs, action, reward, next_obs, ends="terminated"):
    """A transition of as many environments as there are observations."""
    over = [np.full(len(obs), word in ends) for word in ("terminated", "truncated")]
    return Transition(np.array(obs), np.array(action), np.array(reward, np.float32), np.array(next_obs), *over)


def heads_only(made):
    """Double Q-learning draws from its generator which table learns: always the first. It acts on the mean of the two."""
    if hasattr(made.memory, "pair"):
        made.rng = Coins(*[0.0] * 100)
        return made.memory.pair[0]
    return made.memory.q


@pytest.mark.parametrize("name", LEARNERS)
def test_the_learning_rate_follows_its_schedule_in_environment_steps(name):
    """From 1 to 0 in 4 steps: 1, 3/4, 1/2, 1/4. Rewards 8: Q = 8 at once; rewards 0: 8/4 = 2, 2/2 = 1, 1 * 3/4."""
    schedule = Linear(schedule="linear", start=1.0, end=0.0, steps=4)
    made = agent(name, learning_rate=schedule, **NO_PLANNING.get(name, {}))
    q, seen = heads_only(made), []
    for reward in (8.0, 0.0, 0.0, 0.0, 100.0):
        made.observe(step([0], [0], [reward], [1]))
        seen.append(q[0, 0])
    assert seen == [8.0, 2.0, 1.0, 0.75, 0.75]


@pytest.mark.parametrize("name", LEARNERS)
def test_environments_that_step_together_share_the_table_and_the_learning_rate_of_their_step(name):
    """Two environments: rate 1 for both of the first, 1/2 for both of the second. Q = 8, 4; then 4 + 4/2 = 6, 6 - 6/2 = 3."""
    schedule = Linear(schedule="linear", start=1.0, end=0.0, steps=4)
    made = agent(name, learning_rate=schedule, num_envs=2, **NO_PLANNING.get(name, {}))
    q = heads_only(made)
    made.observe(step([0, 0], [0, 0], [8.0, 4.0], [1, 1]))
    assert q[0, 0] == 4.0
    made.observe(step([0, 0], [0, 0], [8.0, 0.0], [1, 1]))
    assert q[0, 0] == 3.0
    assert made.steps == made.memory.visits.sum() == 4


@pytest.mark.parametrize("name", LEARNERS)
@pytest.mark.parametrize(("power", "values"), [(1.0, [2.0, 3.0, 5.0]), (0.5, [2.0, 3.414214, 6.639169])])
def test_the_step_size_is_divided_by_a_power_of_the_visits(name, power, values):
    """Rewards 2, 4, 9 of one pair. Power 1 gives their averages 2, 3, 5.

    Power 1/2: 2; 2 + (4 - 2)/1.414214 = 3.414214; 3.414214 + (9 - 3.414214)/1.732051 = 6.639169.
    """
    made = agent(name, learning_rate=1.0, visit_power=power, **NO_PLANNING.get(name, {}))
    q, seen = heads_only(made), []
    for reward in (2.0, 4.0, 9.0):
        made.observe(step([0], [1], [reward], [2]))
        made.observe(step([0], [0], [1.0], [2]))  # the visits of another action are its own
        seen.append(q[0, 1])
    assert seen == pytest.approx(values, abs=1e-6)


@pytest.mark.parametrize("name", LEARNERS)
def test_spaces_may_be_numbered_from_elsewhere(name):
    """From 5 on: the first state is 5, the second action 6. Q(5, 6) = 0 + (8 - 0)/2."""
    made = agent(name, first=5, **NO_PLANNING.get(name, {}))
    heads_only(made)[:] = 0
    made.observe(step([5], [6], [8.0], [8]))
    value = 2.0 if name == "double_q_learning" else 4.0  # the mean of 4 and 0
    np.testing.assert_array_equal(made.memory.q, changed(0, s0a1=value))
    np.testing.assert_array_equal(made.values(np.array([8, 5])), [[0, 0], [0, value]])
    np.testing.assert_array_equal(made.act(np.array([8, 5]), explore=False), [5, 6])
    assert set(agent(name, first=5, num_envs=50).act(np.full(50, 8)).tolist()) == {5, 6}


@pytest.mark.parametrize("name", DRAW_NEXT)
def test_the_next_action_is_drawn_once_and_then_taken_and_no_episode_takes_that_of_another(name):
    made = agent(name, num_envs=30)
    made.observe(step([0] * 30, [0] * 30, [1.0] * 30, [1] * 30, ends=""))
    drawn = made.pending.copy()
    assert set(drawn.tolist()) == {0, 1}
    for _ in range(3):
        np.testing.assert_array_equal(made.act(np.ones(30, np.int64)), drawn)
    for ends in ("truncated", "terminated"):
        made.observe(step([1] * 30, drawn, [1.0] * 30, [2] * 30, ends=ends))
        assert (made.pending == -1).all()
        assert any((made.act(np.zeros(30, np.int64)) != drawn).tolist())


@pytest.mark.parametrize("name", DRAW_NEXT)
def test_the_next_action_follows_the_exploration_of_the_step_in_which_it_is_taken(name):
    """Epsilon falls from 1 to 0 with the first step of all environments, and action 1 is the best of state 1."""
    made = agent(name, Q, num_envs=30, epsilon=Linear(schedule="linear", start=1.0, end=0.0, steps=30))
    assert set(made.act(np.ones(30, np.int64)).tolist()) == {0, 1}
    made.observe(step([0] * 30, [0] * 30, [1.0] * 30, [1] * 30, ends=""))
    assert (made.act(np.ones(30, np.int64)) == 1).all()


@pytest.mark.parametrize("name", ["q_learning", *DRAW_NEXT])
def test_every_environment_holds_an_action_of_its_own(name):
    """Each for 5 steps; of 1,000 actions chance does not draw one twice."""
    rng = np.random.default_rng(0)
    rng_of_fives = SimpleNamespace(random=rng.random, integers=rng.integers, zipf=lambda mu: 5)
    exploration = EpsilonZGreedy(EpsilonZGreedy.Config(epsilon=1.0))
    known = EnvSpec("test", gym.spaces.Discrete(3), gym.spaces.Discrete(1_000), 2, max_episode_steps=50)
    config = settings_class("agents", name)(name=name)
    made = find("agents", name)(config, known, exploration=exploration, rng=rng_of_fives, device="cpu")
    taken = []
    for _ in range(20):
        taken.append(made.act(np.zeros(2, np.int64)))
        made.observe(step([0, 0], taken[-1], [0.0, 0.0], [0, 0], ends=""))
    first, second = np.array(taken).T
    for actions in (first, second):
        assert [len(set(part)) for part in actions.reshape(4, 5).tolist()] == [1, 1, 1, 1]
        assert len(set(actions.tolist())) == 4
    assert not set(first.tolist()) & set(second.tolist())


def test_the_next_action_is_chosen_by_the_table_before_the_update_as_in_the_book():
    """Greedy: Q(0) = (0, 1), so action 1 is next, although Q(0, 0) = 0 + (8 + 1/2 - 0)/2 = 4.25 afterwards."""
    made = agent("sarsa", changed(0, s0a1=1.0), epsilon=0.0)
    made.observe(step([0], [0], [8.0], [0], ends=""))
    np.testing.assert_array_equal(made.memory.q, changed(0, s0a0=4.25, s0a1=1.0))
    assert made.act(np.array([0])) == [1]


def test_expected_sarsa_averages_over_the_exploration_of_the_next_step_in_the_next_state():
    """Epsilon is 1/2 at step 1 and Q(1) = (8, 4): pi = (3/4, 1/4), average 7, Q(0, 1) = 2 + (3 + 7/2 - 2)/2 = 4.25.

    Then 0 at step 2, and Q(2) = (16, 32): Q(1, 0) = 8 + (0 + 32/2 - 8)/2 = 12.
    """
    table = changed(Q, s1a0=8.0, s1a1=4.0)
    made = agent("expected_sarsa", table, epsilon=Linear(schedule="linear", start=1.0, end=0.0, steps=2))
    made.observe(step([0], [1], [3.0], [1], ends="truncated"))
    np.testing.assert_array_equal(made.memory.q, changed(table, s0a1=4.25))
    made.observe(step([1], [0], [0.0], [2], ends=""))
    np.testing.assert_array_equal(made.memory.q, changed(table, s0a1=4.25, s1a0=12.0))


def test_evaluation_takes_the_lowest_of_equal_actions_and_exploration_takes_each():
    made = agent("q_learning", epsilon=0.0, num_envs=50)
    assert (made.act(np.zeros(50, np.int64), explore=False) == 0).all()
    assert set(made.act(np.zeros(50, np.int64)).tolist()) == {0, 1}


def test_the_table_begins_with_the_initial_value():
    assert (agent("sarsa", None, initial_value=3.0).memory.q == 3).all()
    made = agent("double_q_learning", None, initial_value=3.0)
    assert (made.memory.q == 3).all()
    assert (made.memory.pair == 3).all()


@pytest.mark.parametrize(("over", "counts"), [("state", [1, 2, 3, 1]), ("state_action", [1, 1, 2, 1])])
def test_a_count_bonus_counts_the_state_that_is_reached_or_the_pair_that_led_there(over, counts):
    """Pairs (0, 1), (1, 1), (0, 1) lead to state 2, and (0, 0) to state 0."""
    count = find("bonuses", "count")
    made = count(count.Config(scale=3.0, over=over), agent("q_learning").spec, rng=np.random.default_rng(0))
    moves = [([0], [1], [0.0], [2]), ([1], [1], [0.0], [2]), ([0], [1], [0.0], [2]), ([0], [0], [0.0], [0])]
    paid = [float(made.bonus(step(*move))[0]) for move in moves]
    np.testing.assert_allclose(paid, 3 / np.sqrt(counts), rtol=1e-6)


def test_with_learning_rate_1_and_power_1_both_tables_of_double_q_learning_are_averages_of_their_own():
    made = agent("double_q_learning", 100.0, visit_power=1.0)
    made.rng = Coins(0.0, 0.9)
    for _ in range(2):
        q = learn(made, 0, 0, 0.0, 1, ends="terminated", rate=1.0)
    assert q[0, 0] == 0.0


def test_with_learning_rate_1_and_power_1_n_step_sarsa_averages_returns():
    made = agent("n_step_sarsa", 100.0, n_step=2, visit_power=1.0)
    learn(made, 0, 0, 0.0, 0, 0, rate=1.0)
    q = learn(made, 0, 0, 0.0, 1, 0, "terminated", rate=1.0)
    assert q[0, 0] == 0.0
