"""Intrinsic curiosity: gradients against autograd, what the inverse model learns, and what it learns to leave out."""

from itertools import pairwise

import gymnasium as gym
import numpy as np
import pytest
import torch
from streams import REAL, bonus, spec, step

ACTIONS = {
    "discrete": gym.spaces.Discrete(3, start=2),
    "several": gym.spaces.MultiDiscrete([2, 3], start=[1, 0]),
    "bits": gym.spaces.MultiBinary(3),
    "box": gym.spaces.Box(np.array([-2.0, 0.0], np.float32), np.array([2.0, np.inf], np.float32)),
}


def perceptron(flat, sizes, x, activation):
    """The network of these parameters, through autograd."""
    at = 0
    for layer, (inputs, outputs) in enumerate(pairwise(sizes)):
        weight = flat[at : at + inputs * outputs].reshape(inputs, outputs)
        at += inputs * outputs
        x = x @ weight + flat[at : at + outputs]
        at += outputs
        x = x if layer == len(sizes) - 2 else getattr(torch, activation)(x)
    return x


def batch(space, rows=16, seed=0):
    rng = np.random.default_rng(seed)
    space.seed(seed)
    obs, next_obs = rng.normal(size=(2, rows, 4)).astype(np.float32)
    return obs, next_obs, np.stack([space.sample() for _ in range(rows)])


def inverse_loss(outputs, action, space):
    """Cross-entropy of every choice, or half the squared error of numbers in units of their bounds; mean over rows."""
    if isinstance(space, gym.spaces.Box):
        target = np.stack((action[:, 0] / 2, action[:, 1]), 1).astype(np.float32)
        return ((outputs - torch.from_numpy(target)) ** 2).sum(1).mean() / 2
    counts = {gym.spaces.Discrete: [3], gym.spaces.MultiDiscrete: [2, 3], gym.spaces.MultiBinary: [2] * 3}[type(space)]
    choice = torch.from_numpy((action - getattr(space, "start", 0)).reshape(len(action), -1).astype(np.int64))
    blocks = torch.split(outputs, counts, 1)
    return sum(torch.nn.functional.cross_entropy(block, choice[:, k]) for k, block in enumerate(blocks))


@pytest.mark.parametrize("activation", ["relu", "tanh"])
@pytest.mark.parametrize("kind", ACTIONS)
def test_gradients_of_all_three_networks_are_autograds(kind, activation):
    """The features have the gradient of the inverse loss alone, through both observations."""
    space = ACTIONS[kind]
    part = bonus("icm", spec(REAL, space), hidden_sizes=[8, 6], features=5, activation=activation)
    obs, next_obs, action = batch(space)
    encoded = part.actions.encode(action)
    losses = part.gradients(obs, next_obs, encoded)
    networks = (part.features, part.inverse, part.forward)
    flats = [torch.from_numpy(network.parameters.copy()).requires_grad_() for network in networks]
    width, told = encoded.shape[1], torch.from_numpy(encoded)
    before, after = (perceptron(flats[0], (4, 8, 6, 5), torch.from_numpy(x), activation) for x in (obs, next_obs))
    its_inverse = inverse_loss(
        perceptron(flats[1], (10, 8, 6, width), torch.cat((before, after), 1), activation), action, space
    )
    predicted = perceptron(flats[2], (5 + width, 8, 6, 5), torch.cat((before.detach(), told), 1), activation)
    errors = ((predicted - after.detach()) ** 2).sum(1) / 2
    (its_inverse + errors.mean()).backward()
    assert losses == pytest.approx({"inverse_loss": its_inverse.item(), "forward_loss": errors.mean().item()}, rel=1e-4)
    np.testing.assert_allclose(part.errors(obs, encoded, next_obs), errors.detach().numpy(), rtol=1e-4)
    for network, flat in zip(networks, flats, strict=True):
        assert flat.grad.abs().max() > 1e-3
        np.testing.assert_allclose(network.gradient, flat.grad.numpy(), rtol=1e-3, atol=1e-5)


SIDE, TV = 4, 8
MOVES = np.array([[0, 1], [1, 0], [0, -1], [-1, 0]])


def noisy_tv(steps, seed, envs=8):
    """A grid of 4 x 4, seen one-hot; in a corner stands a screen, and who is there sees 8 numbers of noise as well."""
    rng = np.random.default_rng(seed)
    at = rng.integers(0, SIDE, (envs, 2))

    def see():
        obs = np.zeros((envs, SIDE * SIDE + TV), np.float32)
        obs[np.arange(envs), at[:, 0] * SIDE + at[:, 1]] = 1
        there = (at == 0).all(1)
        obs[there, SIDE * SIDE :] = rng.normal(size=(there.sum(), TV))
        return obs, there

    obs, _ = see()
    for _ in range(steps):
        action = rng.integers(0, 4, envs)
        at = np.clip(at + MOVES[action], 0, SIDE - 1)
        next_obs, there = see()
        yield step(obs, next_obs, action), there
        obs = next_obs


