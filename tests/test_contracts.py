"""What holds for every registered component, without naming any."""

import json

import gymnasium as gym
import numpy as np
import pytest
from conftest import ROOT

from rltrain import checkpoint
from rltrain.config.jsonschema import json_schema
from rltrain.config.load import from_dict, load, parse, to_dict
from rltrain.continuous import ContinuousAgent
from rltrain.core import ActionValues, ConfigError
from rltrain.experiment import build
from rltrain.fitting import problems
from rltrain.registry import KINDS, UnknownComponent, find, names, settings_class

AGENTS, EXPLORATIONS = names("agents"), names("explorations")
CONFIGS = sorted((ROOT / "configs").rglob("*.yaml"))
ENVS = ["CartPole-v1", "FrozenLake-v1"]
CONTINUOUS = "Pendulum-v1"
SHORT = {
    "hidden_sizes": (16, 16),
    "learning_starts": 10,
    "buffer_size": 500,
    "batch_size": 8,
    "train_freq": 4,
    "target_update_interval": 16,
    "n_steps": 24,
    "n_epochs": 2,
    "episodes_per_update": 2,
    "n_quantiles": 8,
    "n_policy_quantiles": 8,
}
BINS = {"name": "discretize", "bins": 4, "low": [-2.4, -3, -0.21, -3], "high": [2.4, 3, 0.21, 3]}


EXAMPLES = {"selector": "epsilon_greedy", "noise": "gaussian_noise"}


def config(agent, env="CartPole-v1", num_envs=1, seed=0, exploration=None):
    """A small run of this agent: in the environment itself, or in bins of it if it is the agent of a table."""
    for wrappers in ([], [BINS]):
        known = settings_class("agents", agent).model_fields
        data = {
            "env": {"id": env, "num_envs": num_envs, "wrappers": wrappers},
            "agent": {"name": agent, **{key: value for key, value in SHORT.items() if key in known}},
            "train": {"total_steps": 1_000},
            "seed": seed,
            "device": "cpu",
        }
        if (kind := settings_class("agents", agent)(name=agent).explores_with) is not None:
            data["exploration"] = {"name": exploration or EXAMPLES[kind]}
        made = from_dict(data).config
        if not problems(made):
            return made
    return None


def fitting_config(agent, **kwargs):
    """The first environment of the list that this agent takes."""
    return next(made for env in (*ENVS, CONTINUOUS) if (made := config(agent, env, **kwargs)) is not None)


PAIRS = [(agent, env) for agent in AGENTS for env in (*ENVS, CONTINUOUS) if config(agent, env) is not None]
NOISES = [name for name in EXPLORATIONS if find("explorations", name).kind == "noise"]


SIZED = [
    (kind, name) for kind in KINDS for name in names(kind) if "hidden_sizes" in settings_class(kind, name).model_fields
]


@pytest.mark.parametrize(("kind", "name"), SIZED)
def test_layers_without_units_and_negative_step_sizes_are_refused_at_their_line(kind, name):
    """Also where an agent has defaults of its own."""
    known = settings_class(kind, name).model_fields
    rates = [key for key in ("learning_rate", "critic_learning_rate") if key in known]
    told = "".join(f"    {key}: -0.1\n" for key in rates)
    part = f"  - name: {name}\n    hidden_sizes: [8, 0]\n{told}"
    blocks = f"bonuses:\n{part}" if kind == "bonuses" else f"agent:\n{part.replace('  - name', '    name')}"
    with pytest.raises(ConfigError) as caught:
        parse(f"env: {{id: CartPole-v1}}\ntrain: {{total_steps: 99}}\n{blocks}", source="x.yaml")
    found = {message.split(":")[1]: message for message in caught.value.messages}
    assert "hidden_sizes[1]: must be at least 1, got 0" in found["5"]
    for line, key in enumerate(rates, 6):
        assert f"{key}: must" in found[str(line)]


