"""Eligibility traces against numbers worked out by hand, and against the forward view that they stand for."""

import itertools

import numpy as np
import pytest
from by_hand import ENDS, Q, agent, changed, learn, stream


@pytest.mark.parametrize(
    ("traces", "first", "second", "third"),
    [
        # z(0, 0) = 1/4 + 1 = 5/4:         Q = 1 + 1/2 * 1 * 5/4 = 1.625;   z = 5/16: Q = 1.625 + 1/2 * -6 * 5/16 = 0.6875
        ("accumulating", 1.0, 1.625, 0.6875),
        # z(0, 0) = 1:                     Q = 1 + 1/2 * 1 * 1 = 1.5;       z = 1/4:  Q = 1.5 + 1/2 * -6 * 1/4 = 0.75
        ("replacing", 1.0, 1.5, 0.75),
        # z(0, 0) = 1/4 + 1 - 1/8 = 9/8; Q - Q_old = 1 - 0:  Q = 1 + 1/2 * (1 + 1) * 9/8 - 1/2 * 1 = 1.625;
        # z = 9/32; Q(1, 0) - Q_old = 4 - 4:                 Q = 1.625 + 1/2 * -6 * 9/32 = 0.78125
        ("dutch", 1.0, 1.625, 0.78125),
    ],
)
@pytest.mark.parametrize("ends", ENDS[2:])
def test_traces_of_a_pair_that_is_visited_twice(traces, first, second, third, ends):
    """Lambda is 1/2, so traces shrink to 1/4 a step. Q = 0 but Q(1, 0) = 4. Pair (0, 0) twice, then (1, 0), and the end.

    delta = 2 + 0/2 - 0 = 2, z = 1: Q(0, 0) = 0 + 1/2 * 2 * 1 = 1;  delta = 0 + 4/2 - 1 = 1;  delta = -2 - 4 = -6.
    Q(1, 0) = 4 + 1/2 * -6 * 1 = 1.
    """
    made = agent("sarsa_lambda", changed(0, s1a0=4.0), trace_decay=0.5, traces=traces)
    assert learn(made, 0, 0, 2.0, 0, 0)[0, 0] == first
    assert learn(made, 0, 0, 0.0, 1, 0)[0, 0] == second
    np.testing.assert_array_equal(learn(made, 1, 0, -2.0, 2, 0, ends), changed(0, s0a0=third, s1a0=1.0))


def online_forward_view(steps, q, decay, gamma=0.5, rate=0.5):
    """Q (S, A) after 0, 1, ... steps of one episode, by the online lambda-return algorithm: everything is learnt anew at every step.

    G_t(n) = r_t + ... + gamma^n Q_(t+n-1)(s_(t+n), a_(t+n)), of which the lambda-return up to a horizon h is
    (1 - lambda) sum_(n < h-t) lambda^(n-1) G_t(n) + lambda^(h-t-1) G_t(h-t).
    Source: van Seijen et al. 2016, section 3. https://jmlr.org/papers/v17/15-599.html
    """
    tables = [q]  # tables[h] is what is known after h steps
    for horizon in range(1, len(steps) + 1):
        new = q.copy()
        for t in range(horizon):
            returns = []
            for n in range(1, horizon - t + 1):
                *_, next_obs, next_action, ends = steps[t + n - 1]
                beyond = 0.0 if "terminated" in ends else tables[t + n - 1][next_obs, next_action]
                returns.append(sum(gamma**i * steps[t + i][2] for i in range(n)) + gamma**n * beyond)
            weights = [(1 - decay) * decay**i for i in range(len(returns) - 1)] + [decay ** (len(returns) - 1)]
            pair = steps[t][:2]
            new[pair] += rate * (np.dot(weights, returns) - new[pair])
        tables.append(new)
    return tables


