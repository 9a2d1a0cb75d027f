"""The compiled loop does what the readable one does, to the last bit, or is not used."""

import json
import os

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.envs.toy_text.utils import categorical_sample

from rltrain import checkpoint
from rltrain import jit as cache
from rltrain.config.load import from_dict
from rltrain.core import ConfigError
from rltrain.envs.vector import make_vector
from rltrain.evaluation import run_episodes
from rltrain.experiment import build
from rltrain.fitting import problems
from rltrain.jit import digest
from rltrain.kernels import tabular
from rltrain.kernels.episodes import ModelEpisodes
from rltrain.kernels.tabular import TabularLoop, parts_of
from rltrain.kernels.world import TableBoard
from rltrain.loop import EnvironmentLoop
from rltrain.registry import find, names
from rltrain.selection import RowSelector
from rltrain.tabular import TabularAgent

LEARNERS = [name for name in names("agents") if issubclass(find("agents", name), TabularAgent)]
SELECTORS = [name for name in names("explorations") if issubclass(find("explorations", name), RowSelector)]
ENVS = [
    {"id": "FrozenLake-v1"},
    {"id": "Taxi-v4", "max_episode_steps": 60},
    {"id": "CliffWalking-v1", "max_episode_steps": 100},
]


def made(agent, exploration, env, compile, seed=0, bonuses=(), steps=50_000):
    return from_dict(
        {
            "env": env,
            "agent": agent if isinstance(agent, dict) else {"name": agent},
            "exploration": exploration if isinstance(exploration, dict) else {"name": exploration},
            "bonuses": list(bonuses),
            "train": {"total_steps": steps, "compile": compile},
            "seed": seed,
        }
    ).config


def canonical(state):
    arrays = {}
    tree = checkpoint._outline(state, "", arrays)
    return json.dumps(tree), {name: (array.dtype.str, array.tobytes()) for name, array in arrays.items()}


def numbers(metrics):
    return {name: float(value() if callable(value) else np.mean(value)) for name, value in metrics.items()}


def assert_parity(agent, exploration, env, seed=0, bonuses=(), steps=(1, 700, 299)):
    config = made(agent, exploration, env, "on", seed, bonuses)
    if problems(config):
        return False
    fast, slow = build(config), build(made(agent, exploration, env, "off", seed, bonuses))
    assert isinstance(fast.loop, TabularLoop)
    assert isinstance(slow.loop, EnvironmentLoop)
    for count in steps:
        its, mine = slow.loop.advance(count), fast.loop.advance(count)
        assert (mine.returns, mine.lengths, mine.steps) == (its.returns, its.lengths, its.steps)
        assert (mine.choices, mine.exploratory, mine.bonus) == (its.choices, its.exploratory, its.bonus)
        assert mine.actions.tolist() == its.actions.tolist()
        assert numbers(mine.metrics) == numbers(its.metrics)
        assert canonical(fast.agent.state_dict()) == canonical(slow.agent.state_dict())
        assert canonical(fast.loop.state_dict()) == canonical(slow.loop.state_dict())
    return True


# Compiling a loop takes seconds. Every second pair is for `make test-slow`: every agent and every strategy is in both.
PAIRS = [
    pytest.param(agent, exploration, marks=[pytest.mark.slow] if (row + column) % 2 else [])
    for row, agent in enumerate(LEARNERS)
    for column, exploration in enumerate(SELECTORS)
]


@pytest.mark.parametrize(("agent", "exploration"), PAIRS)
def test_table_visits_returns_and_generators_are_equal_to_the_last_bit(agent, exploration):
    ran = [assert_parity(agent, exploration, env, seed) for env in ENVS for seed in range(3)]
    assert all(ran) or (not any(ran) and (agent, exploration) == ("expected_sarsa", "thompson"))


