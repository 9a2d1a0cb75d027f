"""Search spaces: every value that is drawn is one that was written, and every mistake has its line."""

import json

import numpy as np
import pytest
from conftest import ROOT
from hypothesis import given, settings
from hypothesis import strategies as st

from rltrain.config.load import load, parse, to_dict
from rltrain.config.tune import Parameter
from rltrain.core import ConfigError
from rltrain.fitting import environment
from rltrain.tuning.space import Space

optuna = pytest.importorskip("optuna")
optuna.logging.set_verbosity(optuna.logging.ERROR)

BASE = """
env: {id: FrozenLake-v1}
agent: {name: q_learning, learning_rate: 0.1}
exploration: {name: epsilon_greedy, epsilon: {schedule: linear, start: 1.0, end: 0.1, steps: 500}}
train: {total_steps: 1_000}
tune:
  trials: 5
  search:
"""
CONDITIONAL = BASE + (
    "    exploration.epsilon.end: {uniform: [0.01, 0.1], when: {exploration.name: [epsilon_greedy]}}\n"
    "    exploration.temperature: {log_uniform: [0.1, 1.0], when: {exploration.name: boltzmann}}\n"
    "    exploration.name: {choice: [epsilon_greedy, boltzmann, greedy]}\n"
)


def space_of(text):
    return Space.of(parse(text, source="x.yaml").config)


def mistakes(text):
    """All that is wrong in a search, as it is told."""
    try:
        loaded = parse(text, source="x.yaml")
        return Space.of(loaded.config).problems(loaded)[0]
    except ConfigError as error:
        return list(error.messages)


small = st.integers(-1000, 1000)
positive = st.floats(1e-6, 1e3).map(lambda value: float(f"{value:.4g}"))
values = st.one_of(st.booleans(), small, st.text("abc", min_size=1), st.lists(small, max_size=3), st.none())
parameters = st.one_of(
    st.tuples(small, small).filter(lambda b: b[0] < b[1]).map(lambda b: {"int": list(b)}),
    st.tuples(small, st.integers(1, 9), st.integers(1, 9)).map(
        lambda b: {"int": [b[0], b[0] + b[1] * b[2]], "step": b[1]}
    ),
    st.tuples(positive, positive).filter(lambda b: b[0] < b[1]).map(lambda b: {"uniform": list(b)}),
    st.tuples(positive, positive).filter(lambda b: b[0] < b[1]).map(lambda b: {"log_uniform": list(b)}),
    st.tuples(st.integers(1, 99), st.integers(100, 999)).map(lambda b: {"log_int": list(b)}),
    st.lists(
        values,
        min_size=1,
        max_size=5,
        unique_by=lambda v: json.dumps(v) if not isinstance(v, bool) else (int(v) and "1") or "0",
    ).map(lambda v: {"choice": v}),
)


@settings(deadline=None, max_examples=60)
@given(st.lists(parameters, min_size=1, max_size=4), st.integers(0, 2**31))
def test_what_is_drawn_is_what_was_written_and_is_read_back_equal(written, seed):
    search = {f"p{index}": Parameter(**each) for index, each in enumerate(written)}
    tune = parse(BASE + "    agent.gamma: {uniform: [0, 1]}\n", source="x").config.tune
    space = Space(tune.model_copy(update={"search": search}), {})
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed))
    trial = study.ask()
    found = space.suggest(trial)
    assert set(found) == set(search)
    for name, value in found.items():
        assert search[name].takes(value)
        if search[name].points is not None:
            assert any(
                value == pytest.approx(point) if isinstance(value, float) else value == point
                for point in search[name].points
            )
    assert space.stored(study.trials[0].params) == found
    assert optuna.trial.Trial(study, trial._trial_id).params == study.trials[0].params
    assert (
        space.suggest(optuna.trial.Trial(study, trial._trial_id)) == found
    )  # whoever takes a trial over has its values


def test_a_conditional_setting_is_searched_only_where_its_condition_holds():
    space, study = space_of(CONDITIONAL), optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    seen = set()
    for _ in range(30):
        found = space.suggest(study.ask())
        seen.add(tuple(sorted(found)))
        name = found["exploration.name"]
        assert ("exploration.epsilon.end" in found) == (name == "epsilon_greedy")
        assert ("exploration.temperature" in found) == (name == "boltzmann")
        made = to_dict(space.config(found))["exploration"]
        assert made["name"] == name  # a component of another name brings its own defaults
        if name == "epsilon_greedy":
            assert made["epsilon"] == {**space.base["exploration"]["epsilon"], "end": found["exploration.epsilon.end"]}
    assert len(seen) == 3


