"""Every update rule of a table against numbers worked out by hand, without traces."""

import numpy as np
import pytest
from by_hand import ENDS, Coins, Q, agent, changed, feed, learn, stream

# From Q(0, 1) = 2 with reward 3 to state 1, and action 0 next, where Q(1) = (4, 8):
#   SARSA:           target 3 + 4/2 = 5,                    Q = 2 + (5 - 2)/2 = 3.5
#   Q-learning:      target 3 + 8/2 = 7,                    Q = 2 + (7 - 2)/2 = 4.5
#   expected SARSA:  target 3 + (1/4 * 4 + 3/4 * 8)/2 = 6.5,  Q = 2 + (6.5 - 2)/2 = 4.25
#   double:          one of two equal tables as Q-learning, so the mean is (4.5 + 2)/2 = 3.25
# Where the task ends the target is 3, and Q = 2 + (3 - 2)/2 = 2.5; double (2.5 + 2)/2 = 2.25.
ONE_STEP = [
    ("sarsa", {}, 3.5, 2.5),
    ("n_step_sarsa", {"n_step": 1}, 3.5, 2.5),
    ("sarsa_lambda", {"traces": "accumulating"}, 3.5, 2.5),
    ("sarsa_lambda", {"traces": "replacing"}, 3.5, 2.5),
    ("q_learning", {}, 4.5, 2.5),
    ("watkins_q_lambda", {"traces": "accumulating"}, 4.5, 2.5),
    ("watkins_q_lambda", {"traces": "replacing"}, 4.5, 2.5),
    ("dyna_q", {"planning_steps": 0}, 4.5, 2.5),
    ("dyna_q", {"planning_steps": 1, "prioritized": True}, 4.5, 2.5),
    ("expected_sarsa", {}, 4.25, 2.5),
    ("double_q_learning", {}, 3.25, 2.25),
]


@pytest.mark.parametrize("ends", ENDS)
@pytest.mark.parametrize(("name", "settings", "goes_on", "ended"), ONE_STEP)
def test_only_a_real_end_is_worth_nothing_beyond(name, settings, goes_on, ended, ends):
    made = agent(name, Q, **settings)
    made.policy[:] = 0.25, 0.75
    q = learn(made, 0, 1, 3.0, 1, 0, ends)
    np.testing.assert_array_equal(q, changed(Q, s0a1=ended if "terminated" in ends else goes_on))


@pytest.mark.parametrize(("coin", "first", "second"), [(0.49, 3.0, 4.0), (0.5, 2.0, 4.5)])
def test_double_q_learning_values_the_choice_of_one_table_by_the_other(coin, first, second):
    """Q1(1) = (4, 8), Q2(1) = (6, 2); Q1(0, 1) = 2, Q2(0, 1) = 4; reward 3.

    Below 1/2 the first learns: its best action is 1, the second says 2 of it: target 4, Q1 = 2 + (4 - 2)/2 = 3.
    Else the second learns: its best action is 0, the first says 4 of it: target 5, Q2 = 4 + (5 - 4)/2 = 4.5.
    """
    made = agent("double_q_learning", Q)
    made.memory.pair[1, :2] = [[0.0, 4.0], [6.0, 2.0]]
    made.rng = Coins(coin)
    q = learn(made, 0, 1, 3.0, 1)
    np.testing.assert_array_equal(made.memory.pair[:, 0, 1], [first, second])
    assert q[0, 1] == (first + second) / 2


def test_the_choice_of_double_q_learning_is_the_lowest_of_equal_actions():
    """Q1(1) = (8, 8) chooses 0, of which Q2(1) = (6, 2) says 6: target 3 + 6/2 = 6, Q1(0, 1) = 2 + 4/2 = 4."""
    made = agent("double_q_learning", Q)
    made.memory.pair[:, 1] = [[8.0, 8.0], [6.0, 2.0]]
    made.rng = Coins(0.0)
    learn(made, 0, 1, 3.0, 1)
    assert made.memory.pair[0, 0, 1] == 4.0


