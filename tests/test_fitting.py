"""What goes with what: every agent, exploration and bonus, tried out where it is taken and told where it is not."""

import re
from contextlib import nullcontext
from itertools import product
from typing import ClassVar

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.envs.registration import EnvSpec

from rltrain import fitting
from rltrain.config.load import from_dict, to_dict
from rltrain.core import ConfigError
from rltrain.experiment import build
from rltrain.fitting import bonus_misfit, exploration_misfit, fitting_explorations, pairs, problems
from rltrain.memory import MEMORY_SHARE
from rltrain.registry import find, names, settings_class

AGENTS, EXPLORATIONS, BONUSES = names("agents"), names("explorations"), names("bonuses")
TINY = {
    "learning_starts": 10,
    "buffer_size": 300,
    "batch_size": 4,
    "target_update_interval": 50,
    "hidden_sizes": [4],
    "features": 4,
    "n_steps": 24,
    "n_epochs": 1,
    "episodes_per_update": 2,
    "planning_steps": 1,
}
MODEL = {"id": "FrozenLake-v1"}
NUMBER = gym.spaces.Box(0, 1, (1,))
NUMBERS = {"id": "Pendulum-v1"}


def tiny(kind, name, **more):
    known = settings_class(kind, name).model_fields
    size = {"batch_size": 40} if kind == "bonuses" and "batch_size" in known else {}  # five gradient steps are enough
    return {"name": name, **{key: value for key, value in TINY.items() if key in known}, **size, **more}


def default(exploration):
    return settings_class("explorations", exploration)(name=exploration)


def config(agent, exploration=None, bonuses=(), env=MODEL, **more):
    data = {
        "env": env,
        "agent": tiny("agents", agent, **more),
        "exploration": None if exploration is None else {"name": exploration},
        "bonuses": [tiny("bonuses", bonus) for bonus in bonuses],
        "train": {"total_steps": 300, "compile": "off"},
        "device": "cpu",
    }
    return from_dict(data).config


def env_of(agent):
    """An environment that the agent takes, with any exploration that fits."""
    fits = fitting_explorations(config(agent).agent)
    return next(env for env in (MODEL, NUMBERS) if not problems(config(agent, fits[0] if fits else None, env=env)))


def finite(tree):
    if isinstance(tree, dict):
        return all(finite(value) for value in tree.values())
    if isinstance(tree, list | tuple):
        return all(finite(value) for value in tree)
    return not isinstance(tree, np.ndarray) or tree.dtype.kind != "f" or bool(np.isfinite(tree).all())


def named(reason, agent):
    """Whether a refusal names another way: an exploration or a setting that fits, or what to leave out."""
    return "leave" in reason or any(f" {other}" in reason.split(": ", 1)[1] for other in fitting_explorations(agent))


@pytest.mark.parametrize("agent", AGENTS)
def test_every_pair_runs_without_and_with_every_bonus_or_is_refused_with_another_way(agent, monkeypatch):
    """All bonuses that fit are paid at once, each by itself in the metrics: a sum is finite where its parts are."""
    env, settings = env_of(agent), config(agent).agent
    monkeypatch.setattr(fitting, "environment_problems", lambda config: [])  # the environment is right: it was asked
    taken = fitting_explorations(settings)
    for exploration in EXPLORATIONS:
        found = problems(config(agent, exploration, env=env))
        assert (found == []) == (exploration in taken)
        if found:
            assert [problem.path.split(".")[0] for problem in found] == ["exploration"]
            assert named(found[0].message, settings), found
    ways = [exploration for exploration in taken if exploration in EXPLORATIONS] or [None]
    rewarded = []
    for bonus in BONUSES:  # what a bonus needs is told by agent and environment
        if found := problems(config(agent, ways[0], [bonus], env)):
            assert "use " in found[0].message or "leave" in found[0].message, found
        else:
            rewarded.append(bonus)
    for exploration, bonuses in product(ways, [[], rewarded] if rewarded else [[]]):
        run = build(config(agent, exploration, bonuses, env))
        paid = run.loop.advance(200).metrics
        assert all(np.isfinite(paid[name]).all() for name in paid if name.startswith("exploration/bonus"))
        assert finite(run.agent.state_dict()), (exploration, bonuses)
        assert finite(run.loop.state_dict()), (exploration, bonuses)
        run.envs.close()


