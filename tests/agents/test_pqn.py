"""PQN: its returns by hand, what it converges to in probe environments, and that its parts are wired together."""

import copy

import gymnasium as gym
import numpy as np
import pytest
from policies import PLANE, either, play
from test_contracts import canonical

from rltrain.agents.pqn import PQN, PQNSettings
from rltrain.config.load import from_dict
from rltrain.core import EnvSpec, Transition
from rltrain.experiment import build
from rltrain.exploration.epsilon_greedy import EpsilonGreedy
from rltrain.fitting import fitting_explorations, problems
from rltrain.nn.modules import module_network
from rltrain.nn.optimizers import Diverged
from rltrain.registry import settings_class

HERE = np.array([[1.0, 0.0]], np.float32)
OBS = np.random.default_rng(0).normal(size=(20, 2)).astype(np.float32)
SEEDS = range(20)


def agent(seed=0, *, envs=1, epsilon=1.0, actions=2, start=0, **settings):
    own = {"hidden_sizes": (16,), "n_steps": 4, "batch_size": 16, "n_epochs": 2, "learning_rate": 2e-2, **settings}
    spec = EnvSpec("test", PLANE, gym.spaces.Discrete(actions, start=start), envs)
    exploration = None if own.get("noisy") else EpsilonGreedy(EpsilonGreedy.Config(epsilon=epsilon))
    return PQN(PQNSettings(**own), spec, exploration=exploration, rng=np.random.default_rng(seed), device="cpu")


def test_returns_by_hand(monkeypatch):
    """gamma 0.5, lambda 0.5; an end after step 1, a cut after step 2 whose successor is worth 8, and 10 at the last.

    R_4 = 5 + 0.5*10 = 10.  R_3 = 4 + 0.5 (0.5*6 + 0.5*10) = 8.  R_2 = 3 + 0.5*8 = 7, and not the 100 of the next
    episode's first.  R_1 = 2.  R_0 = 1 + 0.5 (0.5*4 + 0.5*2) = 2.5.
    """
    pqn = agent(n_steps=5, batch_size=5, gamma=0.5, q_lambda=0.5)
    worth = {0: 50, 1: 4, 2: 100, 3: 100, 4: 6, 5: 10, 7: 8, 9: 1_000}  # of the observations by their first number
    places, after = [0, 1, 2, 3, 4], [1, 9, 7, 4, 5]
    for t in range(5):
        obs, next_obs = (np.array([[place[t], 0]], np.float32) for place in (places, after))
        ends, cut = np.array([t == 1]), np.array([t == 2])
        pqn.observe(Transition(obs, np.array([t % 2]), np.array([t + 1.0], np.float32), next_obs, ends, cut))
    rows = lambda seen: np.array([[worth[int(x)], worth[int(x)] - 3] for x in seen[:, 0]], np.float32)  # noqa: E731
    monkeypatch.setattr(pqn.q, "values", rows)
    learnt = {}

    def learn(obs, action, target, weight):
        learnt.update({int(x): (a, r) for x, a, r in zip(obs[:, 0], action, target, strict=True)})
        return obs, target

    monkeypatch.setattr(pqn.q, "learn", learn)
    pqn.update()
    assert [learnt[place] for place in places] == [(0, 2.5), (1, 2), (0, 7), (1, 8), (0, 10)]
    assert pqn.rollout.steps == 0


@pytest.mark.parametrize(("q_lambda", "expected"), [(0.0, [3, 3, 3]), (1.0, [1.75 + 0.5, 1.5 + 1, 1 + 2])])
def test_lambda_0_is_the_next_value_and_lambda_1_the_sum_of_rewards(q_lambda, expected, monkeypatch):
    """Reward 1, gamma 0.5, every observation worth 4: 1 + 2; or 1 + 0.5 + 0.25 + 0.125 * 4 from the first on."""
    pqn = agent(n_steps=3, batch_size=3, gamma=0.5, q_lambda=q_lambda, heads=2)
    play(pqn, 2, length=99)
    monkeypatch.setattr(pqn.q, "values", lambda seen: np.full((2 * len(seen), 2), 4, np.float32))
    kept = []
    monkeypatch.setattr(pqn, "_minibatches", lambda count: kept.append(pqn._returns(pqn.rollout.everything_seen())) or [slice(3)])  # fmt: skip
    play(pqn, 1, length=99)
    np.testing.assert_allclose(kept[0], np.stack([expected] * 2, 1), atol=1e-6)


def worth(seed, ends, steps, **settings):
    """What 1 a step is worth at gamma 0.98 where episodes of 8 steps end so, and there is one action."""
    rate = {"schedule": "linear", "start": 0.3, "end": 0.005, "steps": 8 * steps}
    learnt = agent(seed, envs=8, actions=1, gamma=0.98, learning_rate=rate, **settings)
    return float(play(learnt, steps, envs=8, ends=ends).values(HERE)[0, 0])


