"""Parts of DQN that are settings: prioritised replay, the Munchausen term, and double learning, by hand."""

import gymnasium as gym
import numpy as np
import pytest
from test_contracts import canonical
from test_dqn import agent, play

from rltrain.agents.dqn import DQN, DQNSettings
from rltrain.core import EnvSpec, Transition
from rltrain.exploration.epsilon_greedy import EpsilonGreedy
from rltrain.nn import losses
from rltrain.nn.modules import module_network
from rltrain.priorities import PrioritySettings
from rltrain.q_settings import MunchausenSettings

OBS = np.random.default_rng(0).normal(size=(20, 2)).astype(np.float32)


# --- prioritised replay


@pytest.mark.parametrize("heads", [1, 3])
def test_priorities_are_the_errors_of_the_step_and_the_next_step_draws_by_them(heads, monkeypatch):
    dqn = play(agent(prioritized={"alpha": 1.0, "eps": 1e-9}, heads=heads, gradient_steps=2), 30)
    order, errors = [], []
    sample, update, learn = dqn.replay.sample, dqn.replay.update_priorities, dqn.q.learn

    def learnt(*arguments):
        q, error = learn(*arguments)
        errors.append(abs(error).reshape(16, heads).mean(1))
        order.append("learn")
        return q, error

    def updated(indices, error):
        np.testing.assert_array_equal(error, errors[-1])
        order.append("update")
        update(indices, error)

    monkeypatch.setattr(dqn.replay, "sample", lambda *a, **k: (order.append("sample"), sample(*a, **k))[1])
    monkeypatch.setattr(dqn.replay, "update_priorities", updated)
    monkeypatch.setattr(dqn.q, "learn", learnt)
    play(dqn, 1)
    assert order == ["sample", "learn", "update"] * 2


def test_weights_follow_the_schedule_of_beta(monkeypatch):
    beta = {"schedule": "linear", "start": 0.4, "end": 1.0, "steps": 60}
    dqn, seen = agent(prioritized={"beta": beta}), []
    sample = dqn.replay.sample
    monkeypatch.setattr(dqn.replay, "sample", lambda rows, *, beta: (seen.append(beta), sample(rows, beta=beta))[1])
    play(dqn, 90)
    np.testing.assert_allclose(seen, [min(0.4 + 0.01 * step, 1.0) for step in range(1, 91)], rtol=1e-12)


def test_without_priorities_nothing_is_weighted_and_blocks_are_drawn_at_once():
    plain, prioritized = agent(), agent(prioritized={})
    assert (plain.block, prioritized.block) == (32, 1)
    play(plain, 20)
    assert "priorities" not in plain.replay.state_dict()
    assert (plain.replay.sample(10).weight == 1).all()


def test_what_is_rare_is_replayed_more_often_than_by_chance():
    """One step in 50 pays 10; its error stays the greatest of all, as long as it is not learnt."""
    dqn = agent(prioritized={}, learning_rate=1e-6, gamma=0.0)
    count = iter(range(10**6))
    play(dqn, 400, reward=lambda obs, action: 10.0 * (next(count) % 50 == 0))
    drawn = np.concatenate([dqn.replay.sample(16).reward.copy() for _ in range(50)])
    assert (drawn == 10).mean() > 0.1


@pytest.mark.parametrize("settings", [{}, {"n_step": 3, "double": True, "dueling": True}, {"heads": 3}])
def test_with_priorities_a_reward_of_1_for_ever_is_worth_10_at_gamma_09(settings):
    beta = {"schedule": "linear", "start": 0.4, "end": 1.0, "steps": 600}
    learnt = play(agent(gamma=0.9, target_update_interval=5, prioritized={"beta": beta}, **settings), 800)
    assert learnt.values(OBS[:1] * 0).max() == pytest.approx(10, abs=0.7)


def test_a_restored_agent_goes_on_exactly():
    parts = {"prioritized": {}, "munchausen": {}, "double": True, "n_step": 3}
    first, second = agent(**parts), agent(seed=0, **parts)
    play(first, 40)
    play(second, 90)
    second.load_state_dict(first.state_dict())
    for dqn in (first, second):
        play(dqn, 40)
    assert canonical(first.state_dict()) == canonical(second.state_dict())


# --- Munchausen


def test_the_munchausen_term_by_hand():
    """t = 0.5: pi = softmax(2, 0, -8): log pi(0) = -log(1 + e^-2 + e^-10) = -0.126968, so t log pi = -0.063484; the last
    action has 0.5 * (-10.126968) = -5.06, which counts as -1."""
    q = np.array([[1.0, 0.0, -4.0], [1.0, 0.0, -4.0]])
    term = losses.munchausen_term(q, np.array([0, 2]), 0.5, -1.0)
    np.testing.assert_allclose(term, [-0.5 * np.log(1 + np.exp(-2) + np.exp(-10)), -1.0], rtol=1e-12)
    np.testing.assert_allclose(term[0], -0.063484, atol=1e-6)


