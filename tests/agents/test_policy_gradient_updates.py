"""Single updates of policy-gradient agents: against hand-worked numbers, finite differences, and what may not happen."""

import gymnasium as gym
import numpy as np
import pytest
from policies import AGENTS, CRITICS, LINE, PLANE, TWO, agent, either, outputs, play

from rltrain.core import Transition
from rltrain.nn.modules import module_network
from rltrain.nn.optimizers import Diverged
from rltrain.rollout import BadObservation

POINT = gym.spaces.Box(-10, 10, (1,), np.float32)
PLAIN = {"optimizer": "sgd", "max_grad_norm": None}


def feed(policy, obs, choice, reward, after, terminated=False, truncated=False):
    """A step whose action is given; one environment."""
    obs, after = np.array([obs]), np.array([after])
    policy.act(obs)
    policy._choice = np.array([[choice]], policy.policy.choice_dtype)
    ends = np.array([terminated]), np.array([truncated])
    policy.observe(Transition(obs, policy.policy.action(policy._choice), np.array([reward], np.float32), after, *ends))
    return policy.update()


def step_of_the_book(w, theta, s, action, delta, weight):
    """w += 0.1 delta grad V, theta += 0.2 I delta grad log pi, for V = w (s, 1) and odds theta (s, 1), by hand."""
    p = np.exp(s * theta[0] + theta[1])
    slope = np.eye(2)[action] - p / p.sum()  # of log pi in the two outputs
    return w + 0.1 * delta * np.array([s, 1]), theta + 0.2 * weight * delta * np.outer([s, 1], slope)


@pytest.mark.parametrize("weighting", [False, True])
def test_actor_critic_updates_as_the_book_says(weighting):
    """A linear critic V(s) = 0.5 s + 1 and an actor that begins with even odds; gamma 0.5.

    1. s = 2, s' = 4: V = 2, V' = 3, r = 1, delta = 1 + 0.5 * 3 - 2 = 0.5. I = 1.
       w = (0.5 + 0.1 * 0.5 * 2, 1 + 0.1 * 0.5) = (0.6, 1.05);  theta: +- 0.2 * 0.5 * 0.5 * (2, 1) = +-(0.1, 0.05)
    2. s = 4, the end: V = 0.6 * 4 + 1.05 = 3.45, r = 2, delta = 2 - 3.45 = -1.45. I = 0.5 with weighting.
    3. s = 1, cut at s' = 3, r = 0: delta = 0.5 V(3) - V(1), with what w is by then. I = 1 again.
    """
    own = {"learning_rate": 0.2, "critic_learning_rate": 0.1, "discount_weighting": weighting, "gamma": 0.5}
    learnt = agent("actor_critic", observations=POINT, hidden_sizes=(), **own, **PLAIN)
    learnt.network.parameters[:] = [0.5, 1, 0, 0, 0, 0]
    feed(learnt, [2.0], 1, 1.0, [4.0])
    np.testing.assert_allclose(learnt.network.parameters, [0.6, 1.05, -0.1, 0.1, -0.05, 0.05], atol=1e-6)
    feed(learnt, [4.0], 0, 2.0, [9.0], terminated=True)
    w, theta = step_of_the_book(
        np.array([0.6, 1.05]), np.array([[-0.1, 0.1], [-0.05, 0.05]]), 4, 0, -1.45, 0.5 if weighting else 1
    )
    np.testing.assert_allclose(learnt.network.parameters, [*w, *theta.ravel()], atol=1e-6)
    feed(learnt, [1.0], 0, 0.0, [3.0], truncated=True)
    w, theta = step_of_the_book(w, theta, 1, 0, 0.5 * (3 * w[0] + w[1]) - (w[0] + w[1]), 1)
    np.testing.assert_allclose(learnt.network.parameters, [*w, *theta.ravel()], atol=1e-6)


REWARD, LATER = np.array([1.0, -0.5]), np.array([[0.3, 2.0], [-1.0, 1.5]])  # r_0(a), and r_1(a, b)