def test_what_is_listed_is_what_is_refused():
    for agent in AGENTS:
        listed, settings = pairs("explorations", agent), config(agent).agent
        assert list(listed) == EXPLORATIONS
        for exploration, reason in listed.items():
            told = exploration_misfit(settings, default(exploration))
            assert (reason is None) == (told is None) == (exploration in fitting_explorations(settings))
            assert reason is None or told.startswith(reason)
            assert pairs("agents", exploration)[agent] == reason
        assert set(pairs("bonuses", agent).values()) == {bonus_misfit(settings)}
    assert pairs("bonuses", "value_iteration")["count"] is not None
    assert pairs("bonuses", "dqn")["count"] is None


def test_a_setting_that_a_refusal_names_makes_the_pair_fit():
    tried = set()
    for agent, exploration in product(AGENTS, EXPLORATIONS):
        reason = exploration_misfit(config(agent).agent, default(exploration)) or ""
        for setting in re.findall(r"agent\.\w+=(?:\{.*?\}|\w+)", reason):
            made = to_dict(config(agent)) | {"exploration": {"name": exploration}}
            assert problems(from_dict(made, overrides=[setting]).config) == []
            tried.add((agent, exploration, setting.split("=")[0]))
    assert tried >= {("dqn", "thompson", "agent.heads"), ("dqn", "ucb", "agent.visits")}


def test_a_plugins_agent_is_judged_by_what_it_says(monkeypatch):
    from rltrain import registry

    class Mine(find("agents", "q_learning")):
        class Config(find("agents", "q_learning").Config):
            offers: ClassVar[tuple[str, ...]] = ()

    monkeypatch.setitem(registry._registered, ("agents", "mine"), Mine)
    assert "visits" in pairs("explorations", "mine")["ucb"]
    assert pairs("explorations", "mine")["epsilon_greedy"] is None
    assert "mine" in pairs("agents", "ucb")


def test_an_exception_that_says_nothing_is_named_and_so_is_what_was_done(monkeypatch):
    def wrap(self, env):
        raise NotImplementedError

    monkeypatch.setattr(find("wrappers", "flatten"), "wrap", wrap)
    (found,) = problems(config("ppo", env=MODEL | {"wrappers": [{"name": "flatten"}]}))
    assert found == ("env.wrappers", "FrozenLake-v1 cannot be made with them: NotImplementedError")


class Torn(gym.Wrapper):
    """Fails in its first step, or when it is closed."""

    closing = False

    def step(self, action):
        if not self.closing:
            raise KeyError("torn")
        return self.env.step(action)

    def close(self):
        raise OSError("gone")


@pytest.mark.parametrize(("closing", "paths"), [(False, ["env.wrappers"]), (True, [])])
def test_a_wrapper_that_fails_is_told_as_one_and_what_fails_when_it_is_closed_is_not(closing, paths, monkeypatch):
    monkeypatch.setattr(Torn, "closing", closing)
    monkeypatch.setattr(find("wrappers", "flatten"), "wrap", lambda self, env: Torn(env))
    made = config("ppo", env=MODEL | {"wrappers": [{"name": "flatten"}]})
    monkeypatch.setattr(fitting, "environment_problems", lambda config: [])  # which closes what it makes
    monkeypatch.setattr(fitting, "_spec", lambda config: fitting.EnvSpec("x", NUMBER, gym.spaces.Discrete(4), 1))
    assert [problem.path for problem in problems(made)] == paths


