"""Schedules by hand, and that they depend on the step alone."""

import math

import pytest
from pydantic import TypeAdapter, ValidationError

from rltrain.config.load import from_dict
from rltrain.fitting import notes
from rltrain.schedules import ScheduleSetting

read = TypeAdapter(ScheduleSetting).validate_python


@pytest.mark.parametrize(
    ("block", "values"),
    [
        (0.3, {0: 0.3, 10**9: 0.3}),
        ({"schedule": "constant", "value": 2}, {5: 2.0}),
        ({"schedule": "linear", "start": 1.0, "end": 0.0, "steps": 100}, {0: 1.0, 25: 0.75, 100: 0.0, 500: 0.0}),
        ({"schedule": "exponential", "start": 1.0, "end": 0.01, "steps": 2}, {0: 1.0, 1: 0.1, 2: 0.01, 9: 0.01}),
        ({"schedule": "cosine", "start": 2.0, "end": 0.0, "steps": 4}, {0: 2.0, 1: 1 + math.sqrt(0.5), 2: 1.0, 4: 0.0}),
    ],
)
def test_values(block, values):
    schedule = read(block)
    for step, value in values.items():
        assert schedule(step) == pytest.approx(value)
    low, high = schedule.bounds
    assert all(low <= schedule(step) <= high for step in range(0, 1_000, 7))


@pytest.mark.parametrize(
    "block",
    [
        "0.1", True, {"schedule": "linear", "start": 1}, {"schedule": "exponential", "start": 0, "end": 1, "steps": 3},
        {"schedule": "linear", "start": 1, "end": 0, "steps": 0}, {"schedule": "spline"}, float("nan"),
    ],
)  # fmt: skip
def test_nonsense_is_refused(block):
    with pytest.raises(ValidationError):
        read(block)


def note(total_steps):
    """What is told of a learning rate and an epsilon in a run of so many steps."""
    data = {
        "env": {"id": "CartPole-v1"},
        "agent": {
            "name": "dqn",
            "learning_rate": {"schedule": "linear", "start": 2e-3, "end": 0.0, "steps": 50_000},
        },
        "exploration": {
            "name": "epsilon_greedy",
            "epsilon": {"schedule": "linear", "start": 1.0, "end": 0.0, "steps": 10_000},
        },
        "train": {"total_steps": total_steps},
    }
    data["agent"]["prioritized"] = {"beta": {"schedule": "linear", "start": 0.4, "end": 1.0, "steps": 50_000}}
    return notes(from_dict(data).config)


def test_a_step_size_that_is_0_before_the_run_ends_is_told_and_an_exploration_that_ends_is_none():
    assert note(50_000) == []
    assert note(500_000) == ["agent.learning_rate is 0 from step 50,000 of 500,000 on: it moves nothing any more"]


def test_schedules_that_a_run_is_too_short_for_are_told_by_their_paths_with_where_they_end():
    found = note(25_000)
    assert len(found) == 2
    assert found[0].startswith("agent.learning_rate goes from 0.002 to 0 in 50,000 steps, of which the run has 25,000")
    assert found[0].endswith("it ends at 0.001")
    assert found[1].startswith("agent.prioritized.beta goes from 0.4 to 1 ")
    assert found[1].endswith("it ends at 0.7")


def test_a_number_of_0_under_which_something_never_happens_is_told_by_its_path():
    data = {
        "env": {"id": "Pendulum-v1", "wrappers": [{"name": "scale_reward", "scale": 0}]},
        "agent": {"name": "td3", "learning_rate": 0, "critic_learning_rate": 0},
        "exploration": {"name": "gaussian_noise"},
        "bonuses": [{"name": "rnd", "scale": 0}],
        "train": {"total_steps": 50_000},
    }
    assert [told for told in notes(from_dict(data).config) if "is 0" in told] == [
        "scale_reward: scale is 0: the agent sees no reward of the environment",
        "agent.learning_rate is 0: nothing is learnt",
        "agent.critic_learning_rate is 0: the critic learns nothing",
        "bonuses[0].scale is 0: nothing is paid",
    ]
    data = {
        "env": {"id": "FrozenLake-v1"},
        "agent": {"name": "q_learning"},
        "exploration": {"name": "max_boltzmann", "epsilon": 0, "temperature": 1},
        "train": {"total_steps": 50_000},
    }
    assert notes(from_dict(data).config) == ["exploration.epsilon is 0: nothing is explored"]