@pytest.mark.parametrize("agent", [name for name in AGENTS if config(name, "CartPole-v1") is not None])
def test_what_was_open_is_forgotten_when_an_episode_cannot_be_repeated(agent, unrepeatable):
    known = settings_class("agents", agent).model_fields
    extra = {key: value for key, value in {"n_step": 4, "discount_weighting": True}.items() if key in known}
    made = config(agent, "FrozenLake-v1").model_dump(by_alias=True, serialize_as_any=True, mode="json")
    made["env"] = {"id": unrepeatable}
    made["agent"] |= extra
    first, second, fresh = (build(from_dict(made).config) for _ in range(3))
    first.loop.advance(6)
    second.agent.load_state_dict(first.agent.state_dict())
    with pytest.warns(UserWarning, match="begins anew"):
        second.loop.load_state_dict(first.loop.state_dict())
    after, before = second.agent.state_dict(), fresh.agent.state_dict()
    for name in ("pending", "waiting", "alive", "trace", "length", "first", "windows", "open", "next_weight"):
        for part in (after, after.get("memory", {}), after.get("replay", {})):
            if name in part:
                other = next(p for p in (before, before.get("memory", {}), before.get("replay", {})) if name in p)
                assert canonical({"x": part[name]}) == canonical({"x": other[name]}), name
    if after.get("rollout", {}).get("steps"):  # these steps stay, as of an episode that was cut short
        assert after["rollout"]["over"][:, 0].tolist() == [False] * 5 + [True]
        assert [(cut["t"], cut["n"]) for cut in after["rollout"]["cut"]] == [(5, 0)]
    second.loop.advance(30)


def test_every_agent_takes_one_of_the_environments_and_learners_of_choices_take_two():
    assert {agent for agent, _ in PAIRS} == set(AGENTS)
    both = {agent for agent in AGENTS if {(agent, env) for env in ENVS} <= set(PAIRS)}
    bounded = {agent for agent in AGENTS if issubclass(find("agents", agent), ContinuousAgent)}
    assert set(AGENTS) - both == {"value_iteration", "policy_iteration"} | bounded  # the first two need the model
    assert bounded <= {agent for agent, env in PAIRS if env == CONTINUOUS}


@pytest.mark.parametrize("name", NOISES)
@pytest.mark.parametrize("num_envs", [1, 3])
def test_a_run_with_noise_goes_on_exactly_after_a_checkpoint(name, num_envs, tmp_path):
    made = config("ddpg", CONTINUOUS, num_envs, exploration=name)
    first, second = build(made), build(made)
    first.loop.advance(250)  # beyond the end of an episode
    state = {"agent": first.agent.state_dict(), "loop": first.loop.state_dict()}
    saved = checkpoint.load(checkpoint.save(tmp_path, 250, state, config=to_dict(made), score=None)).state
    second.loop.advance(40)
    second.agent.load_state_dict(saved["agent"])
    second.loop.load_state_dict(saved["loop"])
    for experiment in (first, second):
        experiment.loop.advance(200)
    assert canonical(second.agent.state_dict()) == canonical(first.agent.state_dict())


def canonical(state):
    arrays = {}
    tree = checkpoint._outline(state, "", arrays)
    return json.dumps(tree), {name: array.tobytes() for name, array in arrays.items()}


@pytest.mark.parametrize(("agent", "env"), PAIRS)
@pytest.mark.parametrize("num_envs", [1, 3])
def test_state_goes_through_a_checkpoint_and_learning_goes_on_exactly(agent, env, num_envs, tmp_path):
    made = config(agent, env, num_envs)
    first = build(made)
    first.loop.advance(150)
    state = {"agent": first.agent.state_dict(), "loop": first.loop.state_dict()}
    path = checkpoint.save(tmp_path, 150, state, config=to_dict(made), score=None)
    second = build(made)
    second.loop.advance(30)  # what it did before is forgotten by loading
    saved = checkpoint.load(path).state
    second.agent.load_state_dict(saved["agent"])
    second.loop.load_state_dict(saved["loop"])
    assert canonical(second.agent.state_dict()) == canonical(first.agent.state_dict())
    for experiment in (first, second):
        experiment.loop.advance(150)
    assert canonical(second.agent.state_dict()) == canonical(first.agent.state_dict())
    assert canonical(second.loop.state_dict()) == canonical(first.loop.state_dict())


@pytest.mark.parametrize("agent", AGENTS)
def test_equal_seeds_agree_and_others_differ(agent):
    states = []
    for seed in (0, 0, 1):
        experiment = build(fitting_config(agent, seed=seed))
        experiment.loop.advance(200)
        states.append(canonical({"agent": experiment.agent.state_dict(), "loop": experiment.loop.state_dict()}))
    assert states[0] == states[1] != states[2]