VARIANTS = [
    {"name": "q_learning", "visit_power": 0.7, "initial_value": 1.5},
    {"name": "q_learning", "learning_rate": {"schedule": "exponential", "start": 0.9, "end": 0.01, "steps": 800}},
    {"name": "sarsa", "learning_rate": {"schedule": "cosine", "start": 0.9, "end": 0.01, "steps": 800}},
    {"name": "sarsa_lambda", "traces": "accumulating", "trace_decay": 0.7},
    {"name": "sarsa_lambda", "traces": "dutch"},
    {"name": "watkins_q_lambda", "traces": "accumulating", "trace_decay": 1.0, "visit_power": 1.0},
    {"name": "double_q_learning", "visit_power": 0.6},
    {"name": "n_step_sarsa", "n_step": 1},
    {"name": "n_step_sarsa", "n_step": 9, "gamma": 1.0},
    {"name": "monte_carlo", "learning_rate": 1.0, "visit_power": 1.0},
    {"name": "dyna_q", "prioritized": True, "planning_steps": 3},
    {"name": "dyna_q", "model_size": 5, "planning_steps": 4},
]


@pytest.mark.parametrize("agent", VARIANTS, ids=lambda agent: "-".join(map(str, agent.values()))[:60])
@pytest.mark.parametrize("env", ENVS[:2], ids=lambda env: env["id"])
def test_every_setting_of_a_rule_is_the_same_in_both_loops(agent, env):
    epsilon = {"schedule": "linear", "start": 1.0, "end": 0.1, "steps": 600}
    assert assert_parity(agent, {"name": "epsilon_greedy", "epsilon": epsilon}, env)


@pytest.mark.parametrize("agent", ["q_learning", "sarsa_lambda"])
def test_a_noise_that_is_learnt_is_the_same_in_both_loops(agent):
    belief = {"name": "thompson", "posterior": "normal_inverse_gamma", "noise_std": 0.5}
    assert assert_parity(agent, belief, ENVS[1])


@pytest.mark.parametrize("over", ["state", "state_action"])
def test_a_count_bonus_is_paid_and_reported_alike(over):
    for agent in ("q_learning", "sarsa"):
        bonus = {"name": "count", "over": over, "scale": 0.3}
        assert assert_parity(agent, "greedy", ENVS[0], bonuses=[bonus], steps=(1, 500))


RAMP = {"start": 2.0, "end": 0.01, "steps": 900}


@pytest.mark.parametrize(
    "scale", [0.3, *({**RAMP, "schedule": shape} for shape in ("linear", "exponential", "cosine"))]
)
@pytest.mark.parametrize("clip", [None, 0.2])
def test_the_scale_and_the_limit_of_a_count_bonus_are_the_same_in_both_loops(scale, clip):
    for seed in range(3):
        bonus = {"name": "count", "over": "state_action", "scale": scale, "clip": clip}
        assert assert_parity("q_learning", "epsilon_greedy", ENVS[1], seed, bonuses=[bonus])


@pytest.mark.parametrize("first", ["on", "off"])
def test_a_scheduled_bonus_goes_on_exactly_in_the_other_loop(first):
    second = {"on": "off", "off": "on"}[first]
    bonus = {"name": "count", "scale": {**RAMP, "schedule": "linear"}, "clip": 0.5}
    one, other = (build(made("sarsa", "epsilon_greedy", ENVS[0], compile, 0, [bonus])) for compile in (first, second))
    one.loop.advance(333)
    other.loop.advance(50)
    other.agent.load_state_dict(one.agent.state_dict())
    other.loop.load_state_dict(one.loop.state_dict())
    its, mine = one.loop.advance(300), other.loop.advance(300)
    assert numbers(mine.metrics) == numbers(its.metrics)
    assert mine.metrics["exploration/count_scale"] == pytest.approx(2 - 1.99 * 633 / 900)
    assert canonical(one.agent.state_dict()) == canonical(other.agent.state_dict())
    assert canonical(one.loop.state_dict()) == canonical(other.loop.state_dict())