def expected_return(policy):
    """J = sum_a pi(a|s_0) [r_0(a) + gamma sum_b pi(b|s_a) r_1(a, b)], gamma 0.5, in double precision."""
    rows = policy.network.infer(np.eye(3, dtype=np.float32), policy._policy).astype(float)
    p = np.exp(rows) / np.exp(rows).sum(1, keepdims=True)
    return float(p[0] @ (REWARD + 0.5 * (p[1:] * LATER).sum(1))), p


def difference(policy):
    """Finite differences of J, (P,)."""
    found = np.zeros(len(policy.network.parameters))
    for k in range(len(found)):
        here, values = policy.network.parameters[k], []
        for step in (0.01, -0.01):
            policy.network.parameters[k] = here + step
            values.append(expected_return(policy)[0])
        policy.network.parameters[k] = here
        found[k] = (values[0] - values[1]) / 0.02
    return found


@pytest.mark.parametrize("name", ["reinforce", "reinforce_alone"])
def test_reinforce_follows_the_gradient_of_the_expected_return_only_with_discount_weighting(name):
    """State 0 leads to 1 or 2 as the action says, and these to the end: four episodes, each with its probability.

    The mean over them, of what an update takes from each, is the slope of J; a baseline changes nothing in the mean.
    """
    errors = []
    for weighting in (True, False):
        own = {"episodes_per_update": 1, "gamma": 0.5, "learning_rate": 0.0, "init": "uniform", "hidden_sizes": (4,)}
        policy = agent(name, observations=gym.spaces.Discrete(3), discount_weighting=weighting, **own, **PLAIN)
        mean, (_, p) = np.zeros(len(policy.network.parameters)), expected_return(policy)
        for a in (0, 1):
            for b in (0, 1):
                feed(policy, 0, a, REWARD[a], a + 1)
                feed(policy, a + 1, b, LATER[a, b], 0, terminated=True)
                mean -= p[0, a] * p[a + 1, b] * policy.network.gradient
        actor = slice(3 * 4 + 4 + 4 + 1 if name == "reinforce" else 0, None)  # after the critic's
        expected = difference(policy)[actor]
        assert np.abs(expected).max() > 0.05
        errors.append(np.abs(mean[actor] - expected).max())
    assert errors[0] < 1e-4
    assert errors[1] > 1e-2


@pytest.mark.parametrize(("truncated", "beyond"), [(False, 0.0), (True, 8.0)])
def test_returns_run_to_the_end_of_each_environments_own_episode(truncated, beyond):
    """Rewards 1, 2, 3 at gamma 0.5: G = 3 + 0.5 B, 2 + 0.5 * 3 = 3.5 + 0.25 B, 1 + 0.5 * 3.5 = 2.75 + 0.125 B.

    B is the baseline of the last state where the episode was cut, here 8, and 0 where it ended.
    """
    learnt = agent("reinforce", observations=POINT, hidden_sizes=(), envs=2, gamma=0.5, episodes_per_update=9)
    learnt.network.parameters[:2] = [2, 0]  # V(s) = 2 s
    for t, over in enumerate([False, False, True]):
        obs = np.array([[t], [100.0]], np.float32)
        learnt.act(obs)
        ends = [np.array([over and kind == truncated, False]) for kind in (False, True)]
        after = np.array([[t + 2.0], [100.0]], np.float32)  # 4 at last, worth 8
        learnt.observe(Transition(obs, None, np.array([t + 1, 50], np.float32), after, *ends))
    (episode,) = learnt._ended
    assert [row.tolist() for row in episode.obs] == [[0], [1], [2]]
    assert learnt._returns(episode).tolist() == [2.75 + 0.125 * beyond, 3.5 + 0.25 * beyond, 3 + 0.5 * beyond]
    assert learnt._open[1].reward == [50, 50, 50]


def test_ppo_stops_early_beyond_the_target_divergence_and_goes_on_with_the_next_rollout():
    """The first gradient of an update is taken where nothing has moved; here the second is one too many."""
    own = {"n_steps": 8, "batch_size": 8, "n_epochs": 5, "learning_rate": 0.1}
    for target, steps in ((1e-4, [1, 2]), (None, [5, 10]), (100.0, [5, 10])):
        learnt = agent("ppo", target_kl=target, **own)
        learn, passes = learnt.network.learn, []
        learnt.network.learn = lambda *rest: passes.append(1) or learn(*rest)  # noqa: B023
        for expected in steps:
            play(learnt, 8, reward=lambda obs, action: float(action == 1))
            assert len(passes) == expected * (2 if target == 1e-4 else 1)
            assert learnt.optimizer.state_dict()["step"] == expected
            assert learnt.rollout.steps == 0


