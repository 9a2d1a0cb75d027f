"""Running statistics of observations and returns, against NumPy over everything that was seen."""

import gymnasium as gym
import numpy as np
import pytest

from rltrain import registry
from rltrain.config.load import from_dict
from rltrain.config.schema import EnvSettings
from rltrain.envs.vector import begin, load_wrapper_state, make_vector, restore, snapshot, wrapper_state
from rltrain.experiment import build
from rltrain.fitting import problems
from rltrain.moments import RunningMoments, Standardizer


def settings(env_id, *wrappers, **kwargs):
    built = tuple(
        registry.settings_class("wrappers", name)(name=name, **options)
        for name, options in (w if isinstance(w, tuple) else (w, {}) for w in wrappers)
    )
    return EnvSettings(id=env_id, wrappers=built, **kwargs)


def variance(state):
    return state["squares"] / state["count"]


def play(envs, steps, seed=0):
    """Random actions with masked resets, as the loop does it: every observation that began or followed a step."""
    rng = np.random.default_rng(seed)
    seen, rewards, ends = [np.array(begin(envs, list(range(envs.num_envs)))[0])], [], []
    for _ in range(steps):
        actions = rng.integers(0, envs.single_action_space.n, envs.num_envs)
        obs, reward, terminated, truncated, _ = envs.step(actions)
        done = terminated | truncated
        seen.append(np.array(obs))
        rewards.append(np.array(reward))
        ends.append(done)
        if done.any():
            first, _ = envs.reset(options={"reset_mask": done})
            seen.append(np.array(first)[done])
    return seen, np.array(rewards), np.array(ends)


@pytest.mark.parametrize("offset", [0.0, 1e6])
def test_moments_in_blocks_are_numpys_over_all_rows_together(offset):
    rng = np.random.default_rng(0)
    rows = offset + rng.normal(3.0, [0.1, 1.0, 50.0], (1_000, 3))
    moments, at = RunningMoments((3,)), 0
    for size in [1, 0, 2, 7, 90, 400, 500]:
        moments.update(rows[at : at + size])
        at += size
    assert moments.count == at == 1_000
    np.testing.assert_allclose(moments.mean, rows.mean(axis=0), rtol=1e-9)
    np.testing.assert_allclose(moments.var, rows.var(axis=0), rtol=1e-7)


def test_moments_of_nothing_and_of_equal_rows():
    moments = RunningMoments((2,))
    assert moments.var.tolist() == [1.0, 1.0]
    for _ in range(100):
        moments.update(np.full((3, 2), 0.1))
    np.testing.assert_allclose(moments.mean, 0.1)
    assert (moments.var >= 0).all()
    np.testing.assert_allclose(moments.var, 0, atol=1e-15)


def test_observation_statistics_are_numpys_with_resets_counted_once():
    envs = make_vector(settings("CartPole-v1", "normalize_observation", num_envs=3))
    seen, _, ends = play(make_vector(settings("CartPole-v1", num_envs=3)), 300)
    play(envs, 300)
    assert ends.sum() > 10
    everything = np.concatenate(seen).astype(np.float64)
    state = wrapper_state(envs)["normalize_observation"]
    assert state["count"] == len(everything) == 3 + 300 * 3 + ends.sum()
    np.testing.assert_allclose(state["mean"], everything.mean(axis=0), rtol=1e-5)
    np.testing.assert_allclose(variance(state), everything.var(axis=0), rtol=1e-5)


def test_numbers_in_units_of_their_deviation_by_hand_before_and_after_a_restore():
    """1 and 3 have mean 2 and variance 1; 0 and 8 mean 4 and variance 16. With epsilon 0 and cut at 2."""
    rows = np.array([[1.0], [3.0], [9.0]])
    first, second = (Standardizer((1,), epsilon=0.0, clip=2.0) for _ in range(2))
    first.update(rows[:2])
    second.update(np.array([[0.0], [8.0]]))
    assert first(rows).tolist() == [[-1.0], [1.0], [2.0]]
    first.load_state_dict(second.state_dict())
    assert first(rows).tolist() == [[-0.75], [-0.25], [1.25]]