def test_the_coin_of_double_q_learning_is_fair():
    made = agent("double_q_learning")
    heads = 0
    for _ in range(10_000):
        made.memory.pair[:] = 0
        learn(made, 0, 0, 1.0, 1)
        heads += made.memory.pair[0, 0, 0] > 0
    assert abs(heads - 5_000) < 200  # 4 standard deviations of 50


# --- n steps


@pytest.mark.parametrize(
    ("n", "expected"),
    [
        (1, changed(Q, s0a1=3.5, s1a0=12.0, s2a1=32.0)),
        # after 2 steps: G = 3 + 4/2 + 32/4 = 13,  Q(0, 1) = 2 + 11/2 = 7.5; after 3: G = 4 + 16/2 + 64/4 = 28, Q(1, 0) = 16
        (2, changed(Q, s0a1=7.5, s1a0=16.0)),
        # after 3 steps: G = 3 + 4/2 + 16/4 + 64/8 = 17,  Q(0, 1) = 2 + 15/2 = 9.5
        (3, changed(Q, s0a1=9.5)),
        (4, Q),
    ],
)
def test_n_step_sarsa_sums_n_rewards_and_then_trusts_the_table(n, expected):
    """One step: Q(0, 1) = 2 + (3 + 4/2 - 2)/2 = 3.5; Q(1, 0) = 4 + (4 + 32/2 - 4)/2 = 12; Q(2, 1) = 32 + (16 + 64/2 - 32)/2 = 40."""
    made = agent("n_step_sarsa", Q, n_step=n)
    learn(made, 0, 1, 3.0, 1, 0)
    learn(made, 1, 0, 4.0, 2, 1)
    learn(made, 2, 1, 16.0, 3, 0)
    if n == 1:
        expected = changed(expected, s2a1=40.0)
    np.testing.assert_array_equal(made.memory.q, expected)


@pytest.mark.parametrize("n", [2, 3, 10])
@pytest.mark.parametrize("ends", ENDS[1:])
def test_at_an_episodes_end_n_step_sarsa_learns_from_all_that_waits(n, ends):
    """Rewards 4 and 16, then the end, with Q(3, 0) = 64 beyond if it was only a time limit.

    Real end:    G1 = 16, Q(2, 1) = 32 - 16/2 = 24;       G0 = 4 + 16/2 = 12, Q(1, 0) = 4 + 8/2 = 8.
    Time limit:  G1 = 16 + 64/2 = 48, Q(2, 1) = 32 + 8 = 40;  G0 = 4 + 48/2 = 28, Q(1, 0) = 4 + 24/2 = 16.
    """
    made = agent("n_step_sarsa", Q, n_step=n)
    learn(made, 1, 0, 4.0, 2, 1)
    q = learn(made, 2, 1, 16.0, 3, 0, ends)
    real = "terminated" in ends
    np.testing.assert_array_equal(q, changed(Q, s1a0=8.0 if real else 16.0, s2a1=24.0 if real else 40.0))
    # Nothing waits any more: a new episode of one reward changes its own pair alone. Q(0, 1) = 2 + (0 - 2)/2 = 1.
    np.testing.assert_array_equal(learn(made, 0, 1, 0.0, 3, 0, "terminated"), changed(q, s0a1=1.0))


def test_n_step_sarsa_learns_from_a_pair_with_the_step_size_of_that_pair():
    """Averages: returns 8, 8, 8 of (0, 0), and 0 over two steps: 8 * 3/4 = 6. The other pair is new: all at once."""
    made = agent("n_step_sarsa", Q, n_step=2, visit_power=1.0)
    for _ in range(3):
        learn(made, 0, 0, 8.0, 3, 0, "terminated", rate=1.0)
    learn(made, 0, 0, 0.0, 1, 0, rate=1.0)
    q = learn(made, 1, 0, 0.0, 3, 0, "terminated", rate=1.0)
    np.testing.assert_array_equal(q, changed(Q, s0a0=6.0, s1a0=0.0))