def test_the_soft_value_by_hand_and_with_a_small_temperature_the_greatest():
    """t = 1, q = (log 3, 0): pi = (3/4, 1/4). Values (8, 4): 7. Entropy: 3/4 log 4/3 + 1/4 log 4."""
    q = np.log(np.array([[3.0, 1.0]]))
    value, entropy = losses.soft_value(q, np.array([[8.0, 4.0]]), 1.0)
    np.testing.assert_allclose(value, [7.0])
    np.testing.assert_allclose(entropy, [0.75 * np.log(4 / 3) + 0.25 * np.log(4)])
    atoms, _ = losses.soft_value(q, np.array([[[8.0, 0.0], [4.0, 2.0]]]), 1.0)
    np.testing.assert_allclose(atoms, [[7.0, 0.5]])
    value, entropy = losses.soft_value(q, q, 1e-3)
    np.testing.assert_allclose([value[0], entropy[0]], [np.log(3), 0], atol=1e-9)


SPEC = EnvSpec("test", gym.spaces.Box(-10, 10, (2,), np.float32), gym.spaces.Discrete(2), 1)
NOW, NEXT, ONLINE = np.array([1.0, 3.0]), np.array([2.0, 4.0]), np.array([5.0, 1.0])  # the target's, and the network's


@pytest.mark.parametrize(
    ("settings", "expected"),
    # r = 1, discount 0.5, action 0. Double: the network prefers action 0, which the target values at 2.
    # Munchausen, t = 1, alpha = 0.5: log pi(0|s) = -log(1 + e^2) = -2.126928, cut at -2; policy of s' from the target's
    # values: p = 1 / (1 + e^2) for action 0; by double from the network's: p = 1 / (1 + e^-4).
    [
        ({}, 1 + 0.5 * 4),
        ({"double": True}, 1 + 0.5 * 2),
        ({"munchausen": (0.5, 1.0, -2.0)}, 1 - 1 + 0.5 * np.log(np.exp(2) + np.exp(4))),
        (
            {"munchausen": (0.5, 1.0, -9.0), "double": True},
            1 - 0.5 * 2.1269280 + 0.5 * (2 * 0.9820138 + 4 * 0.0179862 + 0.0900945),
        ),
    ],
)
def test_the_target_by_hand_where_the_parts_differ(settings, expected, monkeypatch):
    soft = settings.get("munchausen")
    munchausen = None if soft is None else MunchausenSettings(alpha=soft[0], temperature=soft[1], floor=soft[2])
    config = DQNSettings(
        batch_size=1, buffer_size=10, gamma=0.5, hidden_sizes=(4,), double="double" in settings, munchausen=munchausen
    )
    exploration = EpsilonGreedy(EpsilonGreedy.Config())
    dqn = DQN(config, SPEC, exploration=exploration, rng=np.random.default_rng(0), device="cpu")
    obs, next_obs, no = np.zeros((1, 2), np.float32), np.ones((1, 2), np.float32), np.array([False])
    dqn.observe(Transition(obs, np.array([0]), np.ones(1, np.float32), next_obs, no, no))
    monkeypatch.setattr(dqn.target, "values", lambda x: (NEXT if x[0, 0] else NOW)[None])
    monkeypatch.setattr(dqn.q, "values", lambda x: ONLINE[None])
    targets = []
    monkeypatch.setattr(
        dqn.q, "learn", lambda x, action, target, weight: targets.append(target) or (ONLINE[None], target)
    )
    dqn._gradient_steps(1)
    np.testing.assert_allclose(targets[0], [expected], rtol=1e-6)


def test_munchausen_prefers_nothing_where_actions_are_alike_and_learns_what_is_better():
    """gamma = 0, actions alike: Q = r + alpha t log(1/2) for both, by a policy of 1/2 each."""
    soft = {"alpha": 1.0, "temperature": 1.0, "floor": -5.0}
    learnt = play(agent(gamma=0.0, munchausen=soft, target_update_interval=5, loss="mse"), 800)
    np.testing.assert_allclose(learnt.values(OBS[:1] * 0)[0], 1 + np.log(0.5), atol=0.15)
    better = play(agent(gamma=0.9, munchausen={}), 300, reward=lambda obs, action: float(action == 1))
    assert better.act(OBS[:1] * 0, explore=False).tolist() == [1]


def test_all_parts_through_torch_learn_the_same(monkeypatch):
    parts = {"prioritized": {}, "munchausen": {}, "double": True, "dueling": True, "n_step": 3}
    fused = play(agent(**parts), 60)
    monkeypatch.setattr("rltrain.nn.q_functions.build", module_network)
    module = play(agent(**parts), 60)
    np.testing.assert_allclose(fused.values(OBS), module.values(OBS), atol=5e-5)


def test_the_defaults_are_the_papers():
    assert MunchausenSettings().model_dump() == {"alpha": 0.9, "temperature": 0.03, "floor": -1.0}
    assert PrioritySettings().model_dump()["alpha"] == 0.6