def test_the_last_observation_of_an_episode_is_normalised_as_any_other():
    made = settings("CartPole-v1", ("normalize_observation", {"epsilon": 0.5, "clip": 2.0}), num_envs=2)
    envs, raw = make_vector(made), make_vector(settings("CartPole-v1", num_envs=2))
    begin(envs, [0, 1])
    begin(raw, [0, 1])
    while True:
        obs, _, terminated, *_ = envs.step(np.array([1, 0]))
        plain, *_ = raw.step(np.array([1, 0]))
        state = wrapper_state(envs)["normalize_observation"]
        expected = np.clip((plain - state["mean"]) / np.sqrt(variance(state) + 0.5), -2, 2)
        np.testing.assert_allclose(obs, expected, atol=1e-6)
        if terminated.any():
            return


def test_rewards_are_scaled_by_the_discounted_return_of_each_environment():
    gamma, clip = 0.9, 2.0
    wrapper = ("normalize_reward", {"gamma": gamma, "clip": clip})
    envs, raw = make_vector(settings("Taxi-v4", wrapper, num_envs=3)), make_vector(settings("Taxi-v4", num_envs=3))
    _, found, _ = play(envs, 500)
    _, rewards, ends = play(raw, 500)
    assert ends.any()
    everything, running = [], [0.0] * 3
    for step in range(500):  # one environment after the other, one number after the other
        for env in range(3):
            running[env] = gamma * running[env] + rewards[step, env]
            everything.append(running[env])
            if ends[step, env]:
                running[env] = 0.0
        expected = np.clip(rewards[step] / np.sqrt(np.var(everything) + 1e-8), -clip, clip)
        np.testing.assert_allclose(found[step], expected, rtol=1e-5)
    state = wrapper_state(envs)["normalize_reward"]
    np.testing.assert_allclose(state["returns"], running)
    np.testing.assert_allclose(state["mean"], np.mean(everything), rtol=1e-5)
    np.testing.assert_allclose(variance(state), np.var(everything), rtol=1e-5)
    assert (np.abs(found) == clip).any()
    begin(envs, [0, 1, 2])  # in the middle of episodes
    assert wrapper_state(envs)["normalize_reward"]["returns"].tolist() == [0.0, 0.0, 0.0]


def test_the_reported_return_is_not_scaled():
    envs = make_vector(settings("CartPole-v1", "normalize_reward"))
    begin(envs, [0])
    for step in range(1, 600):
        *_, terminated, _, info = envs.step(np.array([1]))
        if terminated[0]:
            assert info["episode_return"][0] == step
            assert wrapper_state(envs)["normalize_reward"]["returns"].tolist() == [0.0]
            return
    pytest.fail("the pole never fell")


BOTH = ("normalize_observation", "normalize_reward")


def test_evaluation_with_more_environments_uses_the_statistics_and_never_changes_them():
    envs = make_vector(settings("CartPole-v1", *BOTH, num_envs=2))
    play(envs, 100)
    frozen = make_vector(settings("CartPole-v1", *BOTH), 5, training=False)
    load_wrapper_state(frozen, wrapper_state(envs))
    before = str(wrapper_state(frozen))
    _, rewards, _ = play(frozen, 1_000)
    assert str(wrapper_state(frozen)) == before
    state = wrapper_state(envs)["normalize_reward"]
    assert variance(wrapper_state(frozen)["normalize_reward"]) == variance(state)
    np.testing.assert_allclose(rewards, 1.0 / np.sqrt(variance(state) + 1e-8))


def test_a_resumed_run_goes_on_with_the_same_statistics():
    data = {
        "env": {"id": "CartPole-v1", "num_envs": 2, "wrappers": [{"name": name} for name in BOTH]},
        "agent": {"name": "dqn", "learning_starts": 10_000},
        "exploration": {"name": "epsilon_greedy"},
        "train": {"total_steps": 1_000},
        "device": "cpu",
    }
    first, second = (build(from_dict(data).config) for _ in range(2))
    first.loop.advance(150)
    second.agent.load_state_dict(first.agent.state_dict())
    second.loop.load_state_dict(first.loop.state_dict())
    assert str(wrapper_state(first.envs)) == str(wrapper_state(second.envs))
    assert wrapper_state(first.envs)["normalize_reward"]["returns"].all()
    for experiment in (first, second):
        experiment.loop.advance(150)
    assert str(first.loop.state_dict()) == str(second.loop.state_dict())