@pytest.mark.parametrize("n", [1, 2, 3, 5])
def test_n_step_sarsa_agrees_with_sums_over_whole_trajectories(n):
    made, q = agent("n_step_sarsa", Q, n_step=n, num_envs=3), Q.copy()
    trajectories = {env: [] for env in range(3)}
    for obs, action, reward, next_obs, next_action, ends, env, rate in stream(n, 3_000, envs=3):
        learn(made, obs, action, reward, next_obs, next_action, ends, env=env, rate=rate)
        steps = trajectories[env]
        steps.append((obs, action, reward))
        value = 0.0 if "terminated" in ends else q[next_obs, next_action]
        for begin in range(max(0, len(steps) - n), len(steps) if ends else len(steps) - n + 1):
            rewards = [reward for _, _, reward in steps[begin:]]
            total = sum(0.5**i * reward for i, reward in enumerate(rewards)) + 0.5 ** len(rewards) * value
            q[steps[begin][:2]] += rate * (total - q[steps[begin][:2]])
        if ends:
            steps.clear()
    np.testing.assert_allclose(made.memory.q, q, rtol=0, atol=1e-9)


@pytest.mark.parametrize(("twin", "one_step", "settings"), [
    ("n_step_sarsa", "sarsa", {"n_step": 1}),
    ("sarsa_lambda", "sarsa", {"trace_decay": 0.0, "traces": "accumulating"}),
    ("sarsa_lambda", "sarsa", {"trace_decay": 0.0, "traces": "replacing"}),
    ("sarsa_lambda", "sarsa", {"trace_decay": 0.0, "traces": "dutch"}),
    ("watkins_q_lambda", "q_learning", {"trace_decay": 0.0}),
    ("dyna_q", "q_learning", {"planning_steps": 0}),
])  # fmt: skip
@pytest.mark.parametrize("power", [0.0, 0.7, 1.0])
def test_what_looks_ahead_one_step_is_the_one_step_method(twin, one_step, settings, power):
    tables = [
        feed(agent(name, Q, num_envs=2, visit_power=power, **more), stream(1, 2_000, envs=2))
        for name, more in ((twin, settings), (one_step, {}))
    ]
    np.testing.assert_allclose(*tables, rtol=0, atol=1e-9)
    assert np.abs(tables[0] - Q).min() > 0.1


# --- Monte Carlo


def episode(made, *steps, ends="terminated", beyond=(3, 0), **kwargs):
    """Whole episodes of (obs, action, reward)."""
    following = [*((obs, action) for obs, action, _ in steps[1:]), beyond]
    for index, (step, after) in enumerate(zip(steps, following, strict=True)):
        learn(made, *step, *after, ends if index == len(steps) - 1 else "", **kwargs)
    return made.memory.q


@pytest.mark.parametrize("ends", ENDS[1:])
def test_monte_carlo_learns_the_return_of_the_first_visit_when_the_episode_is_over(ends):
    """Pairs (0, 0), (0, 0), (1, 1) with rewards 1, 2, 4; 64 is beyond if it was only a time limit.

    Real end:    G = 4 from (1, 1); 2 + 4/2 = 4; 1 + 4/2 = 3 from the first (0, 0).  Q(0, 0) = 1 + (3 - 1)/2 = 2, Q(1, 1) = 8 - 4/2 = 6.
    Time limit:  G = 4 + 64/2 = 36; 2 + 36/2 = 20; 1 + 20/2 = 11.                    Q(0, 0) = 1 + 10/2 = 6,      Q(1, 1) = 8 + 28/2 = 22.
    """
    made = agent("monte_carlo", Q)
    learn(made, 0, 0, 1.0, 0, 0)
    np.testing.assert_array_equal(learn(made, 0, 0, 2.0, 1, 1), Q)
    q = learn(made, 1, 1, 4.0, 3, 0, ends)
    real = "terminated" in ends
    np.testing.assert_array_equal(q, changed(Q, s0a0=2.0 if real else 6.0, s1a1=6.0 if real else 22.0))