@pytest.mark.parametrize("first", ["on", "off"])
def test_a_run_goes_on_exactly_in_the_other_loop(first, tmp_path):
    env, second = {"id": "CliffWalking-v1"}, {"on": "off", "off": "on"}[first]  # without a limit: long episodes
    one = build(made("sarsa_lambda", "boltzmann", env, first))
    one.loop.advance(777)
    state = {"agent": one.agent.state_dict(), "loop": one.loop.state_dict()}
    saved = checkpoint.load(checkpoint.save(tmp_path, 777, state, config={}, score=None)).state
    other = build(made("sarsa_lambda", "boltzmann", env, second))
    other.loop.advance(50)
    other.agent.load_state_dict(saved["agent"])
    other.loop.load_state_dict(saved["loop"])
    for experiment in (one, other):
        experiment.loop.advance(1_500)
    assert canonical(one.agent.state_dict()) == canonical(other.agent.state_dict())
    assert canonical(one.loop.state_dict()) == canonical(other.loop.state_dict())


BLACKJACK = {
    "id": "Blackjack-v1",
    "kwargs": {"sab": False},
    "max_episode_steps": 30,
    "wrappers": [{"name": "discretize"}],
}


@pytest.mark.parametrize("agent", ["q_learning", "monte_carlo", "double_q_learning"])
def test_blackjack_is_dealt_and_paid_alike(agent):
    for seed in range(3):
        assert assert_parity(agent, "epsilon_greedy", BLACKJACK, seed, steps=(1, 1_500, 700))
    limited = {**BLACKJACK, "max_episode_steps": 2}
    assert assert_parity(agent, "epsilon_greedy", limited, steps=(500, 500))


@pytest.mark.parametrize("first", ["on", "off"])
def test_blackjack_goes_on_exactly_in_the_other_loop(first):
    second = {"on": "off", "off": "on"}[first]
    one, other = (build(made("sarsa", "epsilon_greedy", BLACKJACK, compile)) for compile in (first, second))
    one.loop.advance(1_235)
    other.loop.advance(77)
    other.agent.load_state_dict(one.agent.state_dict())
    other.loop.load_state_dict(one.loop.state_dict())
    for experiment in (one, other):
        experiment.loop.advance(900)
    assert canonical(one.agent.state_dict()) == canonical(other.agent.state_dict())
    assert canonical(one.loop.state_dict()) == canonical(other.loop.state_dict())


class Line(gym.Env):
    """A user's own environment of the toy-text kind: five places in a row, the last one pays."""

    lies = lavish = False

    def __init__(self):
        self.observation_space, self.action_space = gym.spaces.Discrete(5), gym.spaces.Discrete(2)
        self.initial_state_distrib = np.array([1.0, 0, 0, 0, 0])
        self.P = {
            s: {
                a: [
                    (0.8, min(s + 1, 4) if a else max(s - 1, 0), float(s == 3 and a), s == 3 and a == 1),
                    (0.2, s, 0.1, False),
                ]
                for a in range(2)
            }
            for s in range(5)
        }

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.s = int(categorical_sample(self.initial_state_distrib, self.np_random))
        return self.s, {}

    def step(self, action):
        outcomes = self.P[self.s][int(action)]
        _, self.s, reward, over = outcomes[categorical_sample([o[0] for o in outcomes], self.np_random)]
        if self.lavish:
            self.np_random.random()
        if self.lies and self.s == 3:
            reward += 1.0
        return self.s, reward, over, False, {}


class LyingLine(Line):
    """Its table does not say what it pays."""

    lies = True


class LavishLine(Line):
    """Draws a number that it does not need: the same outcomes as its table's, from other numbers."""

    lavish = True


class PrivateLine(Line):
    """Keeps its state under a name of its own."""

    s = property(lambda self: None, lambda self, state: setattr(self, "place", state))

    def step(self, action):
        outcomes = self.P[self.place][int(action)]
        _, self.place, reward, over = outcomes[categorical_sample([o[0] for o in outcomes], self.np_random)]
        return self.place, reward, over, False, {}

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return self.place, {}