class Odd(gym.Env):
    """Does in its first step what `how` says."""

    observation_space, action_space = gym.spaces.Box(-1, 1, (3,)), gym.spaces.Discrete(2)

    def __init__(self, how="fine"):
        self.how = how
        if how == "bytes":
            self.observation_space = gym.spaces.Box(0, 255, (3,), np.uint8)
        if how == "leaves":
            raise SystemExit(3)
        if how == "key":
            {}["rooms"]

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return np.zeros(2 if self.how == "reset" else 3, np.float32), {}

    def step(self, action):
        if self.how == "raises":
            raise RuntimeError("no\nmore")
        if self.how == "ends":
            raise SystemExit(3)
        obs = np.zeros(4 if self.how == "shape" else 3, np.float32)
        return (obs, 1.0, False, {}) if self.how == "old" else (obs, 1.0, False, False, {})


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("fine", None),
        (
            "raises",
            r"Odd-v0 cannot be played: its first step raised RuntimeError: no \(.*test_fitting.py:\d+\)",
        ),
        ("old", r"expected 5, got 4.*: step must return obs, reward, terminated, truncated, info"),
        ("ends", r"Odd-v0 cannot be played: its first step raised SystemExit: 3 \(.*test_fitting.py:\d+\)"),
        ("shape", r"its observations have the shape \(4,\), not \(3,\) as it says"),
        ("reset", r"its observations have the shape \(2,\), not \(3,\) as it says"),
        ("bytes", r"Odd-v0 cannot be played: its observations are float32, its space says uint8$"),
        ("leaves", r"Odd-v0 cannot be made: it raised SystemExit: 3 \(.*test_fitting.py:\d+\)"),
        ("key", r"Odd-v0 cannot be made: it raised KeyError: 'rooms' \(.*test_fitting.py:\d+\)"),
    ],
)
def test_an_environment_that_cannot_take_a_step_is_refused_before_any_work(how, said, monkeypatch):
    monkeypatch.setitem(gym.registry, "Odd-v0", EnvSpec("Odd-v0", entry_point=Odd, max_episode_steps=9))
    found = problems(config("ppo", env={"id": "Odd-v0", "kwargs": {"how": how}}))
    assert [problem.path for problem in found] == ([] if said is None else ["env.kwargs"])
    assert said is None or re.search(said, found[0].message)


def test_what_a_wrapper_would_cast_is_the_environments_fault_all_the_same(monkeypatch):
    monkeypatch.setitem(gym.registry, "Odd-v0", EnvSpec("Odd-v0", entry_point=Odd, max_episode_steps=9))
    env = {"id": "Odd-v0", "kwargs": {"how": "bytes"}, "wrappers": [{"name": "flatten"}]}
    (found,) = problems(config("ppo", env=env))
    assert found == ("env.kwargs", "Odd-v0 cannot be played: its observations are float32, its space says uint8")


@pytest.mark.parametrize(
    ("name", "instead"),
    [("max_episode_steps", "set env.max_episode_steps"), ("id", "set env.id"), ("disable_env_checker", "leave it out")],
)
def test_what_gymnasium_itself_takes_is_no_keyword_of_an_environment(name, instead):
    (found,) = problems(config("ppo", env={"id": "CartPole-v1", "kwargs": {name: 10}}))
    assert found == (f"env.kwargs.{name}", f"is no keyword of the environment: {instead}")


class Blind(Odd):
    """Shows nothing."""

    observation_space = gym.spaces.Box(-1, 1, (0,))


@pytest.mark.parametrize("agent", ["ppo", "dqn"])
def test_an_observation_without_a_number_is_refused(agent, monkeypatch):
    monkeypatch.setitem(gym.registry, "Blind-v0", EnvSpec("Blind-v0", entry_point=Blind, max_episode_steps=9))
    found = problems(config(agent, "epsilon_greedy" if agent == "dqn" else None, env={"id": "Blind-v0"}))
    assert [problem.path for problem in found] == ["agent.name"]
    assert f"{agent} needs an observation of at least one number, Blind-v0 has Box(" in found[0].message


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"seed": 5, "seeds": [1, 2]}, "seed 5 is not used: seeds says which there are"),
        ({"seed": 5, "seeds": "1-2"}, "seed 5 is not used: seeds says which there are"),
        ({"seed": 5, "seeds": 2}, None),
        ({"seeds": [1, 2]}, None),
        ({"eval": {"max_episode_steps": 101}}, "eval.max_episode_steps 101 does nothing: an episode ends after 100 steps"),
        ({"eval": {"max_episode_steps": 100}}, None),
        ({"env": {**MODEL, "max_episode_steps": 200}, "eval": {"max_episode_steps": 200}}, None),
        ({"env": {**MODEL, "wrappers": [{"name": "time_limit", "steps": 100}]}}, "time_limit: 100 steps do nothing: an"),
        ({"env": {**MODEL, "wrappers": [{"name": "time_limit", "steps": 99}]}}, None),
    ],
)  # fmt: skip
def test_what_has_no_effect_is_told(settings, said):
    made = from_dict(to_dict(config("value_iteration")) | settings).config
    found = fitting.notes(made)
    assert len(found) == (said is not None)
    assert said is None or found[0].startswith(said)


