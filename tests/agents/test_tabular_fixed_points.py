"""Where every agent of a table ends up, against exact answers: linear solves, dynamic programming, closed forms."""

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.envs.toy_text.utils import categorical_sample

from rltrain.agents.sarsa import Sarsa
from rltrain.config.load import from_dict
from rltrain.experiment import build
from rltrain.fitting import problems
from rltrain.mdp import Model, backup, policy_value, uniform_policy, value_iteration

MDPS = 50


class TableEnv(gym.Env):
    """An environment in the form of Gymnasium's toy text, which writes down what it is told to do."""

    told = []

    def __init__(self, table, start):
        self.P, self.initial_state_distrib = table, np.array(start)
        self.observation_space, self.action_space = gym.spaces.Discrete(len(table)), gym.spaces.Discrete(len(table[0]))

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.s = int(categorical_sample(self.initial_state_distrib, self.np_random))
        self.told.append("reset")
        return self.s, {}

    def step(self, action):
        self.told.append(int(action))
        outcomes = self.P[self.s][action]
        _, self.s, reward, terminated = outcomes[categorical_sample([p for p, *_ in outcomes], self.np_random)]
        return self.s, reward, terminated, False, {}


class Ring(TableEnv):
    """Reward 1 at each step from state to state in a ring of 8, from state 0 on; with `ends`, one round and no more."""

    def __init__(self, ends=False):
        step = [[(1.0, (s + 1) % 8, 1.0, ends and s == 7)] for s in range(8)]
        super().__init__([[outcome, outcome] for outcome in step], np.eye(8)[0])


class Random(TableEnv):
    """5 to 20 states, 2 or 3 actions, rewards within 1/2 of 0; in 3 of 4 worlds the task ends where the last state begins.

    Half of all episodes begin in the last state, so that a value stands there, which an end must not be worth.
    """

    def __init__(self, number=0):
        rng = np.random.default_rng(number)
        states, actions = int(rng.integers(5, 21)), int(rng.integers(2, 4))
        chances = (rng.dirichlet(np.ones(states), (states, actions)) + 1 / states) / 2  # no state is hard to reach
        rewards = rng.random((states, actions, states)) - 0.5
        ends = np.arange(states) == (states - 1 if number % 4 else -1)
        table = [[list(zip(chances[s, a].tolist(), range(states), rewards[s, a].tolist(), ends.tolist(), strict=True))
                  for a in range(actions)] for s in range(states)]  # fmt: skip
        super().__init__(table, (np.full(states, 1 / states) + np.eye(states)[-1]) / 2)


@pytest.fixture(autouse=True)
def _registered():
    for env in (Ring, Random):
        gym.register(f"{env.__name__}-v0", env)
    TableEnv.told = []
    yield
    for env in (Ring, Random):
        del gym.registry[f"{env.__name__}-v0"]


def experiment(agent, env, *, compile="off", epsilon=1.0, limit=None, seed=0, bonuses=(), kwargs=None, **settings):
    """The parts of a run; planners take no exploration."""
    explored = {} if epsilon is None else {"exploration": {"name": "epsilon_greedy", "epsilon": epsilon}}
    config = from_dict(
        {
            "env": {"id": env, "max_episode_steps": limit, "kwargs": kwargs or {}},
            "agent": {"name": agent, **settings},
            "bonuses": list(bonuses),
            "train": {"total_steps": 1_000_000, "compile": compile},
            "seed": seed,
            **explored,
        }
    ).config
    made = build(config)
    assert made.note is None, made.note
    return made


def learnt(agent, env, steps, **kwargs):
    """Q (S, A) after so many steps."""
    made = experiment(agent, env, **kwargs)
    made.loop.advance(steps)
    return made.agent.memory.q


LEARNERS = [
    ("q_learning", {}),
    ("sarsa", {}),
    ("expected_sarsa", {}),
    ("double_q_learning", {}),
    ("n_step_sarsa", {"n_step": 3}),
    ("sarsa_lambda", {"traces": "accumulating", "trace_decay": 0.5}),
    ("sarsa_lambda", {"traces": "replacing"}),
    ("sarsa_lambda", {"traces": "dutch"}),
    ("watkins_q_lambda", {}),
    ("monte_carlo", {}),
    ("dyna_q", {"planning_steps": 3}),
    ("dyna_q", {"planning_steps": 3, "prioritized": True}),
]
NAMES = [" ".join([name, *map(str, settings.values())]) for name, settings in LEARNERS]


