"""The loop's calls in their order, what it counts, and what it hands to the agent."""

import gymnasium as gym
import numpy as np
import pytest

from rltrain.config.schema import EnvSettings
from rltrain.core import Progress
from rltrain.envs.vector import make_vector
from rltrain.evaluation import run_episodes
from rltrain.loop import BadBonus, EnvironmentFault, EnvironmentLoop, train


class Counter(gym.Env):
    """Counts its steps; every episode ends after `length` steps, as told. Reward 2 a step."""

    observation_space = gym.spaces.Box(-1e9, 1e9, (1,), np.float32)
    action_space = gym.spaces.Discrete(2)

    def __init__(self, length=3, ends="terminated", bad=None):
        self.length, self.ends, self.bad = length, ends, bad

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.start = self.count = float(self.np_random.integers(1_000) * 1_000)
        return np.array([self.count], np.float32), {}

    def step(self, action):
        self.count += 1
        over = self.count - self.start >= self.length
        reward = 2.0 if self.bad is None else self.bad
        info = {"is_success": bool(action)} if over else {}
        obs = np.array([self.count], np.float32)
        return obs, reward, over and self.ends == "terminated", over and self.ends == "truncated", info


@pytest.fixture(autouse=True)
def _registered():
    gym.register("Counter-v0", Counter)
    yield
    del gym.registry["Counter-v0"]


class Tape:
    """An agent that writes down what it is asked and told."""

    def __init__(self):
        self.tape, self.transitions = [], []

    def act(self, obs, *, explore=True):
        self.tape.append("act")
        return np.ones(len(obs), np.int64)

    def observe(self, transition):
        self.tape.append("observe")
        self.transitions.append(transition)

    def update(self):
        self.tape.append("update")
        return {"n": len(self.tape)}


def make(num_envs=1, vectorization="sync", bonuses=None, **kwargs):
    envs = make_vector(EnvSettings(id="Counter-v0", num_envs=num_envs, kwargs=kwargs, vectorization=vectorization))
    agent = Tape()
    return EnvironmentLoop(agent, envs, bonuses=bonuses, seeds=list(range(num_envs))), agent


def test_act_observe_update_in_this_order_once_a_step():
    loop, agent = make()
    loop.advance(4)
    assert agent.tape == ["act", "observe", "update"] * 4


@pytest.mark.parametrize("ends", ["terminated", "truncated"])
@pytest.mark.parametrize("num_envs", [1, 3])
def test_no_transition_crosses_an_episode_and_every_successor_is_the_true_one(ends, num_envs):
    loop, agent = make(num_envs, length=3, ends=ends)
    loop.advance(300)
    assert len(agent.transitions) == 300 // num_envs
    for step, transition in enumerate(agent.transitions):
        assert (transition.next_obs == transition.obs + 1).all()
        over = step % 3 == 2
        assert (getattr(transition, ends) == over).all()
        assert not getattr(transition, "truncated" if ends == "terminated" else "terminated").any()
        assert (transition.obs % 1_000 == step % 3).all()  # the reset observation begins each episode


def test_one_and_many_environments_see_the_same_transitions():
    def seen(num_envs, vectorization):
        found = []
        for first in range(0, 4, num_envs):
            envs = make_vector(EnvSettings(id="Counter-v0", num_envs=num_envs, vectorization=vectorization))
            agent = Tape()
            loop = EnvironmentLoop(agent, envs, seeds=list(range(first, first + num_envs)))
            loop.advance(20 * num_envs)
            envs.close()
            found += [
                tuple(float(np.asarray(part[i]).item()) for part in transition[:6])  # without a bonus
                for transition in agent.transitions
                for i in range(num_envs)
            ]
        return sorted(found)

    assert seen(1, "sync") == seen(4, "sync") == seen(4, "async")


def test_returns_lengths_and_successes_are_those_of_whole_episodes():
    loop, _ = make(2, length=3)
    progress = loop.advance(12)
    assert (progress.returns, progress.lengths, progress.successes) == ([6.0] * 4, [3] * 4, [True] * 4)
    assert progress.steps == 12