def test_reward_1_for_ever_is_worth_50_at_gamma_098_although_episodes_are_cut_at_8():
    assert [worth(seed, "truncated", 240, q_lambda=0.95) for seed in SEEDS] == pytest.approx([50] * 20, abs=2.5)


def test_the_same_with_real_ends_is_worth_less():
    """v = 1 + 0.98 * 7/8 v = 7.02 by one-step targets."""
    values = [worth(seed, "terminated", 100, q_lambda=0.0) for seed in SEEDS]
    assert values == pytest.approx([7.02] * 20, abs=0.5)


@pytest.mark.parametrize(
    ("settings", "seeds"),
    [({}, 20), ({"dueling": True, "loss": "huber"}, 5), ({"layer_norm": False}, 5), ({"noisy": True}, 5)],
)
def test_the_better_action_and_its_worth_are_learnt_on_every_seed(settings, seeds):
    for seed in range(seeds):
        learnt = agent(seed, envs=8, start=3, gamma=0.0, **settings)
        play(learnt, 60, envs=8, reward=lambda obs, action: float(action == 4))
        assert learnt.act(np.repeat(HERE, 5, 0), explore=False).tolist() == [4] * 5
        if not settings.get("noisy"):  # the mean weights, which nobody acted under, are not the mean of values
            assert learnt.values(HERE)[0] == pytest.approx([0, 1], abs=0.25)


def test_the_best_action_of_each_observation_is_learnt_on_every_seed():
    for seed in SEEDS:
        learnt = agent(seed, envs=8)
        paid = lambda obs, action: float(action == (obs[0] > 0))  # noqa: E731
        play(learnt, 80, envs=8, length=1, ends="terminated", sees=either, reward=paid, seed=seed)
        both = np.array([[-1, 1], [1, 1]], np.float32)
        assert learnt.act(both, explore=False).tolist() == [0, 1]
        np.testing.assert_allclose(learnt.values(both), np.eye(2), atol=0.3)


def test_every_head_learns_towards_its_own_values(monkeypatch):
    pqn = agent(envs=2, heads=3, prior_scale=1.0, gamma=0.5, q_lambda=0.0)
    play(pqn, 3, envs=2, length=99)
    q = pqn.q.values(np.array([[0.0, 1.0]], np.float32)).copy()  # (3, 2)
    seen = []
    learn = pqn.q.learn
    monkeypatch.setattr(pqn.q, "learn", lambda *arguments: seen.append(arguments[2]) or learn(*arguments))
    play(pqn, 1, envs=2, length=99, sees=lambda rng, envs: np.tile(np.array([0, 1], np.float32), (envs, 1)))
    last = {tuple(np.round(row, 4)) for row in seen[0].reshape(-1, 3)}
    assert tuple(np.round(1 + 0.5 * q.max(1), 4)) in last


def test_the_gradient_is_cut_to_its_greatest_norm_and_adam_has_its_eps():
    """Adam's first step is rate * g / (|g| + eps)."""
    pqn = agent(n_epochs=1, max_grad_norm=0.01, adam_eps=0.5, learning_rate=0.1)
    before = pqn.q.network.parameters.copy()
    gradient = play(pqn, 4).q.network.gradient
    assert np.linalg.norm(gradient) == pytest.approx(0.01, rel=1e-4)
    step = 0.1 * gradient / (abs(gradient) + 0.5)
    np.testing.assert_allclose(before - pqn.q.network.parameters, step, atol=1e-7)


def test_every_step_is_learnt_from_once_an_epoch(monkeypatch):
    pqn = agent(envs=3, n_steps=6, batch_size=5, n_epochs=3)
    play(pqn, 5, envs=3)
    learn, kept = pqn.q.learn, []
    monkeypatch.setattr(pqn.q, "learn", lambda obs, *rest: kept.append(obs[:, 0].copy()) or learn(obs, *rest))
    pqn.rollout.obs[:, :, 0] = np.arange(18).reshape(6, 3)
    pqn.observe(Transition(np.array([[15, 0], [16, 0], [17, 0]], np.float32), np.zeros(3, int), np.ones(3, np.float32), np.zeros((3, 2), np.float32), np.zeros(3, bool), np.zeros(3, bool)))  # fmt: skip
    pqn.update()
    assert [len(rows) for rows in kept] == [5, 5, 5, 3] * 3
    epochs = [np.concatenate(kept[at : at + 4]).tolist() for at in (0, 4, 8)]
    assert [sorted(epoch) for epoch in epochs] == [list(range(18))] * 3
    assert epochs[0] != epochs[1] != epochs[2]