def test_monte_carlo_averages_the_returns_and_counts_each_episode_once():
    """Returns of (0, 0): 4 + 4/2 = 6 (the visit after it counts for nothing), then 9, 0, 15: averages 6, 7.5, 5, 7.5."""
    made = agent("monte_carlo", Q, visit_power=1.0)
    assert episode(made, (0, 0, 4.0), (0, 0, 4.0), rate=1.0)[0, 0] == 6.0
    assert episode(made, (0, 0, 9.0), rate=1.0)[0, 0] == 7.5
    assert episode(made, (0, 0, 0.0), rate=1.0)[0, 0] == 5.0
    assert episode(made, (1, 1, 0.0), (0, 0, 15.0), rate=1.0)[0, 0] == 7.5
    for _ in range(20):  # in all more steps than one episode may have
        assert episode(made, (0, 0, 7.5), rate=1.0)[0, 0] == 7.5


def test_monte_carlo_keeps_the_episodes_of_its_environments_apart():
    """(0, 0) with 2 in environment 0 and (1, 0) with 4 in environment 1 are still open when environment 1 ends with 8.

    G = 4 + 8/2 = 8: Q(1, 0) = 4, Q(2, 0) = 4. Then environment 0 ends with (2, 0) and 8: G = 2 + 8/2 = 6,
    Q(0, 0) = 3, Q(2, 0) = 4 + (8 - 4)/2 = 6.
    """
    made = agent("monte_carlo", num_envs=2)
    learn(made, 0, 0, 2.0, 2, 0)
    learn(made, 1, 0, 4.0, 2, 0, env=1)
    q = learn(made, 2, 0, 8.0, 3, 0, "terminated", env=1)
    np.testing.assert_array_equal(q, changed(0, s1a0=4.0, s2a0=4.0))
    np.testing.assert_array_equal(learn(made, 2, 0, 8.0, 3, 0, "terminated"), changed(q, s0a0=3.0, s2a0=6.0))


# --- Dyna


def test_dyna_learns_again_from_the_outcome_it_remembers():
    """Reward 8 to state 1, Q(1) = (4, 8), so the target is 12: from 0 to 6, 9, 10.5 with two steps of planning."""
    made = agent("dyna_q", changed(0, s1a0=4.0, s1a1=8.0), planning_steps=2)
    assert learn(made, 0, 0, 8.0, 1)[0, 0] == 10.5


@pytest.mark.parametrize(("ends", "value"), [("", 12.0), ("truncated", 12.0), ("terminated", 8.0), (ENDS[3], 8.0)])
@pytest.mark.parametrize("prioritized", [False, True])
def test_a_real_end_is_remembered_and_a_time_limit_is_not(ends, value, prioritized):
    """With learning rate 1 the value is the target: 8, and 8/2 from state 1 if something comes after."""
    made = agent("dyna_q", changed(0, s1a1=8.0), planning_steps=3, prioritized=prioritized)
    assert learn(made, 0, 0, 8.0, 1, ends=ends, rate=1.0)[0, 0] == value


def test_dyna_plans_from_every_pair_and_remembered_outcome_alike():
    """All is 0 again before each step, which pays nothing; with learning rate 1, what is there after it was planned."""
    made = agent("dyna_q", planning_steps=1, model_size=3)
    for obs, reward in ((0, 1.0), (0, 2.0), (1, 4.0), (1, 8.0)):
        learn(made, obs, 0, reward, 2, ends="terminated")
    drawn = []
    for _ in range(4_000):
        made.memory.q[:] = 0
        made.memory.visits[3, 1], made.memory.seen[0] = 0, 2  # its pair is new, every time
        learn(made, 3, 1, 0.0, 2, ends="terminated", rate=1.0)
        drawn.append(float(made.memory.q.sum()))
    values, counts = np.unique(drawn, return_counts=True)
    # one of three pairs: a third of nothing, a sixth of each of the four rewards
    np.testing.assert_array_equal(values, [0.0, 1.0, 2.0, 4.0, 8.0])
    expected = 4_000 * np.array([2, 1, 1, 1, 1]) / 6
    assert ((counts - expected) ** 2 / expected).sum() < 18.5  # 4 degrees of freedom, p = 0.001