GRID = spec(gym.spaces.Box(-np.inf, np.inf, (SIDE * SIDE + TV,), np.float32), gym.spaces.Discrete(4), 8)


def at_the_screen_and_elsewhere(part, seed, steps=6_000):
    """Mean bonus at the screen and elsewhere, in the first and the last fifth of the steps."""
    paid, there = (
        np.array(column) for column in zip(*((part.bonus(s), on) for s, on in noisy_tv(steps, seed)), strict=True)
    )
    fifths = (slice(0, steps // 5), slice(-steps // 5, None))
    return [(float(paid[f][there[f]].mean()), float(paid[f][~there[f]].mean())) for f in fifths]


@pytest.mark.parametrize("seed", range(3))
def test_noise_that_no_action_controls_loses_its_attraction(seed):
    """What is paid at the screen, in units of what is paid elsewhere: hundreds for rnd, a few for icm."""
    icm, rnd = bonus("icm", GRID, seed), bonus("rnd", GRID, seed, learning_rate=1e-3)  # as fast as icm's
    (first, _), (screen, elsewhere) = at_the_screen_and_elsewhere(icm, seed)
    _, (its_screen, its_elsewhere) = at_the_screen_and_elsewhere(rnd, seed)
    assert screen < 0.1 * first
    assert screen / elsewhere < 15
    assert its_screen / its_elsewhere > 100


def share_told(part, steps):
    """How often the most probable action of the inverse model is the one that was taken."""
    hits = []
    for made in steps:
        pair = np.concatenate([part.features.infer(part.white(part.encode(x))) for x in (made.obs, made.next_obs)], 1)
        hits += (part.inverse.infer(pair).argmax(1) == made.action).tolist()
    return np.mean(hits)


def test_the_inverse_model_tells_which_action_was_taken_noise_or_not():
    """In a corner two moves lead nowhere, and one can but guess: 60 of 64 pairs of cell and action can be told."""
    part = bonus("icm", GRID, 0)
    fresh = [made for made, _ in noisy_tv(200, seed=9)]
    before = share_told(part, fresh)
    for made, _ in noisy_tv(3_000, seed=0):
        part.bonus(made)
    assert before < 0.4
    assert 0.88 < share_told(part, fresh) < 0.97
    assert part.metrics()["inverse_loss"] < 0.4  # log(2) * 8 / 64 = 0.087 at best, log(4) = 1.386 by guessing


def test_the_inverse_model_tells_continuous_actions_too():
    """s' = s + a: half the squared error of guessing 0 is 2 * 1/3 / 2 = 0.33 in units of the bounds."""
    rng = np.random.default_rng(0)
    part = bonus("icm", spec(gym.spaces.Box(-9.0, 9.0, (2,)), gym.spaces.Box(-3.0, 3.0, (2,)), 16), weight_decay=0.0)
    losses = []
    for _ in range(2_500):
        obs, action = rng.normal(size=(16, 2)), rng.uniform(-3, 3, (16, 2))
        part.bonus(step(obs.astype(np.float32), (obs + action).astype(np.float32), action.astype(np.float32)))
        losses.append(part.metrics().get("inverse_loss", np.nan))
    assert np.nanmean(losses[:40]) > 0.2
    assert np.mean(losses[-400:]) < 0.02


def test_a_batch_moves_every_network():
    part = bonus("icm", spec(REAL, ACTIONS["discrete"]))
    networks = (part.features, part.inverse, part.forward)
    before = [network.parameters.copy() for network in networks]
    obs, next_obs, action = batch(ACTIONS["discrete"])
    part.learn(obs, next_obs, part.actions.encode(action))
    for network, old in zip(networks, before, strict=True):
        assert 0.0005 < np.abs(network.parameters - old).max() < 0.002  # Adam's first step is the learning rate


def test_the_decay_of_the_weights_is_that_of_the_features_alone():
    obs, next_obs, action = batch(ACTIONS["discrete"])
    parts = [bonus("icm", spec(REAL, ACTIONS["discrete"]), weight_decay=decay) for decay in (0.0, 0.5)]
    for part in parts:
        part.learn(obs, next_obs, part.actions.encode(action))
    plain, pulled = parts
    for name in ("inverse", "forward"):
        np.testing.assert_array_equal(getattr(plain, name).gradient, getattr(pulled, name).gradient)
    before = bonus("icm", spec(REAL, ACTIONS["discrete"])).features.parameters
    np.testing.assert_allclose(pulled.features.gradient, plain.features.gradient + 0.5 * before, rtol=1e-5, atol=1e-7)
