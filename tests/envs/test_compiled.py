"""Compiled environments are Gymnasium's, to the last bit, or are not used."""

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.envs.classic_control import CartPoleEnv

from rltrain import checkpoint, registry
from rltrain.config.load import from_dict
from rltrain.config.schema import EnvSettings
from rltrain.envs.classic import tasks
from rltrain.envs.classic.tasks import TASKS, obstacle
from rltrain.envs.compiled import AHEAD, CompiledVectorEnv, readable_step
from rltrain.envs.episode import FOREIGN
from rltrain.envs.vector import begin, call, make_vector, restore, snapshot
from rltrain.evaluation import run_episodes
from rltrain.fitting import problems
from rltrain.loop import EnvironmentLoop

SKILLED = {
    "CartPole-v1": lambda obs: int(obs[2] + obs[3] > 0),
    "MountainCar-v0": lambda obs: 2 if obs[1] > 0 else 0,
    "MountainCarContinuous-v0": lambda obs: np.array([1.3 if obs[1] > 0 else -1.1], np.float32),  # out of bounds
    "Acrobot-v1": lambda obs: 2 if obs[5] > 0 else 0,
    "Pendulum-v1": lambda obs: np.array([2.5 if obs[2] > 0 else -2.5], np.float32),  # out of bounds
}
"""Actions that reach what random ones do not: goals, walls, time limits."""
IDS = list(SKILLED)
N = 8


def made(env_id="CartPole-v1", num_envs=N, vectorization="compiled", **kwargs):
    return make_vector(EnvSettings(id=env_id, vectorization=vectorization, **kwargs), num_envs)


def actions_of(env_id, obs, space, rng):
    """Half of the environments act skilfully, the other half at random."""
    chosen = []
    for index, row in enumerate(obs):
        if index % 2:
            chosen.append(SKILLED[env_id](row))
        elif isinstance(space, gym.spaces.Discrete):
            chosen.append(rng.integers(space.n))
        else:
            chosen.append(rng.uniform(1.2 * space.low, 1.2 * space.high).astype(space.dtype))
    return np.array(chosen, space.dtype)