def test_a_grid_has_every_combination_once_and_no_copies_where_a_setting_is_not_searched():
    text = BASE.replace("tune:", "tune:\n  sampler: grid") + (
        "    exploration.epsilon: {grid: [0.1, 0.2, 0.3], when: {exploration.name: epsilon_greedy}}\n"
        "    exploration.name: {choice: [epsilon_greedy, greedy]}\n"
        "    agent.gamma: {uniform: [0.5, 1.0], step: 0.25}\n"
        "    agent.visit_power: {choice: [0.0, 0.5]}\n"
    )
    assert mistakes(text) == []
    points = space_of(text).points
    assert len(points) == (3 + 1) * 3 * 2
    assert len({json.dumps(point, sort_keys=True) for point in points}) == len(points)
    assert {point["agent.gamma"] for point in points} == {0.5, 0.75, 1.0}


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("agent.gamma: {uniform: [0.9, 1.5]}", "x.yaml:9: tune.search.agent.gamma: 1.5: agent.gamma: must be at most 1, got 1.5"),
        ("agent.gama: {uniform: [0.9, 1.0]}", "did you mean 'gamma'?"),
        ("agent.gamma: {unifrom: [0.9, 1.0]}", "x.yaml:9: tune.search.agent.gamma.unifrom: unknown key, did you mean 'uniform'?"),
        ("agent.gamma: {uniform: [0.9, 0.1]}", "x.yaml:9: tune.search.agent.gamma: uniform: expected [low, high] with low < high"),
        ("agent.gamma: {uniform: [0.5, 1.0], step: 0.3}", "step: 0.3 does not lead from 0.5 to 1 in whole steps"),
        ("agent.gamma: {log_uniform: [0, 1]}", "the lower bound must be more than 0"),
        ("agent.gamma: {uniform: [0.5, 1], choice: [0.5]}", "expected one of uniform, log_uniform"),
        ("agent.gamma: {choice: []}", "expected at least one value"),
        ("agent.gamma: {choice: [0.5, 0.5]}", "0.5 twice"),
        ("seed: {int: [0, 9]}", "x.yaml:9: tune.search.seed: cannot be searched: trials have seeds of their own"),
        ("exploration.name: {choice: [epsilon_greedy, epsilon_gredy]}", "unknown 'epsilon_gredy', did you mean 'epsilon_greedy'"),
        ("exploration.temperature: {uniform: [0.1, 1]}", "exploration.temperature: unknown key"),
        ("exploration.name: {choice: [epsilon_greedy, gaussian_noise]}", "is a noise and q_learning explores with a selector"),
        ("agent.gamma: {uniform: [0, 1], when: {agent.nam: x}}", "x.yaml:9: tune.search.agent.gamma.when.agent.nam: is not searched"),
        ("agent.gamma: {uniform: [0, 1], when: {agent.gamma: 0.5}}", "conditions that go in a circle"),
    ],
)  # fmt: skip
def test_a_mistake_in_a_search_is_told_with_its_line(line, told):
    found = mistakes(BASE + f"    {line}\n")
    assert any(told in text for text in found), found


def test_a_value_that_fits_only_with_others_is_no_mistake_but_is_told():
    text = """
env: {id: CartPole-v1}
agent: {name: ppo, n_steps: 32, batch_size: 32}
train: {total_steps: 1_000}
tune:
  trials: 5
  search:
    agent.n_steps: {choice: [32, 256]}
    agent.batch_size: {choice: [32, 256]}
"""
    loaded = parse(text, source="x.yaml")
    errors, notes = Space.of(loaded.config).problems(loaded)
    assert errors == []
    assert len(notes) == 1
    assert "x.yaml:9: tune.search.agent.batch_size: 256: agent.batch_size" in notes[0]


@pytest.mark.parametrize("path", sorted((ROOT / "configs" / "tune").glob("*.yaml")), ids=lambda path: path.name)
def test_every_shipped_search_is_right_and_fits_everywhere(path):
    loaded = load(path)
    assert Space.of(loaded.config).problems(loaded) == ([], [])


def test_a_grid_needs_values_with_an_end_and_other_samplers_a_number_of_trials():
    endless = BASE.replace("tune:", "tune:\n  sampler: grid") + "    agent.gamma: {uniform: [0.5, 1]}\n"
    assert "has no end of values" in mistakes(endless)[0]
    unbounded = BASE.replace("  trials: 5\n", "") + "    agent.gamma: {uniform: [0.5, 1]}\n"
    assert "tune.trials: missing: how many trials?" in mistakes(unbounded)[0]


def test_a_run_knows_nothing_of_the_search_in_its_file():
    config = parse(CONDITIONAL, source="x.yaml").config
    assert "tune" not in to_dict(config)
    assert config.single(3).tune is None
    rng = np.random.default_rng(0)
    assert "tune" not in to_dict(Space.of(config).config(Space.of(config).drawn(rng, {})))


def test_the_environment_is_made_once_for_trials_that_leave_it_as_it_is(monkeypatch):
    from rltrain.tuning import space

    made = []
    monkeypatch.setattr(space, "environment", lambda config: made.append(config.env.id) or environment(config))
    text = BASE + "    agent.gamma: {uniform: [0.5, 1]}\n    env.max_episode_steps: {choice: [50, 60]}\n"
    searched = space_of(text)
    for gamma, steps in ((0.5, 50), (0.6, 50), (0.7, 60), (0.8, 50), (0.9, 60)):
        assert searched.misfits(searched.config({"agent.gamma": gamma, "env.max_episode_steps": steps})) == []
    assert len(made) == 2
    noise = searched.config({"agent.gamma": 0.5, "env.max_episode_steps": 50, "exploration.name": "gaussian_noise"})
    assert "is a noise" in searched.misfits(noise)[0]