@pytest.mark.parametrize(
    ("size", "values"),
    [
        (1, [2.0, 8.0, 5.0, 9.0]),  # the last outcome alone
        (2, [2.0, 5.0, 6.5, 7.0]),  # 2; (2 + 8)/2; (8 + 5)/2; (5 + 9)/2
        (3, [2.0, 5.0, 5.0, 22 / 3]),  # 2; (2 + 8)/2; (2 + 8 + 5)/3; (8 + 5 + 9)/3
    ],
)
def test_the_model_remembers_the_last_outcomes_and_prioritised_sweeping_takes_their_mean(size, values):
    made = agent("dyna_q", planning_steps=1, model_size=size, prioritized=True)
    rewards = (2.0, 8.0, 5.0, 9.0)
    assert [learn(made, 0, 0, reward, 1, ends="terminated", rate=1.0)[0, 0] for reward in rewards] == values


@pytest.mark.parametrize(
    ("steps", "chain"), [(1, [0, 0, 0, 8]), (2, [0, 0, 4, 8]), (3, [0, 2, 4, 8]), (4, [1, 2, 4, 8]), (9, [1, 2, 4, 8])]
)
def test_prioritised_sweeping_carries_one_reward_back_along_the_whole_chain_in_one_step(steps, chain):
    """0 -> 1 -> 2 -> 3 -> end, which pays 8; each step before it is worth half."""
    made = agent("dyna_q", planning_steps=steps, prioritized=True)
    for state in range(3):
        learn(made, state, 0, 0.0, state + 1, rate=1.0)
    assert learn(made, 3, 0, 8.0, 0, ends="terminated", rate=1.0)[:, 0].tolist() == chain


def test_prioritised_sweeping_takes_the_most_urgent_pair_first_and_none_below_the_threshold():
    """State 2 becomes worth 8. Pair (1, 0) always leads there: wrong by 4. Pair (0, 0) half of the time: wrong by 2.

    Pair (3, 0) one time in four: wrong by 1, which is not above the threshold of 1.
    """
    for steps, expected in ((1, (0, 0, 8, 0)), (2, (0, 4, 8, 0)), (3, (2, 4, 8, 0)), (9, (2, 4, 8, 0))):
        made = agent("dyna_q", planning_steps=steps, model_size=4, prioritized=True, priority_threshold=1.0)
        for obs, leads in ((0, 2), (1, 4), (3, 1)):
            for time in range(4):
                learn(made, obs, 0, 0.0, 2, ends="" if time < leads else "terminated", rate=1.0)
        assert tuple(learn(made, 2, 0, 8.0, 0, ends="terminated", rate=1.0)[:, 0]) == expected


def test_what_ended_the_task_does_not_lead_to_the_state_in_which_it_ended():
    """(0, 0) ended in state 2 and got half of its error. That state becomes worth more, and (0, 0) is left alone."""
    made = agent("dyna_q", planning_steps=5, prioritized=True)
    learn(made, 0, 0, 8.0, 2, ends="terminated")
    np.testing.assert_array_equal(learn(made, 2, 0, 8.0, 1, ends="terminated"), changed(0, s0a0=4.0, s2a0=4.0))


@pytest.mark.parametrize("prioritized", [False, True])
def test_planning_learns_from_a_pair_with_the_step_size_of_that_pair(prioritized):
    """(0, 0) was taken 4 times and led to state 2, which becomes worth 8: a quarter of the error of 4 is learnt."""
    steps = 2 if prioritized else 1  # the sweep begins with the pair of the step
    made = agent("dyna_q", planning_steps=steps, prioritized=prioritized, visit_power=1.0)
    made.rng = Coins(*[0.0] * 20)  # plans from the pair that came first
    for _ in range(4):
        learn(made, 0, 0, 0.0, 2, rate=1.0)
    q = learn(made, 2, 0, 8.0, 1, ends="terminated", rate=1.0)
    np.testing.assert_array_equal(q, changed(0, s0a0=1.0, s2a0=8.0))
