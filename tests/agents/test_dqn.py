"""DQN: what it converges to, when it updates what, and that its parts are wired as the papers say."""

import gymnasium as gym
import numpy as np
import pytest

from rltrain.agents.dqn import DQN, DQNSettings
from rltrain.core import EnvSpec, Transition
from rltrain.exploration.epsilon_greedy import EpsilonGreedy
from rltrain.nn.modules import module_network
from rltrain.nn.optimizers import Diverged
from rltrain.schedules import Constant

SPEC = EnvSpec("test", gym.spaces.Box(-10, 10, (2,), np.float32), gym.spaces.Discrete(2), 1)


def agent(seed=0, *, spec=SPEC, **settings):
    defaults = {
        "hidden_sizes": (16,),
        "batch_size": 16,
        "buffer_size": 500,
        "learning_starts": 0,
        "train_freq": 1,
        "target_update_interval": 20,
        "learning_rate": Constant(value=5e-3),
    }
    config = DQNSettings(**{**defaults, **settings})
    exploration = EpsilonGreedy(EpsilonGreedy.Config(epsilon=1.0))
    return DQN(config, spec, exploration=exploration, rng=np.random.default_rng(seed), device="cpu")


def play(agent, steps, *, length=8, reward=lambda obs, action: 1.0, ends="truncated"):
    """An environment in which nothing changes; episodes of `length` steps end as told."""
    obs = np.zeros((1, 2), np.float32)
    for step in range(1, steps + 1):
        action = agent.act(obs)
        over = np.array([step % length == 0])
        no = np.array([False])
        agent.observe(
            Transition(
                obs, action, np.array([reward(obs, action[0])], np.float32), obs,
                over if ends == "terminated" else no, over if ends == "truncated" else no,
            )
        )  # fmt: skip
        agent.update()
    return agent


@pytest.mark.parametrize("settings", [{}, {"double": True}, {"dueling": True}, {"n_step": 3}, {"loss": "mse"}])
def test_reward_1_for_ever_is_worth_50_at_gamma_098_although_episodes_are_cut_at_8(settings):
    learnt = play(agent(gamma=0.98, target_update_interval=5, **settings), 4_000)
    assert learnt.values(np.zeros((1, 2), np.float32)).max() == pytest.approx(50, abs=2.5)


def test_the_same_with_real_ends_is_worth_less():
    """v = 1 + 0.98 * 7/8 * v, so v = 7.02; with mse, since the Huber loss does not estimate means."""
    learnt = play(agent(gamma=0.98, target_update_interval=5, loss="mse", batch_size=128), 4_000, ends="terminated")
    assert learnt.values(np.zeros((1, 2), np.float32)).max() == pytest.approx(7.02, abs=1.5)


@pytest.mark.parametrize("seed", range(20))
def test_the_better_action_is_learnt_on_every_seed(seed):
    learnt = play(agent(seed, gamma=0.0), 300, reward=lambda obs, action: float(action == 1))
    assert learnt.act(np.zeros((5, 2), np.float32), explore=False).tolist() == [1] * 5
    np.testing.assert_allclose(learnt.values(np.zeros((1, 2), np.float32))[0], [0, 1], atol=0.1)


def test_the_target_network_changes_only_at_its_interval_and_shares_no_memory():
    dqn = agent(target_update_interval=20)
    start = dqn.target.network.parameters.copy()
    assert not np.shares_memory(dqn.target.network.parameters, dqn.q.network.parameters)
    play(dqn, 19)
    assert np.array_equal(dqn.target.network.parameters, start)
    assert not np.array_equal(dqn.q.network.parameters, start)
    before = dqn.q.network.parameters.copy()
    play(dqn, 1)
    assert np.array_equal(dqn.target.network.parameters, before)  # copied before the gradient step


def test_with_tau_the_target_network_goes_a_share_of_the_way():
    dqn = play(agent(target_update_interval=20, tau=0.25), 19)
    target, network = dqn.target.network.parameters.copy(), dqn.q.network.parameters.copy()
    assert abs(target - network).max() > 1e-2
    play(dqn, 1)
    np.testing.assert_allclose(dqn.target.network.parameters, 0.75 * target + 0.25 * network, atol=1e-7)


def test_the_gradient_is_cut_to_its_greatest_norm_and_adam_has_its_eps():
    """Adam's first step is rate * g / (|g| + eps)."""
    dqn = agent(max_grad_norm=0.01, adam_eps=0.5, learning_rate=0.1)
    before = dqn.q.network.parameters.copy()
    gradient = play(dqn, 1).q.network.gradient
    assert np.linalg.norm(gradient) == pytest.approx(0.01, rel=1e-4)
    step = 0.1 * gradient / (abs(gradient) + 0.5)
    np.testing.assert_allclose(before - dqn.q.network.parameters, step, atol=1e-7)