@pytest.mark.parametrize("decay", [0.0, 0.4, 0.9, 1.0])
def test_with_dutch_traces_sarsa_lambda_is_the_online_forward_view_exactly(decay):
    made, tables = agent("sarsa_lambda", Q, trace_decay=decay, traces="dutch"), [Q]
    steps = [tuple(step) for *step, _, _ in stream(5, 300)]
    cuts = [0, *(index + 1 for index, step in enumerate(steps) if step[-1])]
    assert len(cuts) > 30
    for begin, end in itertools.pairwise(cuts):
        tables = online_forward_view(steps[begin:end], tables[-1], decay)
        for step, table in zip(steps[begin:end], tables[1:], strict=True):
            np.testing.assert_allclose(learn(made, *step), table, rtol=0, atol=1e-9)


@pytest.mark.parametrize(
    ("name", "traces"),
    [
        *(("sarsa_lambda", traces) for traces in ("accumulating", "replacing", "dutch")),
        *(("watkins_q_lambda", traces) for traces in ("accumulating", "replacing")),
    ],
)
@pytest.mark.parametrize("ends", ENDS[1:])
def test_traces_end_with_the_episode_and_no_sooner_and_each_environment_has_its_own(name, traces, ends):
    """All is 0 until reward 8: delta = 8. With lambda 1 the trace of the step before is 1/2, so it gets 1/2 * 8 * 1/2."""
    made = agent(name, trace_decay=1.0, traces=traces, num_envs=2)
    learn(made, 0, 0, 0.0, 2, 0)
    learn(made, 1, 0, 0.0, 3, 0, env=1)
    q = learn(made, 2, 0, 8.0, 3, 0, ends)
    np.testing.assert_array_equal(q, changed(0, s0a0=2.0, s2a0=4.0))
    q = learn(made, 0, 1, 8.0, 1, 1)  # in a new episode: alone
    np.testing.assert_array_equal(q, changed(0, s0a0=2.0, s2a0=4.0, s0a1=4.0))
    q = learn(made, 3, 0, 8.0, 1, 1, env=1)
    np.testing.assert_array_equal(q, changed(0, s0a0=2.0, s2a0=4.0, s0a1=4.0, s3a0=4.0, s1a0=2.0))


def test_every_pair_with_a_trace_has_a_step_size_of_its_own_visits():
    """alpha = 1 / visits: Q(0, 0) was visited 4 times, and its trace is 1/4 (gamma, lambda = 1/2): 8 * 1/4 * 1/4 = 1/2."""
    made = agent("sarsa_lambda", trace_decay=0.5, visit_power=1.0)
    made.memory.visits[0, 0] = 3
    learn(made, 0, 0, 0.0, 1, 0, rate=1.0)
    np.testing.assert_array_equal(learn(made, 1, 0, 8.0, 2, 0, rate=1.0), changed(0, s0a0=0.5, s1a0=8.0))


# Q(1) = (4, 8), or (8, 8). Pair (0, 0) with reward 2 to state 1: delta = 2 + 8/2 = 6, Q(0, 0) = 3, z = 1/4. Then a' in
# state 1 with reward 0 to state 2, where all is 0: delta = -Q(1, a'), half of it for (1, a'), an eighth for (0, 0):
@pytest.mark.parametrize(("values", "action", "expected"), [
    ((4.0, 8.0), 1, changed(0, s1a0=4.0, s1a1=4.0, s0a0=2.0)),  # greedy: 3 - 8/8
    ((4.0, 8.0), 0, changed(0, s1a0=2.0, s1a1=8.0, s0a0=3.0)),  # exploring: cut, (0, 0) stays at 3
    ((8.0, 8.0), 0, changed(0, s1a0=4.0, s1a1=8.0, s0a0=2.0)),  # a tie counts as greedy: 3 - 8/8
    ((8.0, 8.0), 1, changed(0, s1a0=8.0, s1a1=4.0, s0a0=2.0)),
])  # fmt: skip
def test_watkins_cuts_the_traces_where_an_exploring_action_begins(values, action, expected):
    made = agent("watkins_q_lambda", trace_decay=0.5)
    made.memory.q[1] = values
    assert learn(made, 0, 0, 2.0, 1, action)[0, 0] == 3.0
    np.testing.assert_array_equal(learn(made, 1, action, 0.0, 2, 0), expected)