@pytest.mark.parametrize("agent", AGENTS)
def test_a_state_that_was_taken_stays_as_it_is_while_learning_goes_on(agent):
    experiment = build(fitting_config(agent, num_envs=2))
    experiment.loop.advance(100)
    state = {"agent": experiment.agent.state_dict(), "loop": experiment.loop.state_dict()}
    state["agent"].pop("replay", None)  # its own memory, which is too large to be copied
    before = canonical(state)
    experiment.loop.advance(60)
    assert canonical(state) == before != canonical({"agent": experiment.agent.state_dict(), "loop": {}})


@pytest.mark.parametrize("agent", AGENTS)
def test_acting_without_exploring_changes_nothing_and_fits_the_space(agent):
    experiment = build(fitting_config(agent))
    experiment.loop.advance(150)
    before = canonical(experiment.agent.state_dict())
    space = experiment.spec.observation_space
    for count in (1, 5, 20):
        obs = np.stack([np.asarray(space.sample()) for _ in range(count)])
        actions = experiment.agent.act(obs, explore=False)
        assert all(experiment.spec.action_space.contains(action) for action in actions)
        assert np.array_equal(actions, experiment.agent.act(obs, explore=False))
    assert canonical(experiment.agent.state_dict()) == before


@pytest.mark.parametrize("name", EXPLORATIONS)
def test_every_selector_chooses_valid_actions_and_depends_on_its_generator_alone(name):
    component = find("explorations", name)
    if component.kind != "selector":
        pytest.skip("perturbs continuous actions")
    for count, actions in ((1, 2), (7, 5)):
        draws = np.random.default_rng(0)
        values = ActionValues(draws.normal(size=(count, actions)), visits=draws.integers(0, 5, (count, actions)))
        chosen = [
            component(settings_class("explorations", name)(name=name)).select(values, 10, np.random.default_rng(3))
            for _ in range(2)
        ]
        assert np.array_equal(*chosen)
        assert chosen[0].shape == (count,)
        assert ((chosen[0] >= 0) & (chosen[0] < actions)).all()


def bonus_config(name, agent, env, num_envs=1, compile="off"):
    """A small run of this agent with this bonus; None where they do not fit."""
    data = to_dict(config(agent, env, num_envs))
    known = settings_class("bonuses", name).model_fields
    data["bonuses"] = [{"name": name, **{key: value for key, value in SHORT.items() if key in known}}]
    data["train"]["compile"] = compile
    made = from_dict(data).config
    return None if problems(made) else made


BONUSES = names("bonuses")
WITH_BONUS = [(name, agent, env) for name in BONUSES for agent in ("dqn", "ppo", "q_learning", "sarsa") for env in ENVS]
WITH_BONUS = [run for run in WITH_BONUS if bonus_config(*run) is not None]


def test_every_bonus_goes_with_tables_and_networks_and_all_but_count_with_numbers():
    for name in BONUSES:
        assert {agent for other, agent, env in WITH_BONUS if other == name and env == "FrozenLake-v1"} >= {
            "dqn",
            "ppo",
            "q_learning",
            "sarsa",
        }
    numbers = {name for name, agent, env in WITH_BONUS if (agent, env) == ("dqn", "CartPole-v1")}
    assert numbers == set(BONUSES) - {"count"}


def goes_on_exactly(made, folder):
    first, second = build(made), build(made)
    first.loop.advance(150)
    state = {"agent": first.agent.state_dict(), "loop": first.loop.state_dict()}
    saved = checkpoint.load(checkpoint.save(folder, 150, state, config=to_dict(made), score=None)).state
    second.loop.advance(40)
    second.agent.load_state_dict(saved["agent"])
    second.loop.load_state_dict(saved["loop"])
    bonuses = [experiment.loop.advance(150).metrics["exploration/bonus"] for experiment in (first, second)]
    assert np.array_equal(*bonuses)
    assert canonical(second.agent.state_dict()) == canonical(first.agent.state_dict())
    assert canonical(second.loop.state_dict()) == canonical(first.loop.state_dict())


@pytest.mark.parametrize(("name", "agent", "env"), WITH_BONUS)
@pytest.mark.parametrize("num_envs", [1, 3])
def test_a_run_with_a_bonus_goes_on_exactly_after_a_checkpoint(name, agent, env, num_envs, tmp_path):
    goes_on_exactly(bonus_config(name, agent, env, num_envs), tmp_path)


@pytest.mark.parametrize("agent", ["q_learning", "sarsa"])
def test_a_compiled_run_with_a_count_goes_on_exactly_after_a_checkpoint(agent, tmp_path):
    goes_on_exactly(bonus_config("count", agent, "FrozenLake-v1", compile="on"), tmp_path)
    assert all(bonus_config(name, agent, "FrozenLake-v1", compile="on") is None for name in set(BONUSES) - {"count"})