@pytest.mark.parametrize("name", AGENTS)
def test_schedules_follow_environment_steps_whatever_the_number_of_environments(name):
    falling = {"schedule": "linear", "start": 1.0, "end": 0.0, "steps": 64}
    for envs in (1, 4, 16):
        own = {"n_steps": 16 // envs} if name in ("a2c", "ppo") else {}
        own |= {"episodes_per_update": envs} if "reinforce" in name else {}
        own |= {"clip_range": falling} if name == "ppo" else {}
        learnt = agent(name, envs=envs, learning_rate=falling, **own)
        update, reported = learnt.update, {}
        learnt.update = lambda: reported.update({learnt._steps: found}) if (found := update()) else found  # noqa: B023
        step, applied = learnt.optimizer.step, {}
        learnt.optimizer.step = lambda gradient, rate: applied.update({learnt._steps: rate}) or step(gradient, rate)  # noqa: B023
        play(learnt, 48 // envs, envs=envs, length=16 // envs)
        for at, expected in ((16, 0.75), (32, 0.5), (48, 0.25)):
            assert applied[at] == reported[at]["train/learning_rate"] == expected
            assert reported[at].get("train/clip_range", expected) == expected
        if name in ("a2c", "ppo"):
            assert list(reported) == [16, 32, 48]


def test_every_row_is_used_once_an_epoch_and_the_last_minibatch_is_smaller():
    learnt, seen = agent("ppo", n_steps=10, batch_size=4, n_epochs=3), []
    learn = learnt.network.learn
    learnt.network.learn = lambda gradient_at, obs, *rest: (
        seen.append(obs[:, 0].copy()) or learn(gradient_at, obs, *rest)
    )
    count = iter(range(100))
    play(learnt, 10, sees=lambda rng, envs: np.array([[next(count), 0.0]], np.float32))
    assert [len(rows) for rows in seen] == [4, 4, 2] * 3
    for epoch in range(3):
        assert sorted(np.concatenate(seen[3 * epoch : 3 * epoch + 3])) == list(range(10))
    assert not np.array_equal(seen[0], seen[3])  # in another order


def test_a_clip_range_of_0_leaves_the_policy_unmoved_after_its_first_step():
    """One row: once it is more probable, or less, as its advantage asks, it is out of the range of width 0."""
    for clip, moved in ((0.0, False), (0.2, True)):
        actors = []
        for epochs in (1, 4):
            own = {"n_steps": 1, "batch_size": 1, "n_epochs": epochs, "clip_range": clip, "learning_rate": 0.05}
            learnt = agent("ppo", **own, **PLAIN)
            begun = learnt.network.parameters.copy()
            play(learnt, 1)
            actors.append(learnt.network.parameters[2 * 16 + 16 + 16 + 1 :])
        assert not np.array_equal(actors[0], begun[-len(actors[0]) :])
        assert (not np.array_equal(*actors)) == moved


@pytest.mark.parametrize("name", AGENTS)
def test_the_gradients_norm_is_never_more_than_its_limit(name):
    """Clipped as a whole and before the step; without a limit it is greater."""
    norms = {0.1: [], None: []}
    for limit, found in norms.items():
        learnt = agent(name, max_grad_norm=limit, envs=2, **({"episodes_per_update": 4} if "reinforce" in name else {}))
        step = learnt.optimizer.step
        learnt.optimizer.step = lambda gradient, rate: found.append(np.linalg.norm(gradient)) or step(gradient, rate)  # noqa: B023
        play(learnt, 40, envs=2, reward=lambda obs, action: 5.0 * action)
    assert max(norms[0.1]) == pytest.approx(0.1, rel=1e-3)
    assert max(norms[None]) > 0.5


ONE = {
    "reinforce": {"episodes_per_update": 1, "normalize_returns": True},
    "reinforce_alone": {"episodes_per_update": 1, "normalize_returns": True},
    "a2c": {"n_steps": 1, "normalize_advantage": True},
    "ppo": {"n_steps": 5, "batch_size": 4},  # and one of one
}


@pytest.mark.parametrize("actions", [TWO, LINE], ids=["discrete", "continuous"])
@pytest.mark.parametrize("name", AGENTS)
def test_a_batch_of_one_is_never_nan_and_teaches(name, actions):
    learnt = agent(name, actions=actions, **ONE.get(name, {}))
    begun = learnt.network.parameters.copy()
    play(learnt, 20, length=1, ends="terminated", reward=lambda obs, action: 3.0)
    assert np.isfinite(learnt.network.parameters).all()
    assert np.abs(learnt.network.parameters - begun).max() > 1e-3


@pytest.mark.parametrize("name", AGENTS)
def test_a_learning_rate_that_has_fallen_to_0_moves_nothing(name):
    falling = {"schedule": "linear", "start": 1e-2, "end": 0.0, "steps": 60}
    extra = {"critic_learning_rate": falling} if name == "actor_critic" else {}
    learnt = agent(name, learning_rate=falling, **extra, **({"episodes_per_update": 2} if "reinforce" in name else {}))
    begun = learnt.network.parameters.copy()
    play(learnt, 64)
    before = learnt.network.parameters.copy()
    play(learnt, 64)
    assert np.array_equal(learnt.network.parameters, before)
    assert not np.array_equal(begun, before)


@pytest.mark.parametrize("reward", [np.nan, 1e30])
@pytest.mark.parametrize("name", AGENTS)
def test_a_gradient_that_is_not_finite_stops_before_it_does_harm(name, reward):
    """1e30 is a number, but the squares of such a gradient are not."""
    own = {"critic_learning_rate": 1e-3} if name == "actor_critic" else {}
    own |= {"normalize_advantage": False} if name == "ppo" else {}
    own |= {"episodes_per_update": 2} if "reinforce" in name else {}
    learnt = play(agent(name, max_grad_norm=0.5, **own), 32)
    before = learnt.network.parameters.copy()
    with pytest.raises(Diverged, match="not finite"), np.errstate(over="ignore", invalid="ignore"):
        play(learnt, 32, reward=lambda obs, action: reward)
    assert np.array_equal(learnt.network.parameters, before)


@pytest.mark.parametrize("name", AGENTS)
def test_where_an_episode_was_cut_short_an_observation_that_is_not_finite_is_named_too(name):
    own = {"episodes_per_update": 1} if "reinforce" in name else {} if name == "actor_critic" else {"n_steps": 1}
    own |= {"batch_size": 1} if name == "ppo" else {}
    learnt = agent(name, observations=POINT, envs=1, **own)
    with pytest.raises(BadObservation, match="not finite"):
        feed(learnt, [1.0], 0, 1.0, [np.nan], truncated=True)


@pytest.mark.parametrize("name", CRITICS)
def test_an_agent_runs_through_torch_with_its_default_optimizers(name, monkeypatch):
    monkeypatch.setattr("rltrain.on_policy.build", module_network)
    learnt = agent(name, **({"episodes_per_update": 2} if name == "reinforce" else {}))
    begun = learnt.network.parameters.clone()
    play(learnt, 32, sees=either)
    assert (learnt.network.parameters - begun).abs().max() > 1e-3


@pytest.mark.parametrize("name", AGENTS)
def test_acting_without_exploring_takes_the_mode_and_what_is_drawn_is_kept_uncut(name):
    learnt = agent(name, actions=LINE, log_std_init=2.0, observations=PLANE)
    obs = np.array([[1.0, 0.0]], np.float32)
    mean = float(np.clip(outputs(learnt, obs[0])[0], -1, 2))
    assert learnt.act(obs, explore=False).tolist() == [[pytest.approx(mean)]]
    drawn = np.array([[learnt.act(obs)[0, 0], learnt._choice[0, 0]] for _ in range(200)])
    np.testing.assert_array_equal(drawn[:, 0], np.clip(drawn[:, 1], -1, 2))
    assert (np.abs(drawn[:, 1]) > 3).mean() > 0.4  # a standard deviation of 7.4
