"""Seeding, wrappers and snapshots."""

import gymnasium as gym
import numpy as np
import pytest

from rltrain import registry
from rltrain.config.schema import EnvSettings
from rltrain.envs.vector import begin, make_vector, restore, snapshot
from rltrain.seeding import Stream, env_seeds, generator

ALL = ["CartPole-v1", "MountainCar-v0", "Acrobot-v1", "Pendulum-v1", "MountainCarContinuous-v0", "FrozenLake-v1",
       "Taxi-v4", "CliffWalking-v1"]  # fmt: skip


def settings(env_id, *wrappers, **kwargs):
    built = tuple(
        registry.settings_class("wrappers", name)(name=name, **options)
        for name, options in (w if isinstance(w, tuple) else (w, {}) for w in wrappers)
    )
    return EnvSettings(id=env_id, wrappers=built, **kwargs)


def test_no_two_runs_environments_or_purposes_share_a_stream():
    seeds = [
        seed
        for run in range(100)
        for stream in (Stream.TRAIN_ENVS, Stream.TRAIN_EVAL, Stream.REPORT_EVAL)
        for seed in env_seeds(run, stream, 64)
    ]
    assert len(set(seeds)) == len(seeds) == 100 * 64 * 3
    assert all(0 <= seed < 2**63 for seed in seeds)
    firsts = {generator(run, stream).random() for run in range(100) for stream in Stream}
    assert len(firsts) == 100 * len(Stream)


def test_more_episodes_begin_with_the_same_seeds():
    assert env_seeds(0, Stream.REPORT_EVAL, 10) == env_seeds(0, Stream.REPORT_EVAL, 100)[:10]


def steps(envs, obs, rng, count):
    trace = []
    for _ in range(count):
        actions = np.stack([envs.single_action_space.sample() for _ in range(envs.num_envs)])
        obs, reward, terminated, truncated, _ = envs.step(actions)
        obs = np.array(obs)
        trace.append((obs.copy(), reward.copy()))
        if (done := terminated | truncated).any():
            fresh, _ = envs.reset(options={"reset_mask": done})
            obs[done] = fresh[done]
    return obs, trace


@pytest.mark.parametrize("env_id", ALL)
@pytest.mark.parametrize("vectorization", ["sync", "async"])
def test_a_snapshot_in_the_middle_of_an_episode_goes_on_exactly(env_id, vectorization):
    made = settings(env_id, num_envs=2, vectorization=vectorization)
    seeds = env_seeds(0, Stream.TRAIN_ENVS, 2)
    rng = np.random.default_rng(0)
    envs = make_vector(made)
    obs, _ = begin(envs, seeds)
    envs.single_action_space.seed(1)
    obs, _ = steps(envs, np.array(obs), rng, 137)
    state = snapshot(envs)
    other = make_vector(made)
    again, lost = restore(other, state, obs, seeds=seeds)
    assert lost == []
    assert np.array_equal(again, obs)
    for one in (envs, other):
        one.single_action_space.seed(2)
    _, expected = steps(envs, obs.copy(), rng, 300)
    _, found = steps(other, again, rng, 300)
    envs.close()
    other.close()
    for (a, r), (b, s) in zip(expected, found, strict=True):
        assert np.array_equal(a, b)
        assert np.array_equal(r, s)


def test_an_environment_that_does_not_repeat_itself_is_named_and_begins_anew():
    class Noise(gym.Env):
        observation_space, action_space = gym.spaces.Box(0, 1, (1,)), gym.spaces.Discrete(2)

        def reset(self, *, seed=None, options=None):
            super().reset(seed=seed)
            return np.random.rand(1).astype(np.float32), {}

        def step(self, action):
            return np.random.rand(1).astype(np.float32), 0.0, False, False, {}

    gym.register("Noise-v0", Noise)
    envs = make_vector(settings("Noise-v0"))
    obs, _ = begin(envs, [0])
    obs, _ = steps(envs, obs, None, 5)
    with pytest.warns(UserWarning, match="environment 0: the environment does not repeat itself"):
        _, lost = restore(envs, snapshot(envs), obs, seeds=[0])
    assert lost == [0]
    del gym.registry["Noise-v0"]


@pytest.mark.parametrize(
    ("env_id", "wrapper", "shape"),
    [
        ("CartPole-v1", ("frame_stack", {"size": 3}), (3, 4)),
        ("FrozenLake-v1", "flatten", (16,)),
        ("Blackjack-v1", "flatten", (45,)),
        ("Pendulum-v1", ("discretize", {"bins": 5}), ()),
        ("CartPole-v1", ("discretize", {"bins": 4, "low": [-2, -3, -0.2, -3], "high": [2, 3, 0.2, 3]}), ()),
        ("CartPole-v1", "normalize_observation", (4,)),
    ],
)
def test_wrappers_change_the_observation_space_and_the_observations_fit_it(env_id, wrapper, shape):
    envs = make_vector(settings(env_id, wrapper, num_envs=2))
    assert envs.single_observation_space.shape == shape
    obs, _ = begin(envs, [0, 1])
    for _ in range(20):
        assert all(envs.single_observation_space.contains(one) for one in np.asarray(obs))
        obs, *_ = envs.step(envs.action_space.sample())
        envs.reset(options={"reset_mask": np.array([True, True])})