@pytest.mark.parametrize(
    ("agent", "settings", "said"),
    [
        ("dyna_q", {"priority_threshold": 0.1}, "priority_threshold does nothing without prioritized: true"),
        ("dyna_q", {"priority_threshold": 0.1, "prioritized": True}, None),
        ("dyna_q", {"planning_steps": 0, "model_size": 2}, "model_size does nothing without planning"),
        ("dyna_q", {"planning_steps": 1, "model_size": 2}, None),
        ("sac", {"sde": True, "log_std_init": 300}, "log_std_init: must be at most 5, got 300"),
        ("sac", {"sde": True, "log_std_init": 5}, None),
    ],
)
def test_a_setting_that_does_nothing_or_cannot_be_is_refused(agent, settings, said):
    with pytest.raises(ConfigError, match=said) if said else nullcontext():
        config(agent, **settings)


CONTINUOUS = ("ddpg", "td3", "sac", "tqc")
KEPT = [
    ("dqn", {}, 5),
    ("dqn", {"heads": 10, "prior_scale": 1.0}, 10 * 6),
    ("c51", {}, 5),
    ("qr_dqn", {}, 5),
    ("rainbow", {}, 10),  # mu and sigma
    ("pqn", {}, 4),
    ("ddpg", {}, 10),
    ("td3", {}, 15),
    ("sac", {}, 14),
    ("tqc", {"n_critics": 5}, 29),
    ("ppo", {}, 8),
    ("a2c", {}, 6),  # rmsprop has one moment
    ("actor_critic", {"shared_network": True, "optimizer": "sgd"}, 2),
    ("reinforce", {"baseline": False}, 4),
]


def of_layers(agent, sizes, **settings):
    """A configuration with these hidden layers; Pendulum shows 3 numbers, CartPole 4."""
    exploration = next(iter(fitting_explorations(config(agent, **settings).agent)), None)
    env = NUMBERS if agent in CONTINUOUS else {"id": "CartPole-v1"}
    return config(agent, exploration, env=env, hidden_sizes=sizes, **settings)


@pytest.mark.parametrize(("agent", "settings", "kept"), KEPT)
def test_layers_for_which_there_is_no_memory_are_refused_before_any_work(agent, settings, kept, monkeypatch):
    need = 4 * kept * (((3 if agent in CONTINUOUS else 4) + 1) * 10 + 11 * 20 + 21 * 1)
    made, huge = of_layers(agent, [10, 20], **settings), of_layers(agent, [10**6, 10**6], **settings)

    def found(free):
        monkeypatch.setattr("rltrain.nn.size.available_bytes", lambda: free)
        return [problem.message for problem in problems(made) if problem.path == "agent.hidden_sizes"]

    assert found(need / MEMORY_SHARE + 1) == []
    (said,) = found(need / MEMORY_SHARE - 1)
    assert f"for each of which {kept} numbers are kept, take " in said
    monkeypatch.undo()
    assert [problem.path for problem in problems(huge)] == ["agent.hidden_sizes"]


def numbers_in(state):
    """How many numbers the arrays of a state have."""
    inner = state.values() if isinstance(state, dict) else ()
    return state.size if isinstance(state, np.ndarray) else sum(map(numbers_in, inner))


@pytest.mark.parametrize(("agent", "settings", "kept"), KEPT)
def test_what_is_reckoned_for_networks_is_nearly_what_they_take(agent, settings, kept):
    """Never more, or what fits would be refused; of returns with distributions the last layer is large too."""
    made = of_layers(agent, [100, 100], **settings)
    experiment = build(made)
    experiment.envs.close()
    first, learner = experiment.spec.observation_space.shape[0], experiment.agent
    taken = sum(network.gradient.size for network in learner.networks)
    state = learner.state_dict()
    taken += sum(numbers_in(state[name]) for name in state if name not in ("replay", "rollout", "visits"))
    reckoned = kept * ((first + 1) * 100 + 101 * 100 + 101)
    assert reckoned / taken <= 1
    assert reckoned / taken > (0.2 if agent in ("c51", "qr_dqn", "rainbow", "tqc") else 0.8)
