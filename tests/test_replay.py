"""Replay against brute force: n-step returns, ends of episodes, the ring's seam."""

from collections import deque

import gymnasium as gym
import numpy as np
import pytest

from rltrain import replay as replay_module
from rltrain.core import EnvSpec, Transition
from rltrain.replay import ReplayBuffer, ReplayError, memory_problem, required_bytes
from rltrain.sum_tree import SumTree


def spec(num_envs=1, low=-1e9, high=1e9):
    return EnvSpec("test", gym.spaces.Box(low, high, (1,), np.float32), gym.spaces.Discrete(3), num_envs)


def buffer(capacity, *, num_envs=1, n_step=1, gamma=0.9):
    return ReplayBuffer(capacity, spec(num_envs), gamma=gamma, n_step=n_step, rng=np.random.default_rng(0))


def stream(rng, steps, num_envs):
    """Random rewards and ends; observations count up within an episode, with gaps between episodes."""
    obs = np.arange(num_envs, dtype=np.float32)[:, None] * 1e6
    for _ in range(steps):
        terminated, truncated = rng.random(num_envs) < 0.1, rng.random(num_envs) < 0.1
        next_obs = obs + 1
        yield Transition(
            obs, rng.integers(0, 3, num_envs), rng.normal(size=num_envs).astype(np.float32), next_obs,
            terminated, truncated,
        )  # fmt: skip
        done = terminated | truncated
        obs = np.where(done[:, None], next_obs + 10, next_obs)


def brute_force(transitions, num_envs, n_step, gamma):
    """obs -> (action, reward, discount, next_obs) of every finished row, by the definition."""
    rows = {}
    for env in range(num_envs):
        steps = [tuple(part[env] for part in transition[:6]) for transition in transitions]
        for start in range(len(steps)):
            total, length = 0.0, 0
            for _, _, reward, next_obs, terminated, truncated in steps[start : start + n_step]:
                total += gamma**length * float(reward)
                length += 1
                if terminated or truncated:
                    break
            else:
                if length < n_step:
                    continue  # still open at the end of the stream
            obs, action = steps[start][:2]
            rows[float(obs[0])] = int(action), total, 0.0 if terminated else gamma**length, float(next_obs[0])
    return rows


@pytest.mark.parametrize("n_step", [1, 2, 3, 5])
@pytest.mark.parametrize("num_envs", [1, 3])
def test_rows_are_those_of_the_definition(n_step, num_envs):
    rng = np.random.default_rng(n_step)
    transitions = list(stream(rng, 400, num_envs))
    replay = buffer(5_000, num_envs=num_envs, n_step=n_step)
    for transition in transitions:
        replay.add(transition)
    obs, *others = replay.state_dict()["columns"].values()
    rows = dict(zip(obs[:, 0].tolist(), zip(*others, strict=True), strict=True))
    expected = brute_force(transitions, num_envs, n_step, 0.9)
    assert rows.keys() == expected.keys()
    assert len(obs) == len(expected) > 300
    for key, (action, reward, discount, next_obs) in expected.items():
        assert (rows[key][0], rows[key][3][0]) == (action, next_obs)
        assert rows[key][1:3] == pytest.approx((reward, discount), rel=1e-6, abs=1e-7)


@pytest.mark.parametrize("capacity", [7, 37])
@pytest.mark.parametrize("n_step", [1, 3])
def test_a_full_ring_holds_the_newest_rows_of_one_without_a_seam(capacity, n_step):
    small, large = (buffer(size, num_envs=3, n_step=n_step) for size in (capacity, 5_000))
    for step, transition in enumerate(stream(np.random.default_rng(0), 120, 3)):
        small.add(transition)
        large.add(transition)
        if step % 17 == 0 and len(large) >= capacity:
            ours, whole = small.state_dict(), large.state_dict()["columns"]
            for name, column in ours["columns"].items():
                np.testing.assert_array_equal(np.roll(column, -ours["position"], 0), whole[name][-capacity:])
    assert len(small) == capacity


def test_termination_wins_where_an_episode_is_both_terminated_and_truncated():
    replay = buffer(10, n_step=1)
    one = np.zeros((1, 1), np.float32)
    replay.add(Transition(one, np.array([0]), np.array([2.0]), one, np.array([True]), np.array([True])))
    assert replay.state_dict()["columns"]["discount"].tolist() == [0.0]