@pytest.mark.parametrize("env_id", IDS)
def test_states_observations_rewards_and_ends_are_gymnasiums_to_the_last_bit(env_id):
    singles = [gym.make(env_id, disable_env_checker=True) for _ in range(N)]
    envs, rng, seeds = made(env_id), np.random.default_rng(0), list(range(100, 100 + N))
    obs, _ = begin(envs, seeds)
    assert np.array_equal(obs, [env.reset(seed=seed)[0] for env, seed in zip(singles, seeds, strict=True)])
    bare, ends = [env.unwrapped for env in singles], np.zeros(2, np.int64)
    size = np.size(bare[0].state)
    for step in range((40_000 if env_id == "Acrobot-v1" else 100_000) // N):  # Gymnasium's is slow
        actions = actions_of(env_id, obs, envs.single_action_space, rng)
        obs, *found, _ = envs.step(actions)
        expected = [env.step(action) for env, action in zip(singles, actions, strict=True)]
        assert np.array_equal(obs, [result[0] for result in expected]), step
        for mine, place in zip(found, (1, 2, 3), strict=True):
            assert np.array_equal(mine, [result[place] for result in expected]), step
        assert np.array_equal(envs._rows[:, :size], [env.state for env in bare]), step
        if (done := found[1] | found[2]).any():
            ends += found[1].sum(), found[2].sum()
            obs, _ = envs.reset(options={"reset_mask": done})
            assert all(np.array_equal(obs[i], singles[i].reset()[0]) for i in np.flatnonzero(done))
    for env, state in zip(singles, envs.snapshot(), strict=True):
        assert state["rng"] == env.unwrapped.np_random.bit_generator.state
    assert ends.sum() > 60
    assert ends[1] > 0 or env_id == "MountainCarContinuous-v0"
    assert (ends[0] == 0) == (env_id == "Pendulum-v1")


@pytest.mark.parametrize("env_id", IDS)
def test_infos_dtypes_and_attributes_are_those_of_gymnasiums_vector(env_id):
    mine, its = made(env_id, max_episode_steps=23), made(env_id, vectorization="sync", max_episode_steps=23)
    for name in ("num_envs", "single_observation_space", "single_action_space", "observation_space", "action_space"):
        assert getattr(mine, name) == getattr(its, name)
    assert mine.metadata == its.metadata
    assert mine.spec.max_episode_steps == 23
    rng, ended = np.random.default_rng(0), 0
    obs, _ = begin(mine, list(range(N)))
    begin(its, list(range(N)))
    for step in range(100):
        actions = actions_of(env_id, obs, mine.single_action_space, rng)
        found, expected = mine.step(actions), its.step(actions)
        for one, other in zip(found[:4], expected[:4], strict=True):
            assert (one.dtype, one.shape, one.tolist()) == (other.dtype, other.shape, other.tolist())
        assert list(found[4]) == list(expected[4])
        for key, value in expected[4].items():
            assert (found[4][key].dtype, found[4][key].tolist()) == (value.dtype, value.tolist())
        assert call(mine, "running_return") == call(its, "running_return")
        obs = found[0]
        if (done := found[2] | found[3]).any():
            ended += done.sum()
            obs, _ = mine.reset(options={"reset_mask": done})
            assert np.array_equal(obs, its.reset(options={"reset_mask": done})[0])
    assert ended >= 4 * N


@pytest.mark.parametrize("env_id", IDS)
def test_the_readable_functions_take_the_compiled_steps(env_id):
    envs, rng = made(env_id), np.random.default_rng(0)
    obs, _ = begin(envs, list(range(N)))
    step, rows = readable_step(envs._task), envs._rows.copy()
    seen = np.zeros_like(obs), np.zeros(N), np.zeros(N, bool), np.zeros(N, bool)
    for _ in range(60):
        actions = actions_of(env_id, obs, envs.single_action_space, rng)
        obs, reward, terminated, truncated, _ = envs.step(actions)
        assert step(rows, envs._limit, actions, *seen) == (terminated | truncated).sum()
        for one, other in zip(seen, (obs, reward, terminated, truncated), strict=True):
            assert np.array_equal(one, other)
        assert np.array_equal(rows, envs._rows)


def test_every_environment_has_a_stream_of_its_own_that_outlasts_what_was_drawn_ahead():
    together, alone = made(num_envs=3), made(num_envs=1)
    assert np.array_equal(begin(together, [7, 8, 9])[0][2], begin(alone, [9])[0][0])
    single = gym.make("CartPole-v1")
    single.reset(seed=9)
    mask = np.array([False, False, True])
    for _ in range(2 * AHEAD + 3):
        fresh = alone.reset()[0][0]
        assert np.array_equal(together.reset(options={"reset_mask": mask})[0][2], fresh)
        assert np.array_equal(single.reset()[0], fresh)
    assert np.array_equal(together.reset(seed=9)[0], [begin(alone, [seed])[0][0] for seed in (9, 10, 11)])
    assert len({row.tobytes() for row in made().reset()[0]}) == N  # without a seed


def test_a_masked_reset_touches_nothing_else():
    envs = made(num_envs=4)
    begin(envs, [0, 1, 2, 3])
    before, *_ = envs.step(np.array([0, 1, 0, 1]))
    kept, states = before.copy(), envs.snapshot()
    mask = np.array([False, False, True, True, False, False, False, True])[::2]  # a view with gaps
    after, _ = envs.reset(seed=[5, 6, 7, 8], options={"reset_mask": mask})
    assert np.array_equal(before, kept)
    assert np.array_equal(after[~mask], kept[~mask])
    assert np.array_equal(after[1], made(num_envs=1).reset(seed=6)[0][0])
    for index in np.flatnonzero(~mask):
        assert repr(envs.snapshot()[index]) == repr(states[index])
    assert (envs.snapshot()[1]["elapsed"], envs.snapshot()[1]["return"]) == (0, 0.0)


def test_what_was_returned_never_changes():
    envs = made("Pendulum-v1", max_episode_steps=5)
    returned = [begin(envs, list(range(N)))[0]]
    copies = [returned[0].copy()]
    for _ in range(5):
        *arrays, info = envs.step(np.zeros((N, 1), np.float32))
        returned += arrays + list(info.values())
        copies += [array.copy() for array in returned[len(copies) :]]
    assert len(returned) == 1 + 5 * 4 + 4
    returned.append(envs.reset(options={"reset_mask": arrays[3]})[0])
    copies.append(returned[-1].copy())
    envs.step(np.ones((N, 1), np.float32))
    assert all(np.array_equal(one, other) for one, other in zip(returned, copies, strict=True))


@pytest.mark.parametrize("env_id", IDS)
def test_a_snapshot_goes_through_a_checkpoint_and_goes_on_exactly(env_id, tmp_path):
    envs, rng = made(env_id, max_episode_steps=70), np.random.default_rng(0)
    obs, _ = begin(envs, list(range(N)))

    def on(envs, obs, count):
        trace = []
        for _ in range(count):
            obs, *rest, info = envs.step(actions_of(env_id, obs, envs.single_action_space, rng))
            trace += [obs, *rest, *info.values()]
            if (done := rest[1] | rest[2]).any():
                obs, _ = envs.reset(options={"reset_mask": done})
                trace.append(obs)
        return obs, trace

    obs, _ = on(envs, obs, 90)
    saved = checkpoint.load(checkpoint.save(tmp_path, 1, {"envs": snapshot(envs)}, config={}, score=None)).state
    other = made(env_id, max_episode_steps=70)
    again, lost = restore(other, saved["envs"], obs, seeds=list(range(N)))
    assert lost == []
    assert np.array_equal(again, obs)
    assert repr(other.snapshot()) == repr(envs.snapshot())
    before = rng.bit_generator.state
    _, expected = on(envs, obs, 200)
    rng.bit_generator.state = before
    _, found = on(other, again, 200)
    assert len(found) == len(expected) > 800
    assert all(np.array_equal(one, two) for one, two in zip(found, expected, strict=True))


@pytest.mark.parametrize(("wrote", "reads"), [("sync", "compiled"), ("compiled", "sync")])
@pytest.mark.parametrize("num_envs", [1, 3])
def test_the_snapshot_of_another_kind_is_told_and_the_episode_begins_anew(wrote, reads, num_envs):
    one, other = (made(num_envs=num_envs, vectorization=kind) for kind in (wrote, reads))
    seeds = list(range(num_envs))
    begin(one, seeds)
    obs, *_ = one.step(np.zeros(num_envs, np.int64))
    with pytest.warns(UserWarning, match="environment 0: its snapshot was written by another kind"):
        fresh, lost = restore(other, snapshot(one), obs, seeds=seeds)
    assert lost == seeds
    assert not np.array_equal(fresh, obs)
    assert call(other, "running_return") == (0.0,) * num_envs


def test_of_several_snapshots_only_the_foreign_ones_are_lost():
    envs, pendulum = made(num_envs=3), made("Pendulum-v1", 3)
    begin(envs, [0, 1, 2])
    begin(pendulum, [0, 1, 2])
    obs, *_ = envs.step(np.array([1, 1, 1]))
    one, _, three = envs.snapshot()
    results = envs.restore([one, pendulum.snapshot()[1], three])
    assert [reason for _, reason in results] == [None, FOREIGN, None]
    assert np.array_equal(results[0][0], obs[0])
    assert np.array_equal(results[2][0], obs[2])
    assert call(envs, "running_return") == (1.0, 0.0, 1.0)


class Reflex:
    """An agent whose action is a function of what it sees; keeps every transition."""

    def __init__(self, env_id):
        self.react, self.transitions = SKILLED[env_id], []

    def act(self, obs, *, explore=True):
        return np.array([self.react(row) for row in obs])

    def observe(self, transition):
        self.transitions.append(transition)

    def update(self):
        return {}


@pytest.mark.parametrize("env_id", ["CartPole-v1", "Pendulum-v1"])
def test_the_loop_sees_the_same_with_one_or_eight_environments_of_every_kind(env_id):
    def seen(num_envs, vectorization):
        found, returns = [], []
        for first in range(0, N, num_envs):
            envs = made(env_id, num_envs, vectorization, max_episode_steps=40)
            agent = Reflex(env_id)
            progress = EnvironmentLoop(agent, envs, seeds=list(range(first, first + num_envs))).advance(100 * num_envs)
            returns += list(zip(progress.returns, progress.lengths, strict=True))
            envs.close()
            found += [
                tuple(np.asarray(part[i]).tobytes() for part in transition[:6])
                for transition in agent.transitions
                for i in range(num_envs)
            ]
        assert len(returns) >= 2 * N
        return sorted(found), sorted(returns)

    expected = seen(1, "sync")
    assert seen(1, "compiled") == expected
    assert seen(8, "compiled") == expected
    assert seen(8, "sync") == expected
    assert seen(8, "async") == expected


def test_a_loop_that_is_resumed_goes_on_as_if_it_had_not_stopped(tmp_path):
    def loop():
        agent = Reflex("Acrobot-v1")
        return EnvironmentLoop(agent, made("Acrobot-v1", 3), seeds=[4, 5, 6]), agent

    one, agent = loop()
    one.advance(3 * 130)
    saved = checkpoint.load(checkpoint.save(tmp_path, 1, one.state_dict(), config={}, score=None)).state
    other, second = loop()
    other.advance(3 * 7)
    other.load_state_dict(saved)
    agent.transitions.clear()
    second.transitions.clear()
    first, again = one.advance(3 * 300), other.advance(3 * 300)
    assert (first.returns, first.lengths, first.steps) == (again.returns, again.lengths, again.steps)
    assert len(first.returns) >= 3
    for mine, its in zip(second.transitions, agent.transitions, strict=True):
        assert all(np.array_equal(a, b) for a, b in zip(mine, its, strict=True))


def test_evaluation_plays_the_same_episodes():
    policy = Reflex("CartPole-v1").act
    for seeds, cap in ((range(20), 500), (range(5), 30)):
        found = [run_episodes(policy, made(vectorization=kind), seeds, cap) for kind in ("sync", "compiled")]
        assert found[0].returns.tolist() == found[1].returns.tolist()
        assert found[0].lengths.tolist() == found[1].lengths.tolist()
        assert found[0].capped == found[1].capped


def test_actions_that_are_none_are_refused_and_nothing_moves():
    envs = made(num_envs=3)
    with pytest.raises(gym.error.ResetNeeded):
        envs.step(np.zeros(3, np.int64))
    begin(envs, [0, 1, 2])
    before = repr(envs.snapshot())
    for wrong in (np.array([0, 0, 2]), np.array([0, 0, -1])):
        with pytest.raises(ValueError, match="environment 2: there is no action"):
            envs.step(wrong)
    for wrong in (np.zeros(2, np.int64), np.zeros(3), np.zeros((3, 1), np.int64), 1):
        with pytest.raises(ValueError, match="actions must be int64 of shape"):
            envs.step(wrong)
    for wrong in (np.array([1, 0, 0]), np.array([True]), [True] * 3):
        with pytest.raises(ValueError, match="reset_mask"):
            envs.reset(options={"reset_mask": wrong})
    with pytest.raises(ValueError, match="low"):
        envs.reset(options={"low": 0.0})
    with pytest.raises(ValueError, match="2 seeds for 3 environments"):
        begin(envs, [1, 2])
    assert repr(envs.snapshot()) == before


def test_actions_may_be_lists_other_integers_views_or_read_only():
    frozen = np.array([1, 0, 1])
    frozen.flags.writeable = False
    found = []
    for actions in ([1, 0, 1], frozen, np.array([1, 0, 1], np.int32), np.array([1, 9, 0, 9, 1, 9])[::2]):
        envs = made(num_envs=3)
        begin(envs, [0, 1, 2])
        found.append(envs.step(actions)[0].tobytes())
    assert len(set(found)) == 1


def wrapped(*names):
    return tuple(registry.settings_class("wrappers", name)(name=name) for name in names)


def test_auto_compiles_where_it_can_and_only_there():
    def kind(env_id="CartPole-v1", vectorization="auto", render_mode=None, **kwargs):
        envs = make_vector(EnvSettings(id=env_id, vectorization=vectorization, **kwargs), render_mode=render_mode)
        return type(envs.unwrapped).__name__

    assert {kind(env_id, num_envs=n) for env_id in IDS for n in (1, 2)} == {"CompiledVectorEnv"}
    assert kind(max_episode_steps=7, wrappers=wrapped("normalize_observation")) == "CompiledVectorEnv"
    assert kind(vectorization="sync") == kind(kwargs={"sutton_barto_reward": True}) == "SingleEnv"
    assert kind(wrappers=wrapped("clip_reward")) == kind("FrozenLake-v1") == "SingleEnv"
    assert kind(vectorization="compiled", render_mode="rgb_array") == "SingleEnv"
    assert kind("FrozenLake-v1", num_envs=2) == "SyncVectorEnv"


def test_the_same_class_under_another_id_compiles_and_another_class_under_the_id_does_not(monkeypatch):
    entry_point = gym.spec("CartPole-v1").entry_point
    gym.register("Mine-v0", entry_point, max_episode_steps=9)
    gym.register("Paid-v0", entry_point, kwargs={"sutton_barto_reward": True})
    gym.register("Other-v0", CartPoleEnv)
    try:
        assert make_vector(EnvSettings(id="Mine-v0", vectorization="compiled"))._limit == 9
        assert obstacle(EnvSettings(id="Paid-v0")) == "Paid-v0 has no compiled version"
        assert obstacle(EnvSettings(id="Other-v0")) == "Other-v0 has no compiled version"
    finally:
        for name in ("Mine-v0", "Paid-v0", "Other-v0"):
            del gym.registry[name]


def test_a_version_that_takes_other_steps_is_not_trusted(monkeypatch):
    task = TASKS[gym.spec("CartPole-v1").entry_point]

    def heavier(state, action):
        result = task.move(state, action)
        state[3] *= 1 + 1e-15
        return result

    def twice(rng, count):
        task.start(rng, count)
        return task.start(rng, count)

    assert tasks.is_true(task, "CartPole-v1")
    assert not tasks.is_true(task._replace(move=heavier), "CartPole-v1")
    assert not tasks.is_true(task._replace(start=twice), "CartPole-v1")
    monkeypatch.setattr(tasks, "is_true", lambda task, env_id: False)
    assert "does not take the steps" in obstacle(EnvSettings(id="CartPole-v1"))
    monkeypatch.setattr(tasks, "available", lambda: False)
    assert obstacle(EnvSettings(id="CartPole-v1")) == "numba is not installed"


@pytest.mark.parametrize(
    ("env", "told"),
    [
        ({"id": "FrozenLake-v1"}, "FrozenLake-v1 has no compiled version"),
        ({"id": "CartPole-v1", "kwargs": {"sutton_barto_reward": True}}, "takes no env.kwargs"),
        ({"id": "CartPole-v1", "wrappers": [{"name": "clip_reward"}]}, "the wrapper clip_reward"),
    ],
)
def test_what_cannot_be_compiled_is_a_problem_with_its_reason(env, told):
    agent = {"agent": {"name": "dqn", "target_update_interval": 100}, "exploration": {"name": "epsilon_greedy"}}
    agent |= {"train": {"total_steps": 1_000}}
    config = from_dict({"env": {**env, "vectorization": "compiled"}, **agent}).config
    (problem,) = problems(config)
    assert problem.path == "env.vectorization"
    assert told in problem.message
    with pytest.raises(ValueError, match=r"env\.vectorization"):
        make_vector(config.env)
    good = from_dict({"env": {"id": "CartPole-v1", "vectorization": "compiled"}, **agent}).config
    assert problems(good) == []
    assert isinstance(make_vector(good.env), CompiledVectorEnv)