@pytest.mark.parametrize(
    ("name", "remedy"), [(BOTH[0], "agent.normalize_observation: true"), (BOTH[1], "scale_reward")]
)
@pytest.mark.parametrize(("agent", "refused"), [("dqn", True), ("rainbow", True), ("pqn", False), ("ppo", False)])
def test_replay_of_what_was_scaled_by_statistics_of_an_earlier_time_is_refused(name, remedy, agent, refused):
    data = {
        "env": {"id": "CartPole-v1", "wrappers": [{"name": name}]},
        "agent": {"name": agent},
        "train": {"total_steps": 20_000},
    }
    if agent in ("dqn", "pqn"):
        data["exploration"] = {"name": "epsilon_greedy"}
    found = [problem for problem in problems(from_dict(data).config) if problem.path == "env.wrappers"]
    assert [remedy in problem.message for problem in found] == [True] * refused


def test_an_episode_that_cannot_be_repeated_begins_normalised_and_at_return_zero():
    class Noise(gym.Env):
        observation_space, action_space = gym.spaces.Box(0, 1_000, (1,)), gym.spaces.Discrete(2)

        def reset(self, *, seed=None, options=None):
            super().reset(seed=seed)
            return (1_000 * np.random.rand(1)).astype(np.float32), {}

        def step(self, action):
            return (1_000 * np.random.rand(1)).astype(np.float32), 1.0, False, False, {}

    gym.register("NoiseAtScale-v0", Noise)
    try:
        envs = make_vector(settings("NoiseAtScale-v0", *BOTH))
        begin(envs, [0])
        for _ in range(50):
            obs, *_ = envs.step(np.array([0]))
        with pytest.warns(UserWarning, match="begins anew"):
            current, lost = restore(envs, snapshot(envs), obs, seeds=[0])
        assert lost == [0]
        assert np.abs(current).max() < 5  # deviations, no longer a number of hundreds
        assert wrapper_state(envs)["normalize_reward"]["returns"].tolist() == [0.0]
    finally:
        del gym.registry["NoiseAtScale-v0"]


@pytest.mark.parametrize(
    ("wrappers", "words"),
    [
        (
            ["normalize_reward", "clip_reward"],
            "normalize_reward sees all environments together: put it after clip_reward",
        ),
        (
            ["normalize_observation", "normalize_reward", "normalize_observation"],
            "normalize_observation is there twice",
        ),
    ],
)
def test_wrappers_that_would_be_applied_in_another_order_or_twice_are_refused(wrappers, words):
    data = {"env": {"id": "CartPole-v1", "wrappers": [{"name": name} for name in wrappers]}}
    (found,) = problems(from_dict(data | {"agent": {"name": "ppo"}, "train": {"total_steps": 10_000}}).config)
    assert (found.path, words in found.message) == ("env.wrappers", True), found.message


@pytest.mark.parametrize(
    ("agent", "env", "refused"),
    [
        ("dqn", "CartPole-v1", True),
        ("td3", "Pendulum-v1", True),
        ("dyna_q", "FrozenLake-v1", True),  # its model keeps rewards
        ("q_learning", "FrozenLake-v1", False),
        ("pqn", "CartPole-v1", False),
    ],
)
def test_rewards_are_not_scaled_by_statistics_beside_an_agent_that_learns_from_them_again(agent, env, refused):
    data = {"env": {"id": env, "wrappers": [{"name": "normalize_reward"}]}, "agent": {"name": agent}}
    found = problems(from_dict(data | {"train": {"total_steps": 100_000}}).config)
    about = [problem.message for problem in found if problem.path == "env.wrappers"]  # others lack an exploration
    assert ["use scale_reward" in message for message in about] == [True] * refused