@pytest.mark.parametrize("compile", ["off", "on"])
@pytest.mark.parametrize(("agent", "settings"), LEARNERS, ids=NAMES)
def test_reward_1_for_ever_is_worth_50_although_episodes_are_cut_at_8_steps(agent, settings, compile):
    """v = 1 / (1 - 0.98) = 50 in every state."""
    q = learnt(agent, "Ring-v0", 6_500, compile=compile, limit=8, gamma=0.98, learning_rate=1.0, **settings)
    assert np.abs(q - 50).max() < 1


@pytest.mark.parametrize("limit", [8, 100])
@pytest.mark.parametrize(("agent", "settings"), LEARNERS, ids=NAMES)
def test_eight_rewards_and_a_real_end_are_worth_746(agent, settings, limit):
    """v(s) = 1 + 0.98 + ... of 8 - s rewards = (1 - 0.98^(8 - s)) / 0.02; 7.46 in state 0. At 8 both ends meet."""
    kwargs = {"limit": limit, "gamma": 0.98, "learning_rate": 1.0, "kwargs": {"ends": True}}
    q = learnt(agent, "Ring-v0", 1_000, **kwargs, **settings)
    assert q.max() == pytest.approx(7.46, abs=0.01)
    np.testing.assert_allclose(q, np.tile((1 - 0.98 ** (8 - np.arange(8.0))) / 0.02, (2, 1)).T, atol=0.01)


@pytest.mark.parametrize(("ends", "limit"), [(False, 8), (True, 100)])
def test_sarsa_takes_the_very_action_it_bootstraps_from_unless_the_episode_ends(ends, limit, monkeypatch):
    asked, rule = [], Sarsa.learn

    def learn(memory, constants, step, policy, rng):
        asked.append(step)
        rule(memory, constants, step, policy, rng)

    monkeypatch.setattr(Sarsa, "learn", staticmethod(learn))
    made = experiment("sarsa", "Ring-v0", limit=limit, kwargs={"ends": ends})
    TableEnv.told = []  # without what its table was held to
    made.loop.advance(801)
    taken = [word for word in TableEnv.told if word != "reset"]
    assert [step.action for step in asked] == taken
    following = list(zip(asked, taken[1:], strict=False))
    inside = [(step.next_action, action) for step, action in following if not step.terminated and not step.truncated]
    assert len(inside) == 700
    assert all(bootstrapped == action for bootstrapped, action in inside)
    last = [(step.next_action, action) for step, action in following if step.terminated or step.truncated]
    if ends:
        assert {bootstrapped for bootstrapped, _ in last} == {-1}
    else:  # one is drawn to bootstrap from, and the next episode draws its own
        assert {*last} == {(0, 0), (0, 1), (1, 0), (1, 1)}


def test_the_seed_decides_what_a_random_world_is_and_ends_are_found_in_it():
    worlds = [Random(number) for number in range(MDPS)]
    models = [Model.from_table(world.P, world.initial_state_distrib) for world in worlds]
    assert len({model.states for model in models}) > 10
    assert sum(model.terminated.any() for model in models) == 37  # of every 4 worlds 3


def worst_error(agent, exact, settings):
    """The greatest |Q - exact| over all pairs of 50 random worlds, explored uniformly at random."""
    worst = []
    for number in range(MDPS):
        several = {key: value[number % 3] if isinstance(value, tuple) else value for key, value in settings.items()}
        made = experiment(agent, "Random-v0", compile="on", limit=20, kwargs={"number": number}, gamma=0.8,
                          **{"learning_rate": 1.0, "visit_power": 0.75, **several})  # fmt: skip
        made.loop.advance(15_000 * made.spec.model.states)
        worst.append(float(np.abs(made.agent.memory.q - exact(made.spec.model)).max()))
    return max(worst)


def optimum(model):
    """Q* (S, A)."""
    return value_iteration(model, 0.8)[0]


def of_uniform(model):
    """Q (S, A) of the policy that acts at random."""
    return backup(model, policy_value(model, uniform_policy(model), 0.8), 0.8)


@pytest.mark.parametrize(
    ("agent", "settings"),
    [
        ("q_learning", {}),
        ("double_q_learning", {}),
        ("watkins_q_lambda", {"trace_decay": 0.3, "traces": ("accumulating", "replacing", "replacing")}),
        pytest.param("dyna_q", {"planning_steps": 1, "model_size": 2_000}, marks=pytest.mark.slow),
    ],
)
def test_off_policy_learners_find_the_optimum_of_50_random_worlds(agent, settings):
    assert worst_error(agent, optimum, settings) < 0.05


@pytest.mark.parametrize(
    ("agent", "settings"),
    [
        ("sarsa", {}),
        ("expected_sarsa", {}),
        pytest.param("n_step_sarsa", {"n_step": (2, 3, 5)}, marks=pytest.mark.slow),
        ("sarsa_lambda", {"trace_decay": 0.3, "traces": ("accumulating", "replacing", "dutch")}),
        ("monte_carlo", {"visit_power": 1.0}),
    ],
)
def test_on_policy_learners_find_the_value_of_the_random_policy_in_50_random_worlds(agent, settings):
    assert worst_error(agent, of_uniform, settings) < 0.05