def test_blocks_of_gradient_steps_come_when_due():
    dqn = agent(train_freq=4, gradient_steps=-1, learning_starts=10)
    play(dqn, 8)
    assert dqn.optimizer.state_dict()["step"] == 0
    play(dqn, 8)  # steps 9 to 16: blocks at 12 and 16; nothing at 4 and 8, before learning starts
    assert dqn.optimizer.state_dict()["step"] == 8


def test_fused_and_autograd_networks_learn_the_same(monkeypatch):
    fused = play(agent(double=True, n_step=3), 60)
    monkeypatch.setattr("rltrain.nn.q_functions.build", module_network)
    module = play(agent(double=True, n_step=3), 60)
    obs = np.random.default_rng(0).normal(size=(20, 2)).astype(np.float32)
    np.testing.assert_allclose(fused.values(obs), module.values(obs), atol=2e-5)


def test_dueling_values_have_the_state_value_as_their_mean():
    dqn = agent(dueling=True)
    obs = np.random.default_rng(0).normal(size=(20, 2)).astype(np.float32)
    outputs = dqn.q.network.infer(obs)
    np.testing.assert_allclose(dqn.values(obs).mean(axis=1), outputs[:, 0], atol=1e-5)
    np.testing.assert_allclose(dqn.values(obs)[:, 0] - dqn.values(obs)[:, 1], outputs[:, 1] - outputs[:, 2], atol=1e-5)


def test_a_gradient_that_is_not_finite_stops_before_it_does_harm():
    dqn = play(agent(), 30)
    before = dqn.q.network.parameters.copy()
    dqn.target.network.parameters.fill(np.nan)
    with pytest.raises(Diverged, match="step 31"):
        play(dqn, 1)
    assert np.array_equal(dqn.q.network.parameters, before)


def test_the_learning_rate_follows_its_schedule_to_zero():
    dqn = agent(learning_rate={"schedule": "linear", "start": 1e-2, "end": 0.0, "steps": 30})
    play(dqn, 30)
    before = dqn.q.network.parameters.copy()
    play(dqn, 5)
    assert np.array_equal(dqn.q.network.parameters, before)


@pytest.mark.parametrize("settings", [{}, {"munchausen": {}, "double": True, "heads": 2}])
def test_actions_that_do_not_begin_at_0_are_learnt_as_those_that_do(settings):
    from_5 = EnvSpec("test", SPEC.observation_space, gym.spaces.Discrete(2, start=5), 1)
    plain = play(agent(**settings), 60, reward=lambda obs, action: float(action == 1))
    other = play(agent(spec=from_5, **settings), 60, reward=lambda obs, action: float(action == 6))
    assert np.array_equal(other.q.network.parameters, plain.q.network.parameters)
    assert np.array_equal(other.act(np.zeros((3, 2), np.float32)), plain.act(np.zeros((3, 2), np.float32)) + 5)


def test_an_ensemble_of_one_without_priors_is_the_plain_network_and_more_heads_learn_each_for_itself():
    many = play(agent(heads=3, gamma=0.0), 300, reward=lambda obs, action: float(action == 1))
    assert many.q.infer(np.zeros((2, 2), np.float32)).shape == (2, 3, 2)
    np.testing.assert_allclose(many.q.infer(np.zeros((1, 2), np.float32))[0], [[0, 1]] * 3, atol=0.15)
    fresh = agent(heads=3).q.infer(np.ones((1, 2), np.float32))[0]
    assert np.abs(fresh[0] - fresh[1]).max() > 0.01


def test_priors_stay_as_they_are_and_keep_heads_apart_where_nothing_was_learnt():
    dqn = agent(heads=4, prior_scale=5.0, gamma=0.0)
    before = dqn.q.prior.parameters.copy()
    assert dqn.target.prior is dqn.q.prior
    play(dqn, 400, reward=lambda obs, action: float(action == 1))
    np.testing.assert_array_equal(dqn.q.prior.parameters, before)
    seen, unseen = (
        dqn.q.infer(obs.astype(np.float32))[0].std(axis=0).max() for obs in (np.zeros((1, 2)), np.full((1, 2), 4.0))
    )
    assert seen < 0.3 < unseen


@pytest.mark.parametrize(
    "settings", [{"heads": 3, "prior_scale": 2.0, "dueling": True}, {"heads": 2, "double": True, "layer_norm": True}]
)
def test_heads_and_priors_through_torch_learn_the_same(settings, monkeypatch):
    fused = play(agent(**settings), 60)
    monkeypatch.setattr("rltrain.nn.q_functions.build", module_network)
    module = play(agent(**settings), 60)
    obs = np.random.default_rng(0).normal(size=(20, 2)).astype(np.float32)
    np.testing.assert_allclose(fused.values(obs), module.values(obs), atol=5e-5)