@pytest.fixture
def _lines():
    gym.register("Line-v0", Line, max_episode_steps=40)
    gym.register("PrivateLine-v0", PrivateLine, max_episode_steps=40)
    gym.register("LyingLine-v0", LyingLine, max_episode_steps=40)
    gym.register("LavishLine-v0", LavishLine, max_episode_steps=40)
    yield
    for name in ("Line-v0", "PrivateLine-v0", "LyingLine-v0", "LavishLine-v0"):
        del gym.registry[name]


@pytest.mark.usefixtures("_lines")
def test_a_users_own_environment_with_a_model_is_compiled_and_one_that_lies_or_hides_its_state_is_not():
    assert assert_parity("q_learning", "epsilon_greedy", {"id": "Line-v0"})
    for env in ("LyingLine-v0", "LavishLine-v0", "PrivateLine-v0"):
        config = made("q_learning", "epsilon_greedy", {"id": env}, "auto")
        assert problems(config) == []
        experiment = build(config)
        assert isinstance(experiment.loop, EnvironmentLoop)
        experiment.loop.advance(50)


@pytest.mark.usefixtures("_lines")
@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"env": {"id": "LyingLine-v0"}}, "does not follow it"),
        ({"env": {"id": "LavishLine-v0"}}, "does not behave as its model says"),
        ({"env": {"id": "FrozenLake-v1", "num_envs": 2}}, "set env.num_envs to 1"),
        ({"env": {"id": "FrozenLake-v1", "wrappers": [{"name": "scale_reward", "scale": 2}]}}, "is wrapped"),
        ({"bonuses": [{"name": "count"}, {"name": "count"}]}, "only one count"),
        ({"agent": {"name": "value_iteration"}, "exploration": None}, "no compiled loop"),
    ],
)
def test_compile_on_is_refused_with_the_reason_where_it_cannot_be(change, reason):
    data = {
        "env": {"id": "FrozenLake-v1"},
        "agent": {"name": "q_learning"},
        "exploration": {"name": "epsilon_greedy"},
        "train": {"total_steps": 50_000, "compile": "on"},
    }
    found = problems(from_dict({**data, **change}).config)
    assert [problem.path for problem in found] == ["train.compile"]
    assert reason in found[0].message


def test_compile_has_three_words():
    with pytest.raises(ConfigError, match=r"train\.compile"):
        made("q_learning", "greedy", ENVS[0], "sometimes")


def test_short_runs_are_not_compiled_unless_asked_to():
    assert isinstance(build(made("q_learning", "greedy", ENVS[0], "auto", steps=1_000)).loop, EnvironmentLoop)
    assert isinstance(build(made("q_learning", "greedy", ENVS[0], "on", steps=1_000)).loop, TabularLoop)


def test_without_numba_the_readable_loop_runs_and_says_so_once(monkeypatch):
    monkeypatch.setattr(tabular, "available", lambda: False)
    config = made("q_learning", "greedy", ENVS[0], "auto")
    experiment = build(config)
    assert isinstance(experiment.loop, EnvironmentLoop)
    assert experiment.note == "numba is not installed: the readable loop runs, some hundred times slower"


def test_a_users_own_rule_is_compiled_unmarked_and_one_that_numba_cannot_take_is_told(monkeypatch):
    from rltrain import registry
    from rltrain.agents.q_learning import learn as marked

    def unmarked(memory, constants, step, policy, rng):
        marked(memory, constants, step, policy, rng)

    def unknown(memory, constants, step, policy, rng):
        helper(memory, step)

    def helper(memory, step):
        memory.q[step.obs, step.action] += 1.0

    own = type(
        "OwnRule", (TabularAgent,), {"Config": find("agents", "q_learning").Config, "learn": staticmethod(unmarked)}
    )
    monkeypatch.setitem(registry._registered, ("agents", "own_rule"), own)
    assert assert_parity("own_rule", "epsilon_greedy", ENVS[0])
    own.learn = staticmethod(unknown)
    (problem,) = problems(made("own_rule", "epsilon_greedy", ENVS[0], "on"))
    assert "Numba cannot compile it" in problem.message
    assert "helper" in problem.message
    experiment = build(made("own_rule", "epsilon_greedy", ENVS[0], "auto"))
    assert isinstance(experiment.loop, EnvironmentLoop)
    assert "the readable loop runs" in experiment.note
    experiment.loop.advance(20)