def test_a_stack_never_shows_what_was_before_the_episode():
    envs = make_vector(settings("CartPole-v1", ("frame_stack", {"size": 3}), num_envs=2))
    obs = np.array(begin(envs, [0, 1])[0])
    assert (obs == obs[:, -1:]).all()  # copies of the first
    for step in range(100):
        before = obs.copy()
        obs, _, terminated, *_ = envs.step(np.array([1, step % 2]))
        obs = np.array(obs)
        np.testing.assert_array_equal(obs[:, :-1], before[:, 1:])
        if terminated.any():
            obs = np.array(envs.reset(options={"reset_mask": terminated})[0])
            assert (obs == obs[:, -1:])[terminated].all()
            assert not (obs == obs[:, -1:])[~terminated].all()
            return
    pytest.fail("the pole never fell")


@pytest.mark.parametrize(("wrapper", "learnt"), [(("scale_reward", {"scale": 0.01}), 0.01), ("clip_reward", 1.0)])
def test_a_scaled_or_clipped_reward_is_learnt_from_and_the_return_stays_the_environments(wrapper, learnt):
    envs = make_vector(settings("CartPole-v1", wrapper))
    begin(envs, [0])
    for step in range(1, 600):
        _, reward, terminated, _, info = envs.step(np.array([1]))
        assert reward[0] == pytest.approx(learnt)
        if terminated[0]:
            assert info["episode_return"][0] == step
            assert info["episode_length"][0] == step
            return
    pytest.fail("the pole never fell")


@pytest.mark.parametrize("env_id", ALL)
def test_a_vector_of_one_gives_what_gymnasiums_vector_gives(env_id):
    from gymnasium.vector import AutoresetMode, SyncVectorEnv

    from rltrain.envs.single import SingleEnv
    from rltrain.envs.vector import make_env

    def play(envs):
        obs, _ = begin(envs, [5])
        trace = [np.array(obs)]
        envs.action_space.seed(3)
        for _ in range(600):
            obs, reward, terminated, truncated, info = envs.step(envs.action_space.sample())
            trace += [np.array(obs), np.array(reward), np.array(terminated), np.array(truncated)]
            if (terminated | truncated)[0]:
                trace += [np.array(info["episode_return"]), np.array(info["episode_length"])]
                obs, _ = envs.reset(options={"reset_mask": terminated | truncated})
                trace.append(np.array(obs))
        return trace

    made = settings(env_id, max_episode_steps=90)
    mine = play(SingleEnv(lambda: make_env(made)))
    its = play(SyncVectorEnv([lambda: make_env(made)], copy=False, autoreset_mode=AutoresetMode.DISABLED))
    assert len(mine) == len(its) > 2_400
    for one, other in zip(mine, its, strict=True):
        assert one.dtype == other.dtype
        assert one.shape == other.shape
        assert (one == other).all()


def test_discretize_numbers_tuples_of_discrete_parts_in_row_major_order():
    from rltrain.envs.vector import make_env

    env = make_env(settings("Blackjack-v1", "discretize"))
    assert env.observation_space == gym.spaces.Discrete(32 * 11 * 2)
    for seed in range(50):
        number, _ = env.reset(seed=seed)
        total, dealer, ace = env.unwrapped._get_obs()
        assert number == (total * 11 + dealer) * 2 + ace


def test_discretize_refuses_what_cannot_be_numbered():
    with pytest.raises(ValueError, match="finite bounds"):
        make_vector(settings("CartPole-v1", "discretize"), 1)
    with pytest.raises(ValueError, match="discretize needs a Box"):
        make_vector(settings("FrozenLake-v1", "discretize"), 1)
    bins = {"low": (0.0, 0.0), "high": (1.0, 1.0)}
    for env_id, options, words in [
        ("Blackjack-v1", {"bins": 5, "low": (0.0,)}, "leave out bins, low"),
        ("MountainCar-v0", {"bins": (5,)}, "bins has 1 numbers, an observation 2"),
        ("MountainCar-v0", bins | {"low": (0.0,)}, "low has 1 numbers"),
        ("MountainCar-v0", bins | {"high": (1.0, 0.0)}, "every 'low' must be below its 'high'"),
    ]:
        with pytest.raises(ValueError, match=words):
            make_vector(settings(env_id, ("discretize", options)), 1)
