"""Search spaces: every value that is drawn is one that was written, and every mistake has its line."""

import json

import numpy as np
import pytest
import yaml
from conftest import ROOT
from hypothesis import given, settings
from hypothesis import strategies as st

from rltrain.cli.tune import check_search
from rltrain.config.load import load, parse, to_dict
from rltrain.config.tune import Parameter
from rltrain.core import ConfigError
from rltrain.experiment import Run
from rltrain.fitting import environment
from rltrain.logger import read_metrics
from rltrain.metrics import EXACT_METRICS, KNOWN, OWN
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
        ("agent.gamma: {uniform: [0.5, 0.9, 1]}", "x.yaml:9: tune.search.agent.gamma.uniform: expected [low, high], got a list of 3"),
        ("agent.gamma: {log_uniform: [0.5]}", "x.yaml:9: tune.search.agent.gamma.log_uniform: expected [low, high], got a list of 1"),
        ("agent.n: {int: []}", "x.yaml:9: tune.search.agent.n.int: expected [low, high], got a list of 0"),
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


SEARCHED = {"agent.gamma": {"uniform": [0.5, 1]}}


def search(**tune):
    """All that is wrong in a search with these settings, and what is told of it where nothing is."""
    data = yaml.safe_load(BASE.replace("1_000", "1000"))
    top = {name: tune.pop(name) for name in ("env", "agent", "train", "eval", "seed") if name in tune}
    text = yaml.safe_dump({**data, **top, "tune": {"trials": 5, "search": SEARCHED, **tune}})
    try:
        loaded = parse(text, source="x.yaml")
        return check_search(loaded)
    except ConfigError as error:
        return list(error.messages)


@pytest.mark.parametrize(
    ("metric", "direction", "told"),
    [
        ("train/loss", None, "tune.direction: missing: is more of train/loss better? say maximize or minimize"),
        ("train/td_error_iqm", None, "tune.direction: missing: is more of train/td_error better?"),
        ("eval/length", None, "tune.direction: missing: is more of eval/length better?"),
        ("train/loss", "minimize", None),
        ("train/loss", "maximize", None),
        ("steps_to_threshold", None, None),
        ("steps_to_threshold", "minimize", None),
        ("steps_to_threshold", "maximize", "tune.direction: the fewer steps_to_threshold, the better: leave it out"),
        ("area_under_curve", None, None),
        ("eval/success_rate", None, None),
        ("eval/percent_of_optimal_iqm", None, None),
        ("rollout/return", None, None),
        ("bandit/own_return", None, None),
        ("eval/retrun", None, "tune.objective: no run logs eval/retrun, did you mean 'eval/return'? (known: eval/return,"),
        ("eval/retrun_iqm", None, "tune.objective: no run logs eval/retrun, did you mean 'eval/return_iqm'?"),
        ("eval/q", "maximize", "tune.objective: no run logs eval/q (known: "),
        ("steps_to_treshold", None, "unknown objective 'steps_to_treshold', did you mean 'steps_to_threshold'?"),
        ("return", None, "unknown objective 'return', did you mean 'eval/return'?"),
    ],
)  # fmt: skip
def test_an_objective_is_a_metric_that_there_is_and_of_which_it_is_known_what_is_better(metric, direction, told):
    found = search(objective=metric, direction=direction, threshold=0.7 if metric == "steps_to_threshold" else None)
    assert (found == []) == (told is None)
    assert told is None or (told in found[0] and found[0].startswith("x.yaml:"))


def test_an_exact_figure_is_no_objective_where_nobody_knows_the_model():
    deep = {"agent": {"name": "dqn"}, "env": {"id": "CartPole-v1"}}
    for metric in ("eval/exact_return", "eval/percent_of_optimal_iqm"):
        assert search(objective=metric) == []
        (told,) = search(objective=metric, **deep)
        assert f"tune.objective: {metric.removesuffix('_iqm')} is for environments that tell their model, and " in told
        assert "CartPole-v1 does not: take eval/return" in told


def test_cmaes_over_nothing_that_it_moves_is_refused_and_what_it_draws_at_random_is_told():
    numbers, names = {"agent.gamma": {"uniform": [0.5, 1]}}, {"agent.visit_power": {"choice": [0.0, 0.5]}}
    (told,) = search(sampler="cmaes", search=names)
    assert "tune.sampler: cmaes moves numbers, and none is searched that every trial has" in told
    assert search(sampler="cmaes", search=numbers) == search(sampler="tpe", search=names) == []
    assert search(sampler="gp", search=names) == []  # which learns of names too
    dependent = {"exploration.epsilon": {"uniform": [0.1, 0.2], "when": {"agent.visit_power": 0.5}}}
    (told,) = search(sampler="cmaes", search={**numbers, **names, **dependent})
    assert told.startswith("tune.sampler: agent.visit_power, exploration.epsilon: drawn at random")


def test_a_pruner_without_anything_to_prune_by_is_refused_or_told():
    for pruner in ("median", "hyperband"):
        for every in (None, 1000, 5000):
            (told,) = search(pruner=pruner, eval={"every": every}, seeds_per_trial=1)
            assert "tune.pruner: ends trials by their evaluations, and nothing is evaluated before the end" in told
            (told,) = search(pruner=pruner, eval={"every": every}, seeds_per_trial=3)
            assert told.startswith("tune.pruner: nothing is evaluated before a run's end, so only seeds")
        assert search(pruner=pruner, eval={"every": 999}, seeds_per_trial=1) == []
    assert search(pruner="none", eval={"every": None}, seeds_per_trial=1) == []


def test_the_seeds_of_trials_end_where_seeds_end():
    confirm = {"seeds": 2}
    assert search(seed=2**63 - 5, seeds_per_trial=3, confirm=confirm) == []
    (told,) = search(seed=2**63 - 4, seeds_per_trial=3, confirm=confirm)
    assert "seed: the seeds of trials count from here, and go beyond 2**63 - 1" in told


def test_what_evaluations_and_episodes_log_is_known_by_name(tmp_path):
    run = Run(parse(BASE.partition("tune:")[0], source="x.yaml").config, tmp_path)
    run.train()
    run.close()
    logged = {name for entry in read_metrics(tmp_path) for name in entry if name.startswith(OWN)}
    assert set(EXACT_METRICS) < logged <= set(KNOWN)


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
