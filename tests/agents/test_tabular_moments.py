"""What a table keeps of its targets for an exploration that asks for it: how many, and how far they lie apart."""

import numpy as np
import pytest
from by_hand import Coins, agent, learn
from test_tabular_updates import ONE_STEP

from rltrain.config.load import from_dict
from rltrain.experiment import build
from rltrain.exploration.thompson import Thompson
from rltrain.fitting import problems

LEARNERS = [(name, settings) for name, settings, *_ in ONE_STEP]
LEARNERS += [("sarsa_lambda", {"traces": "dutch"}), ("monte_carlo", {})]


def thompson():
    return Thompson(Thompson.Config(posterior="normal_inverse_gamma"))


def fed(name, targets, rate, **settings):
    """An agent of which the pair (0, 1) has had these targets."""
    made = agent(name, selector=thompson(), learning_rate=rate, **settings)
    made.rng = Coins(*[0.0] * 9)  # the first of two tables learns
    for target in targets:
        learn(made, 0, 1, target, 1, ends="terminated", rate=rate)
    return made


@pytest.mark.parametrize(("name", "settings"), LEARNERS)
def test_averages_keep_the_squared_deviations_from_the_mean(name, settings):
    """Targets 2, 4, 6 with alpha 1, 1/2, 1/3: mean 4, squared deviations 4 + 0 + 4."""
    moments = np.zeros((4, 2, 2))
    moments[0, 1] = 3, 8
    made = fed(name, [2.0, 4.0, 6.0], 1.0, visit_power=1.0, **settings)
    np.testing.assert_allclose(made.memory.moments, moments, rtol=1e-15)


@pytest.mark.parametrize(("name", "settings"), LEARNERS)
def test_a_constant_step_size_weighs_squared_errors(name, settings):
    """Alpha 1/2 from Q = 0 on: the targets 2 and 4 are 2 and 3 away, so 1/2 * 4 + 1/2 * 9."""
    assert fed(name, [2.0, 4.0], 0.5, **settings).memory.moments[0, 1].tolist() == [2, 6.5]
    assert agent(name, **settings).memory.moments.size == 0


def test_what_the_selector_gets_is_what_the_table_has_learnt(monkeypatch):
    made, seen = fed("q_learning", [0.9, 1.1], 1.0, visit_power=1.0), []
    monkeypatch.setattr(made.exploration, "choose", lambda q, moments, *rest: seen.append((q, moments)) or 0)
    made.rng = np.random.default_rng(0)
    made.act(np.array([0]))
    assert seen == [([0.0, pytest.approx(1.0)], [[0.0, 0.0], [2.0, pytest.approx(0.02)]])]


def run(agent):
    return from_dict(
        {
            "env": {"id": "CartPole-v1" if agent == "dqn" else "FrozenLake-v1"},
            "agent": {"name": agent},
            "exploration": {"name": "thompson", "posterior": "normal_inverse_gamma"},
            "train": {"total_steps": 20_000},
        }
    ).config


def test_a_run_goes_on_exactly_with_what_was_kept():
    first, second = build(run("q_learning")), build(run("q_learning"))
    first.loop.advance(300)
    second.agent.load_state_dict(first.agent.state_dict())
    second.loop.load_state_dict(first.loop.state_dict())
    for experiment in (first, second):
        experiment.loop.advance(300)
    assert first.agent.memory.moments[:, :, 0].sum() == 600
    for name in ("q", "moments"):
        np.testing.assert_array_equal(getattr(first.agent.memory, name), getattr(second.agent.memory, name))


def test_a_network_keeps_no_moments_and_says_what_to_use():
    (problem,) = problems(run("dqn"))
    assert problem.path == "exploration.name"
    assert "thompson needs the moments of every action, which dqn does not keep" in problem.message