@pytest.mark.parametrize("capacity", [1, 7, 64])
def test_the_ring_forgets_the_oldest(capacity):
    replay, oracle = buffer(capacity), deque(maxlen=capacity)
    for value in range(1_000):
        obs = np.full((1, 1), value, np.float32)
        no = np.array([False])
        replay.add(Transition(obs, np.array([value % 3]), np.array([float(value)]), obs + 1, no, no))
        oracle.append(float(value))
        if value % 50 == 0:
            assert sorted(replay.state_dict()["columns"]["reward"].tolist()) == sorted(oracle)
            batch = replay.sample(200)
            assert set(batch.reward.tolist()) <= set(oracle)
            assert (batch.next_obs[:, 0] == batch.obs[:, 0] + 1).all()
    assert len(replay) == capacity


def test_sampling_is_uniform():
    replay = buffer(20)
    no = np.array([False])
    for value in range(20):
        obs = np.full((1, 1), value, np.float32)
        replay.add(Transition(obs, np.array([0]), np.array([float(value)]), obs, no, no))
    counts = np.bincount(replay.sample(40_000).reward.astype(int), minlength=20)
    chi_squared = ((counts - 2_000) ** 2 / 2_000).sum()
    assert chi_squared < 43.8  # 19 degrees of freedom, p = 0.001


def test_what_is_said_to_be_required_is_what_the_rows_take():
    assert required_bytes(1_000, spec()) == 1_000 * (2 * 4 + 8 + 8)
    assert required_bytes(1_000, spec()) == sum(column.nbytes for column in buffer(1_000)._columns.values())
    assert required_bytes(1_000, spec(), prioritized=True) == 1_000 * (2 * 4 + 8 + 8 + 8)
    assert (
        required_bytes(2**20, spec(), prioritized=True)
        > required_bytes(2**20, spec()) + SumTree(2**20)._rows.nbytes - 1
    )


def test_a_buffer_that_does_not_fit_is_refused_with_the_number_before_it_is_made(monkeypatch):
    big = EnvSpec("test", gym.spaces.Box(0, 255, (4, 84, 84), np.uint8), gym.spaces.Discrete(3), 1)
    assert memory_problem(1_000, big) is None
    assert "GiB" in memory_problem(10**9, big)
    with pytest.raises(ReplayError, match="1,000,000,000 transitions"):
        ReplayBuffer(10**9, big, gamma=0.9, rng=np.random.default_rng(0))
    monkeypatch.setattr(replay_module, "available_bytes", lambda: 30_000)  # of which 24,000 may be taken
    assert memory_problem(1_000, spec()) is None
    assert memory_problem(1_001, spec()).endswith("at most 1,000 fit")
    assert memory_problem(751, spec(), prioritized=True).endswith("at most 750 fit")


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e300])
def test_an_observation_that_is_not_finite_is_refused_and_named(value):
    obs = np.zeros((1, 1))
    bad = np.full((1, 1), value)
    no = np.array([False])
    with pytest.raises(ReplayError, match="environment 0"):
        buffer(10).add(Transition(obs, np.array([0]), np.array([0.0]), bad, no, no))


def test_a_policy_that_only_acts_needs_no_memory_for_replay(tmp_path, small_config, monkeypatch):
    from rltrain.config.load import load
    from rltrain.experiment import Run
    from rltrain.saved import SavedPolicy

    (tmp_path / "run").mkdir()
    run = Run(load(small_config, ["train.total_steps=200", "eval.every=null"]).config, tmp_path / "run")
    run.train()
    run.close()
    monkeypatch.setattr("rltrain.replay.available_bytes", lambda: 0)
    with SavedPolicy.open(tmp_path / "run" / "checkpoints" / "step-000000000200") as policy:
        assert "replay" not in vars(policy.agent)
        assert policy.evaluate(2, seed=0)["episodes"] == 2
        assert "replay" not in vars(policy.agent)
        with pytest.raises(ReplayError, match=r"GiB are free, of which it may take 80 %: at most 0 fit"):
            _ = policy.agent.replay