def test_a_bonus_is_learnt_from_and_never_reported():
    class Ten:
        def bonus(self, transition):
            return np.full(len(transition.reward), 10.0)

        def metrics(self):
            return {"all": 10.0}

    loop, agent = make(bonuses={"ten": Ten()})
    progress = loop.advance(3)
    assert [float(t.reward[0]) for t in agent.transitions] == [12.0] * 3
    assert [float(t.bonus[0]) for t in agent.transitions] == [10.0] * 3
    assert progress.returns == [6.0]
    assert progress.metrics["exploration/ten_all"] == 10.0


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_bonus_that_is_not_finite_stops_the_run_and_is_named(bad):
    class Pays:
        def __init__(self, amount):
            self.amount = amount

        def bonus(self, transition):
            return np.full(len(transition.reward), self.amount, np.float32)

    loop, agent = make(bonuses={"good": Pays(1.0), "broken": Pays(bad)})
    with pytest.raises(BadBonus, match="the bonus broken pays is not finite after 0 steps"):
        loop.advance(1)
    assert not agent.transitions


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_reward_that_is_not_finite_stops_the_run_and_names_the_environment(bad):
    loop, _ = make(bad=bad)
    with pytest.raises(EnvironmentFault, match="environment 0"):
        loop.advance(1)


@pytest.mark.parametrize("num_envs", [1, 2])
def test_a_reward_that_is_no_number_is_named(num_envs):
    with pytest.raises(EnvironmentFault, match=r"paid the reward \[1.0, 2.0\]: it must be a number"):
        make(num_envs, bad=[1.0, 2.0])[0].advance(2)


@pytest.mark.parametrize("num_envs", [1, 2])
def test_what_an_environment_calls_its_own_infos_and_its_ends_does_not_matter(num_envs):
    class Game(Counter):
        def step(self, action):
            obs, reward, over, _, _ = super().step(action)
            return obs, reward, int(over), 0, dict.fromkeys(("lost", "goes_on", "ended_elsewhere"), over)

    gym.register("Game-v0", Game)
    envs = make_vector(EnvSettings(id="Game-v0"), num_envs)
    progress = EnvironmentLoop(Tape(), envs, seeds=list(range(num_envs))).advance(6 * num_envs)
    found = run_episodes(lambda obs: np.zeros(len(obs), np.int64), envs, range(2), 10)
    del gym.registry["Game-v0"]
    assert (progress.lost, progress.lengths) == (0, [3, 3] * num_envs)
    assert found.lengths.tolist() == [3, 3]


def test_train_pauses_where_callbacks_are_due_whatever_the_number_of_environments():
    class At:
        def __init__(self, every):
            self.every, self.steps = every, []

        def __call__(self, progress: Progress):
            self.steps.append(progress.steps)
            return progress.steps >= 60

    loop, _ = make(3)
    callback = At(7)
    train(loop, 1_000, [callback])
    assert {9, 15, 21, 30, 36, 42, 51, 57, 63} <= set(callback.steps)  # first multiples of 3 from 7, 14, ... on
    assert callback.steps[-1] == 63


def test_evaluation_runs_one_episode_a_seed_and_short_ones_do_not_count_more():
    class Uneven(Counter):
        def reset(self, *, seed=None, options=None):
            result = super().reset(seed=seed)
            self.length = 10 if self.start % 2_000 else 500
            return result

    gym.register("Uneven-v0", Uneven)
    envs = make_vector(EnvSettings(id="Uneven-v0"), 16)
    found = run_episodes(lambda obs: np.zeros(len(obs), np.int64), envs, range(200), 1_000)
    alone = make_vector(EnvSettings(id="Uneven-v0"), 1)
    single = run_episodes(lambda obs: np.zeros(len(obs), np.int64), alone, range(200), 1_000)
    del gym.registry["Uneven-v0"]
    assert found.lengths.tolist() == single.lengths.tolist()
    assert set(found.lengths.tolist()) == {10, 500}
    assert found.returns.tolist() == (2 * found.lengths).tolist()
    assert not found.successes.any()


def test_an_episode_without_end_is_cut_at_the_cap_and_counted():
    envs = make_vector(EnvSettings(id="Counter-v0", kwargs={"length": 10**9}), 4)
    found = run_episodes(lambda obs: np.zeros(len(obs), np.int64), envs, range(6), 50)
    assert found.capped == 6
    assert found.lengths.tolist() == [50] * 6
    assert found.returns.tolist() == [100.0] * 6