NETWORKS = [{}, {"heads": 3, "prior_scale": 1.0, "dueling": True}, {"noisy": True, "activation": "tanh"}]


@pytest.mark.parametrize("settings", NETWORKS)
def test_fused_and_autograd_networks_learn_the_same(settings, monkeypatch):
    fused = play(agent(envs=2, learning_rate=3e-3, **settings), 24, envs=2, sees=either)
    monkeypatch.setattr("rltrain.nn.q_functions.build", module_network)
    module = play(agent(envs=2, learning_rate=3e-3, **settings), 24, envs=2, sees=either)
    assert module.q.network.device == "cpu"
    np.testing.assert_allclose(fused.values(OBS), module.values(OBS), atol=1e-4)
    assert np.abs(fused.values(OBS) - agent(envs=2, **settings).values(OBS)).max() > 1e-2


@pytest.mark.parametrize("settings", NETWORKS)
def test_state_taken_in_the_middle_of_a_rollout_goes_on_the_same(settings):
    first, second = (agent(seed, envs=3, epsilon=0.3, **settings) for seed in (0, 1))
    play(first, 18, envs=3, length=7)
    play(second, 3, envs=3)
    state = copy.deepcopy(first.state_dict())
    second.load_state_dict(copy.deepcopy(state))
    assert canonical(second.state_dict()) == canonical(state)
    for one in (first, second):
        play(one, 15, envs=3, seed=5, sees=either)
    assert canonical(first.state_dict()) == canonical(second.state_dict()) != canonical(state)


def test_a_gradient_that_is_not_finite_stops_before_it_does_harm():
    pqn = play(agent(), 7)
    before = pqn.q.network.parameters.copy()
    with np.errstate(all="ignore"), pytest.raises(Diverged, match="step 8"):
        play(pqn, 1, reward=lambda obs, action: np.inf)
    assert np.array_equal(pqn.q.network.parameters, before)


def config(exploration="epsilon_greedy", env="CartPole-v1", **settings):
    return from_dict(
        {
            "env": {"id": env, "num_envs": 2},
            "agent": {"name": "pqn", "hidden_sizes": [8], "n_steps": 8, "batch_size": 8, **settings},
            "exploration": None if exploration is None else {"name": exploration},
            "train": {"total_steps": 1_000},
            "device": "cpu",
        }
    ).config


def test_every_exploration_that_goes_with_dqn_goes_with_it():
    told = [{}, {"heads": 3}, {"visits": {"hash": "simhash"}}, {"noisy": True}]
    fitting = [[fitting_explorations(settings_class("agents", name)(name=name, **own)) for own in told] for name in ("dqn", "pqn")]  # fmt: skip
    assert fitting[0] == fitting[1]
    assert "thompson" in fitting[1][1]
    assert "ucb" in fitting[1][2]


@pytest.mark.parametrize(
    ("exploration", "settings"),
    [*((name, {}) for name in fitting_explorations(settings_class("agents", "pqn")(name="pqn"))),
     ("thompson", {"heads": 3}), ("thompson", {"visits": {}}), ("ucb", {"visits": {}}), (None, {"noisy": True})],
)  # fmt: skip
def test_it_learns_with_every_exploration_and_goes_on_exactly(exploration, settings):
    made = config(exploration, **settings)
    assert problems(made) == []
    first, second = build(made), build(made)
    begun = first.agent.q.network.parameters.copy()
    first.loop.advance(100)
    assert not np.array_equal(first.agent.q.network.parameters, begun)
    second.agent.load_state_dict(first.agent.state_dict())
    second.loop.load_state_dict(first.loop.state_dict())
    for run in (first, second):
        run.loop.advance(60)
    assert canonical(second.agent.state_dict()) == canonical(first.agent.state_dict())


@pytest.mark.parametrize(
    ("settings", "path", "words"),
    [
        ({"batch_size": 17}, "agent.batch_size", "8 steps of 2 environments are 16"),
        ({"n_steps": 501}, "agent.n_steps", "never full"),
        ({"env": "Pendulum-v1"}, "agent.name", "needs Discrete actions"),
        ({"env": "Blackjack-v1"}, "agent.name", "add the wrapper flatten"),
        ({"encoder": "nature"}, "agent.encoder", "is for images"),
        ({"hidden_sizes": []}, "agent.layer_norm", "or this to false"),
        ({"exploration": "ucb"}, "exploration.name", "set agent.visits={hash: simhash}"),
        ({"exploration": None}, "exploration", "needs an exploration"),
    ],
)
def test_what_does_not_fit_is_refused_with_its_place(settings, path, words):
    (found,) = problems(config(**settings))
    assert found.path == path
    assert words in found.message