@pytest.mark.parametrize("name", sorted(set(BONUSES) - {"count"}))
def test_a_bonus_takes_continuous_actions(name, tmp_path):
    goes_on_exactly(bonus_config(name, "ppo", "Pendulum-v1", 2), tmp_path)


@pytest.mark.parametrize("name", names("bonuses"))
def test_every_bonus_keeps_its_state(name):
    from rltrain.core import EnvSpec, Transition

    spec = EnvSpec("x", gym.spaces.Discrete(6), gym.spaces.Discrete(2), 2)
    made = settings_class("bonuses", name)(name=name)
    first, second = (find("bonuses", name)(made, spec, rng=np.random.default_rng(0)) for _ in range(2))
    no = np.zeros(2, bool)
    step = Transition(np.array([0, 1]), np.array([0, 1]), np.zeros(2, np.float32), np.array([2, 2]), no, no)
    for _ in range(5):
        assert first.bonus(step).shape == (2,)
    second.load_state_dict(first.state_dict())
    assert np.array_equal(first.bonus(step), second.bonus(step))


def test_a_count_bonus_is_one_over_the_root_of_the_visits():
    from rltrain.bonuses.count import Count
    from rltrain.core import EnvSpec, Transition

    spec = EnvSpec("x", gym.spaces.Discrete(6, start=1), gym.spaces.Discrete(2), 1)
    count = Count(Count.Config(scale=2.0), spec, rng=np.random.default_rng(0))
    no = np.zeros(1, bool)
    step = Transition(np.array([1]), np.array([0]), np.zeros(1, np.float32), np.array([6]), no, no)
    assert [round(float(count.bonus(step)[0]), 5) for _ in range(4)] == [2.0, 1.41421, 1.1547, 1.0]


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.name)
def test_every_shipped_config_is_right_explained_and_pointed_at_the_schema(path):
    loaded = load(path).config
    assert problems(loaded) == []
    lines = path.read_text().splitlines()
    assert lines[0].startswith("# yaml-language-server: $schema=")
    assert (path.parent / lines[0].split("=")[1]).resolve() == ROOT / "configs" / "schema.json"
    assert any(f"rltrain train {path.relative_to(ROOT)}" in line for line in lines[:12])


def test_the_schema_accepts_every_shipped_config_and_refuses_a_typo():
    import jsonschema

    from rltrain.config.reader import read

    validator = jsonschema.Draft202012Validator(json_schema())
    assert len(CONFIGS) >= 2
    for path in CONFIGS:
        data = read(path.read_text(), str(path)).data
        assert list(validator.iter_errors(data)) == []
        assert list(validator.iter_errors({**data, "agent": {**data["agent"], "lerning_rate": 1}}))


@pytest.mark.parametrize(
    ("written", "meant"),
    [("dqm", "dqn"), ("SAC", "sac"), ("QR-DQN", "qr_dqn"), ("TD3", "td3"), ("QLearning", "q_learning")],
)
def test_unknown_names_suggest_the_nearest(written, meant):
    with pytest.raises(UnknownComponent, match=f"did you mean '{meant}'"):
        find("agents", written)


def test_epsilon_greedy_explores_as_often_as_it_says():
    component = find("explorations", "epsilon_greedy")
    selector = component(component.Config(epsilon=0.3))
    values = ActionValues(np.tile([0.0, 1.0, 0.5, 0.2], (40_000, 1)))
    counts = np.bincount(selector.select(values, 0, np.random.default_rng(0)), minlength=4)
    expected = 40_000 * np.array([0.075, 0.775, 0.075, 0.075])
    assert ((counts - expected) ** 2 / expected).sum() < 16.3  # 3 degrees of freedom, p = 0.001


def test_ties_are_broken_uniformly_while_exploring():
    component = find("explorations", "epsilon_greedy")
    selector = component(component.Config(epsilon=0.0))
    values = ActionValues(np.tile([1.0, 1.0, 0.0, 1.0], (30_000, 1)))
    counts = np.bincount(selector.select(values, 0, np.random.default_rng(0)), minlength=4)
    assert counts[2] == 0
    assert ((counts[[0, 1, 3]] - 10_000) ** 2 / 10_000).sum() < 13.8  # 2 degrees of freedom, p = 0.001