@pytest.mark.parametrize("agent", ["sarsa", "expected_sarsa"])
def test_under_a_constant_epsilon_sarsa_finds_the_best_of_the_epsilon_soft_policies_on_the_cliff(agent):
    """-20.7077 at the start for epsilon 1/10 (solved exactly); the shortest path is worth -45.8 under it."""
    settings = {"epsilon": 0.1, "limit": 1_000, "gamma": 1.0, "learning_rate": 1.0, "visit_power": 0.7}
    row = learnt(agent, "CliffWalking-v1", 5_000_000, compile="on", **settings)[36]
    assert 0.9 * row.max() + 0.1 * row.mean() == pytest.approx(-20.7077, abs=0.1)


@pytest.mark.parametrize("compile", ["off", "on"])
@pytest.mark.parametrize(("over", "scale"), [("state", 1.0), ("state_action", 2.0)])
def test_a_bonus_for_seldom_visits_is_learnt_as_if_it_were_paid(over, scale, compile):
    """With gamma 0 and learning rate 1, Q is the latest reward: 1 and scale / sqrt(visits), that one included."""
    bonus = {"name": "count", "scale": scale, "over": over}
    made = experiment("q_learning", "Ring-v0", compile=compile, bonuses=[bonus], gamma=0.0, learning_rate=1.0)
    made.loop.advance(200)
    q, visits = made.agent.memory.q, made.agent.memory.visits
    assert visits.min() > 3
    if over == "state_action":
        np.testing.assert_allclose(q, 1 + scale / np.sqrt(visits), rtol=1e-6)
    else:  # each state was reached 25 times, the last time by one of two actions
        np.testing.assert_allclose(q.min(axis=1), 1 + scale / 5, rtol=1e-6)


# --- planners

KNOWN = [
    ("FrozenLake-v1", 0.99, 0.542026),
    ("FrozenLake8x8-v1", 0.99, 0.414640),
    ("FrozenLake-v1", 0.9, 0.068891),
    ("CliffWalking-v1", 0.99, -12.247898),
    ("CliffWalking-v1", 0.9, -7.458134),
    ("Taxi-v4", 0.99, 6.327464),
]


@pytest.mark.parametrize("agent", ["value_iteration", "policy_iteration"])
@pytest.mark.parametrize(("env", "gamma", "value"), KNOWN)
def test_planners_find_the_optimum_and_then_rest(agent, env, gamma, value):
    """Values of the start by independent computation."""
    made = experiment(agent, env, epsilon=None, gamma=gamma)
    rounds = 0
    while made.agent.update():
        rounds += 1
    assert rounds < (25 if agent == "policy_iteration" else 3_000)
    model = made.spec.model
    q = made.agent.values(np.arange(model.states))
    assert np.abs(q - value_iteration(model, gamma, tolerance=1e-12)[0]).max() < 1e-6
    assert model.start @ q.max(axis=1) == pytest.approx(value, abs=1e-6)
    assert made.agent.update() == {}
    np.testing.assert_array_equal(made.agent.act(np.arange(model.states)), q.argmax(axis=1))


def test_value_iteration_looks_one_step_further_with_each_step_in_the_environment():
    """In the ring with an end, from state 8 - k on k rewards are left: 1, 1.98, ..., of which n sweeps see n."""
    made = experiment("value_iteration", "Ring-v0", epsilon=None, gamma=0.98, kwargs={"ends": True})
    for sweeps in range(1, 9):
        made.loop.advance(1)
        left = np.minimum(8 - np.arange(8), sweeps)
        np.testing.assert_allclose(made.agent.values(np.arange(8))[:, 0], (1 - 0.98**left) / 0.02, rtol=1e-12)


def test_planners_without_a_model_and_policy_iteration_without_a_discount_are_refused():
    def messages(agent, env, gamma):
        data = {"env": {"id": env}, "agent": {"name": agent, "gamma": gamma}, "train": {"total_steps": 10}}
        return [(problem.path, problem.message) for problem in problems(from_dict(data).config)]

    assert messages("value_iteration", "FrozenLake-v1", 1.0) == []
    ((path, message),) = messages("policy_iteration", "FrozenLake-v1", 1.0)
    assert path == "agent.gamma"
    assert "below 1" in message
    ((path, message),) = messages("value_iteration", "CartPole-v1", 0.9)
    assert path == "agent.name"
    assert "discretize" in message
