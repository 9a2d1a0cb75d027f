"""Noise on continuous actions: what it is made of, where it stays, and what is remembered."""

import numpy as np
import pytest
from pydantic import ValidationError

from rltrain.config.load import from_dict
from rltrain.exploration.gaussian_noise import GaussianNoise
from rltrain.exploration.ou_noise import OUNoise
from rltrain.fitting import problems
from rltrain.registry import find, names, settings_class

NOISES = [name for name in names("explorations") if find("explorations", name).kind == "noise"]
RAMP = {"schedule": "linear", "start": 0.4, "end": 0.0, "steps": 100}


def noise(name, **settings):
    return find("explorations", name)(settings_class("explorations", name)(name=name, **settings))


def walk(part, steps, *, envs=1, size=1, seed=0, step=0, first=()):
    """What is added to actions of 0 in a row of steps (T, N, D); `first` are the steps at which an episode begins."""
    rng, action = np.random.default_rng(seed), np.zeros((envs, size), np.float32)
    return np.array([part.perturb(action, np.full(envs, t in first), step, rng) for t in range(steps)])


def test_there_are_two_noises():
    assert {"gaussian_noise", "ou_noise"} <= set(NOISES)


@pytest.mark.parametrize("name", NOISES)
def test_noise_stays_in_the_box_keeps_shape_and_type_and_depends_on_its_generator_alone(name):
    action = np.random.default_rng(1).uniform(-1, 1, (50, 3)).astype(np.float32)
    before = action.copy()
    found = [
        noise(name, sigma=9.0).perturb(action, np.ones(50, bool), 0, np.random.default_rng(seed)) for seed in (0, 0, 1)
    ]
    assert found[0].dtype == np.float32
    assert found[0].shape == (50, 3)
    assert abs(found[0]).max() == 1
    assert np.array_equal(found[0], found[1])
    assert not np.array_equal(found[0], found[2])
    assert np.array_equal(action, before)


@pytest.mark.parametrize("name", NOISES)
def test_sigma_follows_its_schedule_and_is_told(name):
    part = noise(name, sigma=RAMP)
    assert part.metrics(50) == {"exploration/sigma": pytest.approx(0.2)}
    assert walk(part, 5, step=99).any()
    assert not walk(noise(name, sigma=RAMP), 5, step=100).any()


@pytest.mark.parametrize("name", NOISES)
@pytest.mark.parametrize(("settings", "words"), [({"sigma": -0.1}, "standard deviation"), ({"sigm": 1}, "sigm")])
def test_what_has_no_meaning_is_refused(name, settings, words):
    with pytest.raises(ValidationError, match=words):
        noise(name, **settings)


def test_gaussian_noise_is_white_and_has_the_stated_deviation():
    drawn = walk(noise("gaussian_noise", sigma=0.2), 10_000, envs=1, size=2)[:, 0]
    assert drawn.std(0) == pytest.approx([0.2, 0.2], rel=0.03)
    assert abs(drawn.mean(0)).max() < 0.008  # 4 standard errors
    assert abs(np.corrcoef(drawn[1:, 0], drawn[:-1, 0])[0, 1]) < 0.04
    assert abs(np.corrcoef(drawn.T)[0, 1]) < 0.04


class Ones:
    """A generator that draws 1 for ever."""

    @staticmethod
    def standard_normal(shape, dtype):
        return np.ones(shape, dtype)


def test_the_process_takes_the_steps_that_are_worked_out_by_hand():
    """theta 0.5, dt 0.25, sigma 0.2: x <- 0.875 x + 0.1; 0.1, 0.1875, 0.2640625, and an episode begins: 0.1."""
    part, action = noise("ou_noise", theta=0.5, dt=0.25, sigma=0.2), np.full((1, 1), 0.5, np.float32)
    found = [float(part.perturb(action, np.array([begins]), 0, Ones())[0, 0]) for begins in (True, False, False, True)]
    assert found == pytest.approx([0.6, 0.6875, 0.7640625, 0.6], abs=1e-6)


def test_the_process_has_the_stated_variance_and_correlation():
    """theta 0.5, dt 0.2: c = 0.9; variance 0.01 * 0.2 / (1 - 0.81) = 0.010526, so 0.1026; c^5 = 0.59049."""
    drawn = walk(noise("ou_noise", theta=0.5, dt=0.2, sigma=0.1), 3_000, envs=40)[200:, :, 0]
    assert drawn.std() == pytest.approx(0.1026, rel=0.03)
    for lag, expected in ((1, 0.9), (5, 0.59049), (20, 0.12158)):
        found = np.mean([np.corrcoef(drawn[lag:, n], drawn[:-lag, n])[0, 1] for n in range(40)])
        assert found == pytest.approx(expected, abs=0.03)
    assert abs(np.corrcoef(drawn[::20].T)[np.triu_indices(40, 1)]).mean() < 0.1  # environments know nothing of another


def test_only_the_environment_whose_episode_begins_starts_from_0():
    part = noise("ou_noise", theta=0.0, dt=1.0, sigma=0.01)
    before = walk(part, 30, envs=3)[-1, :, 0]
    after = part.perturb(np.zeros((3, 1), np.float32), np.array([False, True, False]), 0, Ones())[:, 0]
    np.testing.assert_allclose(after, before * [1, 0, 1] + 0.01, atol=1e-6)


@pytest.mark.parametrize("name", NOISES)
def test_noise_goes_on_where_its_state_was_taken_and_the_state_is_a_copy(name):
    first, second = noise(name, sigma=0.1), noise(name, sigma=0.1)
    walk(first, 20, envs=2)
    state = first.state_dict()
    expected = walk(first, 5, envs=2, seed=7)
    second.load_state_dict(state)
    assert np.array_equal(walk(second, 5, envs=2, seed=7), expected)


def test_a_process_that_leaps_beyond_0_is_refused():
    with pytest.raises(ValidationError, match="above 1"):
        OUNoise.Config(theta=2.0, dt=0.6)


def test_gaussian_noise_is_the_process_that_forgets_at_once():
    white = walk(GaussianNoise(GaussianNoise.Config(sigma=0.3)), 10, envs=2)
    process = walk(OUNoise(OUNoise.Config(sigma=0.3, theta=1.0, dt=1.0)), 10, envs=2)
    np.testing.assert_allclose(process, white, atol=1e-6)


def told(exploration, agent="ddpg", env="Pendulum-v1"):
    data = {"env": {"id": env}, "agent": {"name": agent}, "train": {"total_steps": 20_000}, "seed": 0}
    data["exploration"] = exploration
    return [f"{path}: {message}" for path, message in problems(from_dict(data).config)]


def test_what_does_not_go_together_is_told_with_what_would():
    assert told({"name": "ou_noise", "theta": 0.2}) == []
    assert told(None) == ["exploration: ddpg needs an exploration: gaussian_noise or ou_noise"]
    (found,) = told({"name": "epsilon_greedy"})
    assert "'epsilon_greedy' is a selector and ddpg explores with a noise: use gaussian_noise or ou_noise" in found
    (found,) = told({"name": "ou_noise"}, "dqn", "CartPole-v1")
    assert "'ou_noise' is a noise and dqn explores with a selector: use boltzmann, epsilon_greedy" in found
    (found,) = told({"name": "ou_noise"}, "ddpg", "CartPole-v1")
    assert found == "agent.name: ddpg needs continuous actions, a Box of floats; CartPole-v1 has Discrete(2)"