def test_the_folder_of_a_compiled_loop_changes_with_a_users_source(tmp_path, monkeypatch):
    import importlib
    import sys

    def of(text):
        sys.modules.pop("own_rule", None)
        (tmp_path / "own_rule.py").write_text(text)
        importlib.invalidate_caches()
        return digest([importlib.import_module("own_rule").learn])

    monkeypatch.syspath_prepend(tmp_path)
    rule = "def learn(memory, constants, step, policy, rng):\n    memory.q[0, 0] += {}\n"
    assert of(rule.format(1)) == of(rule.format(1)) != of(rule.format(2))
    assert digest([parts_of]) == digest([]) != of(rule.format(1))


def test_the_folder_of_a_compiled_loop_changes_with_rltrains_source(tmp_path, monkeypatch):
    (tmp_path / "agents").mkdir()
    monkeypatch.setattr(cache, "PACKAGE", tmp_path)
    found = []
    for text in ("a = 1", "a = 1", "a = 2"):
        (tmp_path / "agents" / "rule.py").write_text(text)
        cache._sources.cache_clear()
        found.append(digest([]))
    cache._sources.cache_clear()
    assert found[0] == found[1] != found[2]


def test_old_folders_are_removed_and_where_nothing_can_be_written_nothing_is_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(cache, "__file__", str(tmp_path / "cache.py"))
    for number in range(cache.KEPT + 5):
        folder = cache.cache_folder(f"digest{number}")
        os.utime(folder, (number, number))
    kept = {path.name for path in folder.parent.iterdir()}
    assert len(kept) == cache.KEPT + 1
    assert f"digest{cache.KEPT + 4}" in kept
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(cache, "__file__", str(tmp_path / "file" / "cache.py"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "users"))
    assert cache.cache_folder("x") == tmp_path / "users" / "rltrain" / "loops" / "x"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert cache.cache_folder("x") is None


def test_a_later_process_finds_the_compiled_loop_on_disk():
    import subprocess
    import sys

    code = (
        "from rltrain.config.load import from_dict\nfrom rltrain.experiment import build\n"
        "config = from_dict({'env': {'id': 'FrozenLake-v1'}, 'agent': {'name': 'q_learning'}, 'exploration': "
        "{'name': 'greedy'}, 'train': {'total_steps': 10, 'compile': 'on'}}).config\n"
        "loop = build(config).loop\nloop.advance(10)\nimport sys\n"
        "print(sum(loop._run.stats.cache_hits.values()), 'torch' in sys.modules)"
    )
    build(made("q_learning", "greedy", ENVS[0], "on")).loop.advance(10)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["1", "False"]


def test_parts_are_the_functions_of_the_readable_loop():
    agent = build(made("expected_sarsa", "boltzmann", ENVS[0], "off")).agent
    parts = parts_of(agent, None, TableBoard)
    assert parts.learn is type(agent).learn
    assert parts.choose is type(agent.exploration).choose
    assert parts.probabilities is type(agent.exploration).probabilities


@pytest.mark.parametrize("env", ENVS, ids=lambda env: env["id"])
@pytest.mark.parametrize("cap", [7, 60, 1_000])
def test_episodes_on_the_model_are_those_of_the_environment(env, cap):
    experiment = build(made("q_learning", "epsilon_greedy", env, "off"))
    experiment.loop.advance(2_000)
    model, seeds = experiment.spec.model, list(range(40))
    policy = experiment.agent.act(np.arange(model.states), explore=False)
    envs = make_vector(experiment.config.env, 8)
    its = run_episodes(lambda obs: policy[obs], envs, seeds, cap)
    mine = ModelEpisodes(model, experiment.spec.max_episode_steps)(policy, seeds, cap)
    assert mine.returns.tolist() == its.returns.tolist()
    assert mine.lengths.tolist() == its.lengths.tolist()
    assert mine.capped == its.capped
