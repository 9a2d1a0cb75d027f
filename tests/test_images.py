"""Observations of pixels: convolutions against brute force, and agents that see with them."""

import re
from dataclasses import replace

import gymnasium as gym
import numpy as np
import pytest
import torch

from rltrain.config.load import from_dict
from rltrain.core import EnvSpec
from rltrain.encoding import Encoder, in_words, vector_problem
from rltrain.experiment import build as build_experiment
from rltrain.fitting import problems
from rltrain.jit import COMPILED_FROM, CompiledLater
from rltrain.nn import fused_images
from rltrain.nn.arrays import side_by_side, to_numpy
from rltrain.nn.blueprint import blueprint
from rltrain.nn.convolutions import Convolutions
from rltrain.nn.fused_images import FusedImages
from rltrain.nn.modules import module_network
from rltrain.nn.networks import build
from rltrain.nn.noisy import NoisyNetwork
from rltrain.nn.torso import encoder_problem, torso, torso_of
from rltrain.registry import names, settings_class


def pixels(*shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def module(encoder, shape, init="uniform"):
    return Convolutions(torso(encoder, shape), np.random.default_rng(0), init)


def features(encoder, x):
    with torch.no_grad():
        return module(encoder, x.shape[1:])(torch.from_numpy(x)).numpy()


def test_a_convolution_is_the_sum_over_its_window_of_pixels_between_0_and_1():
    x = pixels(2, 10, 5)
    layer = module("minatar", (10, 5)).layers[0]
    weight, bias = layer.weight.detach().numpy(), layer.bias.detach().numpy()  # (16, 1, 3, 3), (16,)
    expected = np.zeros((2, 16, 8, 3))
    for row in range(8):
        for column in range(3):
            window = x[:, None, None, row : row + 3, column : column + 3] / 255  # (2, 1, 1, 3, 3)
            expected[:, :, row, column] = (window * weight).sum((2, 3, 4)) + bias
    np.testing.assert_allclose(features("minatar", x), expected.clip(0).reshape(2, -1), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("encoder", ["nature", "impala", "minatar"])
@pytest.mark.parametrize("shape", [(4, 84, 84), (61, 47, 3), (36, 36)])
def test_the_number_of_features_is_known_before_torch_is_there(encoder, shape):
    assert features(encoder, pixels(2, *shape)).shape == (2, torso(encoder, shape).features)


def test_the_published_networks_have_their_published_sizes():
    assert torso("nature", (4, 84, 84)).features == 64 * 7 * 7
    assert torso("impala", (4, 84, 84)).features == 32 * 11 * 11
    assert torso("minatar", (10, 10, 4)).features == 16 * 8 * 8
    count = {name: sum(p.numel() for p in module(name, (4, 84, 84)).parameters()) for name in ("nature", "impala")}
    # nature: 4*32*64 + 32, 32*64*16 + 64, 64*64*9 + 64. impala: of each stage the first convolution and four more
    stages = [(4 * 16 + 4 * 16 * 16, 5 * 16), (16 * 32 + 4 * 32 * 32, 5 * 32), (32 * 32 + 4 * 32 * 32, 5 * 32)]
    assert count == {"nature": 8_224 + 32_832 + 36_928, "impala": sum(9 * w + b for w, b in stages)}


def test_frames_and_colours_are_channels_wherever_they_lie():
    planes = pixels(2, 3, 40, 50)
    first = features("nature", planes)
    np.testing.assert_array_equal(features("nature", np.ascontiguousarray(planes.transpose(0, 2, 3, 1))), first)
    grey = pixels(2, 4, 40, 50)
    np.testing.assert_array_equal(features("nature", grey[..., None]), features("nature", grey))
    assert torso("nature", (4, 40, 50, 3)).image == (12, 40, 50)
    assert torso("minatar", (5, 10, 5), stacked=True).image == (5, 10, 5)  # as deep as it is wide
    assert torso("minatar", (8, 10, 5), stacked=True).image == (8, 10, 5)  # deeper
    spec = EnvSpec("x", gym.spaces.Box(0, 255, (5, 10, 5), np.uint8), gym.spaces.Discrete(2), 1, frame_stack=5)
    assert torso_of("minatar", spec).image == (5, 10, 5)
    moved = replace(spec, observation_space=gym.spaces.Box(0, 255, (10, 5, 5), np.uint8))  # by another wrapper
    assert torso_of("minatar", moved).image == (5, 10, 5)
    assert [torso("auto", shape).image for shape in ((4, 84, 84), (10, 5), (7, 9, 3))] == [(4, 84, 84), (1, 10, 5), (3, 7, 9)]  # fmt: skip


@pytest.mark.parametrize("encoder", ["nature", "impala", "minatar"])
def test_normalised_convolutions_see_the_same_in_a_darker_image(encoder):
    """Without biases units are proportional to the pixels, and normalised they are the same.

    Not so in impala, where units that are not normalised go around those that are.
    """
    made = Convolutions(torso(encoder, (4, 84, 84), layer_norm=True), np.random.default_rng(0), "orthogonal")
    plain = Convolutions(torso(encoder, (4, 84, 84)), np.random.default_rng(0), "orthogonal")
    bright = pixels(2, 4, 84, 84) // 2 * 2
    with torch.no_grad():
        seen, darker = (made(torch.from_numpy(x)).numpy() for x in (bright, bright // 2))
        usual = plain(torch.from_numpy(bright)).numpy()
    if encoder != "impala":
        np.testing.assert_allclose(seen, darker, atol=2e-3)
    np.testing.assert_allclose((seen**2).mean(), 0.5, atol=0.1)  # half the units of variance 1 are on
    assert np.abs(seen - usual).max() > 0.5
    assert [p.shape for p in made.parameters()] == [p.shape for p in plain.parameters()]


def test_auto_takes_nature_for_screens_and_minatar_for_boards():
    assert torso("auto", (4, 84, 84)).name == torso("auto", (36, 36)).name == "nature"
    assert torso("auto", (35, 84)).name == torso("auto", (10, 5)).name == "minatar"


def test_orthogonal_convolutions_have_orthogonal_rows_times_the_root_of_two():
    layer = module("nature", (4, 84, 84), "orthogonal").layers[0]
    rows = layer.weight.detach().reshape(32, -1)
    np.testing.assert_allclose((rows @ rows.T).numpy(), 2 * np.eye(32), atol=1e-5)
    assert not layer.bias.detach().any()


def spec(*shape, dtype=np.uint8, high=255):
    return EnvSpec("Screen-v0", gym.spaces.Box(0, high, shape, dtype), gym.spaces.Discrete(3), 1)


def test_what_cannot_be_seen_is_refused_with_what_could():
    assert "td3 cannot see images" in vector_problem("td3", spec(84, 84, 3))
    assert vector_problem("dqn", spec(84, 84, 3), images=True) is None
    assert "add the wrapper flatten" in vector_problem("dqn", spec(84, 84, dtype=np.float32), images=True)
    assert "larger images than 30 by 84" in encoder_problem("nature", spec(30, 84))
    assert "larger images than 2 by 9" in encoder_problem("auto", spec(2, 9))
    assert "is for images" in encoder_problem("impala", spec(4))
    assert encoder_problem("auto", spec(4)) is encoder_problem("impala", spec(5, 4)) is None


def test_an_agent_that_cannot_see_is_told_of_every_one_that_can_and_takes_these_actions():
    box = EnvSpec("Screen-v0", spec(84, 84).observation_space, gym.spaces.Box(-1, 1, (2,)), 1)
    assert vector_problem("td3", box).endswith(": use ppo or a2c, or add the wrapper flatten")
    told = set(re.findall(r"\w+", vector_problem("td3", spec(84, 84, 3))))
    seeing = {name for name in names("agents") if getattr(settings_class("agents", name), "sees_images", False)}
    assert told & {*names("agents")} - {"td3"} == seeing | {"pqn", "ppo", "a2c"}


@pytest.mark.parametrize("agent", ["dqn", "rainbow", "ppo", "a2c"])
def test_who_leaves_the_layers_after_convolutions_as_they_are_is_told_of_the_published_ones(agent):
    def told(observed, **settings):
        notes = settings_class("agents", agent)(name=agent, **settings).notes(observed)
        return [note.split("convolutions of ")[1] for note in notes if "hidden_sizes" in note]

    assert told(spec(4, 84, 84)) == ["nature, which were published with [512]"]
    assert told(spec(4, 84, 84), encoder="impala") == ["impala, which were published with [256]"]
    assert told(spec(10, 5)) == ["minatar, which were published with [128]"]
    assert told(spec(4, 84, 84), hidden_sizes=[64, 64]) == told(spec(4, dtype=np.float32)) == []


def test_images_stay_bytes_and_other_observations_become_floats():
    seen, flat = Encoder(spec(4, 5).observation_space, images=True), Encoder(spec(4, 5).observation_space)
    x = pixels(3, 4, 5)
    assert seen(x) is x
    assert (seen.shape, seen.dtype, flat.shape, flat.dtype) == ((4, 5), np.uint8, (20,), np.float32)
    assert flat(x).shape == (3, 20)


def test_convolutions_have_no_noise_and_learn():
    plan = torso("minatar", (10, 5))
    rng = np.random.default_rng(0)
    plans = [blueprint((plan.features, 8, 3), "relu", rng)]
    inner = build(plans, "cpu", torso=plan, rng=rng)
    network, before = NoisyNetwork(inner, plans, 0.5), inner.parameters.copy()
    network.disturb(rng)
    same = inner.parameters == before
    assert same[:160].all()  # 16 * 9 weights and 16 biases
    assert not same[160:].any()
    grad = np.ones((4, 3), np.float32)
    network.learn(lambda outputs: (grad, None), pixels(4, 10, 5))
    count = len(before)
    assert network.gradient[:160].any()
    assert not network.gradient[count : count + 160].any()
    assert network.gradient[count + 160 :].any()


SHAPES = {"frames": (4, 44, 40), "colours": (44, 40, 3), "coloured frames": (2, 40, 44, 3), "grey": (40, 44)}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("how", ["relu", "tanh", "layer_norm", "heads", "free", "late"])
def test_convolutions_under_perceptrons_by_hand_are_what_autograd_makes_of_them(shape, how, monkeypatch):
    if how == "late":  # a long run turns bytes to floats by a compiled loop
        monkeypatch.setattr(CompiledLater, "seen", COMPILED_FROM)
    plan = torso("nature" if shape == "frames" else "minatar", SHAPES[shape], layer_norm=how == "layer_norm")
    settings = {"layer_norm": how == "layer_norm", "free": [0.5] if how == "free" else None}
    sizes, count = (plan.features, 8, 3), 2 if how == "heads" else 1

    def plans(rng):
        return [blueprint(sizes, "tanh" if how == "tanh" else "relu", rng, **settings) for _ in range(count)]

    mine, its = (
        make(plans(np.random.default_rng(0)), "cpu", torso=plan, rng=np.random.default_rng(1))
        for make in (build, module_network)
    )
    assert isinstance(mine, FusedImages)
    np.testing.assert_array_equal(mine.parameters, its.parameters.numpy())
    x = pixels(6, *SHAPES[shape])
    outputs = its.evaluate(torch.from_numpy(x)).numpy()
    np.testing.assert_allclose(mine.evaluate(x), outputs, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(mine.infer(x, slice(1, 3)), outputs[:, 1:3], rtol=1e-4, atol=1e-5)
    grad = np.random.default_rng(2).normal(size=outputs.shape).astype(np.float32)
    told = mine.learn(lambda outputs, grad: (grad, outputs.sum()), x, grad)
    its.learn(lambda outputs, grad: (grad, None), torch.from_numpy(x), torch.from_numpy(grad))
    assert told == pytest.approx(outputs.sum(), rel=1e-3)
    scale = np.abs(its.gradient.numpy()).max()
    np.testing.assert_allclose(mine.gradient / scale, its.gradient.numpy() / scale, atol=1e-5)
    with pytest.raises(TypeError, match="no gradient"):
        mine.input_gradient(None, x)


@pytest.mark.parametrize("shape", [*SHAPES.values(), (1, 44, 40), (10, 5)])
def test_a_run_does_not_change_where_its_loop_is_compiled(shape, monkeypatch):
    """A run that is resumed compiles it later than one that never stopped: outputs and gradients are the same bits."""
    plan, rng, results = torso("auto", shape), np.random.default_rng(0), []
    network = build([blueprint((plan.features, 8, 3), "relu", rng)], "cpu", torso=plan, rng=rng)
    x, grad = pixels(5, *shape), np.ones((5, 3), np.float32)
    for seen in (0, COMPILED_FROM):
        monkeypatch.setattr(CompiledLater, "seen", seen)
        monkeypatch.setattr(fused_images, "FLOATS", CompiledLater(fused_images.floats_side_by_side))
        network.learn(lambda outputs: (grad, None), x)
        results.append((network.evaluate(x).copy(), network.gradient.copy()))
    for before, after in zip(*results, strict=True):
        np.testing.assert_array_equal(before, after)


def test_more_images_than_memory_holds_at_once_are_seen_in_parts(monkeypatch):
    plan, rng = torso("minatar", (10, 5)), np.random.default_rng(0)
    network = build([blueprint((plan.features, 3), "relu", rng)], "cpu", torso=plan, rng=rng)
    whole = network.evaluate(pixels(7, 10, 5)).copy()
    monkeypatch.setattr(fused_images, "IMAGES_AT_ONCE", 3)
    np.testing.assert_allclose(network.evaluate(pixels(7, 10, 5)), whole, rtol=1e-6)
    assert network.evaluate(pixels(0, 10, 5)).shape == (0, 3)


def catch(agent, **settings):
    return {
        "env": {"id": "rltrain/Catch-v0", "num_envs": 2},
        "agent": {"name": agent, "hidden_sizes": [16], **settings},
        "exploration": {"name": "epsilon_greedy"} if agent in ("dqn", "iqn", "pqn") else None,
        "train": {"total_steps": 1_000},
        "device": "cpu",
    }


DQN = {"batch_size": 8, "learning_starts": 20, "buffer_size": 100, "target_update_interval": 16}
SEEING = {
    "dqn": DQN,
    "dqn-all": DQN | {"heads": 2, "prior_scale": 1.0, "dueling": True, "double": True, "n_step": 3},
    "iqn": DQN | {"n_quantiles": 4, "prior_scale": 1.0, "double": True, "heads": 2},
    "pqn": {"n_steps": 8, "batch_size": 8},
    "pqn-convolutions": {"n_steps": 8, "batch_size": 8, "hidden_sizes": []},  # which layer_norm is for
    "ppo": {"n_steps": 16, "batch_size": 8, "n_epochs": 2},
    "ppo-impala": {"n_steps": 16, "batch_size": 16, "n_epochs": 1, "encoder": "impala", "shared_network": True},
    "a2c": {"n_steps": 4},
    "actor_critic": {},
    "reinforce": {"episodes_per_update": 2},
}


@pytest.mark.parametrize("case", SEEING)
def test_an_agent_that_sees_goes_on_exactly_from_its_state(case):
    made = from_dict(catch(case.split("-")[0], **SEEING[case])).config
    assert problems(made) == []
    first, second = build_experiment(made), build_experiment(made)
    begun = to_numpy(first.agent.networks[0].parameters)
    first.loop.advance(50)
    assert (to_numpy(first.agent.networks[0].parameters) != begun)[:160].any()  # the convolutions learn
    second.agent.load_state_dict(first.agent.state_dict())
    second.loop.load_state_dict(first.loop.state_dict())
    for each in (first, second):
        each.loop.advance(40)
    obs = pixels(5, 10, 5)
    np.testing.assert_array_equal(first.agent.act(obs, explore=False), second.agent.act(obs, explore=False))
    learnt = [to_numpy(each.agent.networks[0].parameters) for each in (first, second)]
    np.testing.assert_array_equal(*learnt)


def test_the_size_of_the_noise_is_that_of_the_layers_which_have_it():
    """F features, 16 units, 3 actions: ((F + 1) 16 * 0.5 / sqrt(F) + 17 * 3 * 0.5 / 4) / ((F + 1) 16 + 17 * 3)."""
    made = build_experiment(from_dict(catch("dqn", noisy=True, **DQN) | {"exploration": None}).config).agent
    features = torso("auto", made._encode.image).features
    first, last = (features + 1) * 16, 17 * 3
    expected = (first * 0.5 / features**0.5 + last * 0.5 / 4) / (first + last)
    assert float(made.q.metrics()["exploration/sigma"]().mean()) == pytest.approx(expected, rel=1e-5)


def test_pixels_are_bytes_from_the_environment_to_the_network(monkeypatch):
    made = from_dict(catch("dqn", **DQN)).config
    experiment, seen = build_experiment(made), []
    for network in (experiment.agent.q.network, experiment.agent.target.network):
        planes = network._torso.planes
        monkeypatch.setattr(network._torso, "planes", lambda x, planes=planes: (seen.append(x.dtype), planes(x))[1])
    assert experiment.envs.reset()[0].dtype == np.uint8
    experiment.loop.advance(40)
    assert len(seen) > 30
    assert set(seen) == {torch.uint8}
    batch = experiment.agent.replay.sample(4)
    assert {batch.obs.dtype, batch.next_obs.dtype} == {np.dtype(np.uint8)}


@pytest.mark.parametrize("hidden", [(16,), (12, 16)])
def test_iqn_sees_images_by_convolutions_that_belong_to_psi(hidden):
    """With one hidden layer, as in the paper, fractions meet what the convolutions give."""
    made = build_experiment(from_dict(catch("iqn", **DQN | {"hidden_sizes": hidden})).config).agent
    tau, x = np.array([[0.3, 0.9], [0.5, 0.1]], np.float32), pixels(2, 10, 5)
    network = made.q.network._module
    parts = dict(network.heads[0].named_parameters())
    h = network.torso(torch.from_numpy(x))
    if len(hidden) == 2:
        h = torch.relu(h @ parts["psi.0.weight"] + parts["psi.0.bias"])
    cosines = torch.cos(torch.pi * torch.arange(64) * torch.from_numpy(tau)[..., None])  # (B, T, 64)
    h = h[:, None] * torch.relu(cosines @ parts["phi.0.weight"] + parts["phi.0.bias"])
    h = torch.relu(h @ parts["f.0.weight"] + parts["f.0.bias"]) @ parts["f.2.weight"] + parts["f.2.bias"]
    rows = made.q.infer(side_by_side(x, tau))[:, 0]  # (B, A, T)
    np.testing.assert_allclose(rows, h.detach().numpy().swapaxes(1, 2), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(made.q.infer(side_by_side(x, tau)[:1])[:, 0], rows[:1], rtol=1e-4, atol=1e-6)


def test_a_critic_that_shares_convolutions_has_no_learning_rate_of_its_own():
    made = from_dict(catch("actor_critic", critic_learning_rate=1e-3)).config
    assert [problem.path for problem in problems(made)] == ["agent.critic_learning_rate"]


def test_in_catch_the_paddle_below_the_ball_gets_1_and_any_other_minus_1():
    with pytest.raises(ValueError, match="no time to reach the ball"):
        gym.make("rltrain/Catch-v0", rows=1, columns=1)
    env = gym.make("rltrain/Catch-v0", render_mode="rgb_array")
    found = []
    for seed in range(8):
        for target in ("ball", "wall"):
            obs, _ = env.reset(seed=seed)
            assert obs.shape == (10, 5)
            assert obs[9].tolist() == [0, 0, 255, 0, 0]
            ball, steps, over = int(obs[0].argmax()), 0, False
            goal = ball if target == "ball" else (0 if ball else 4)
            while not over:
                paddle = int(obs[9].argmax()) if steps < 9 else None
                obs, reward, over, _, _ = env.step(1 + int(np.sign(goal - paddle)))
                steps += 1
                assert obs[steps].any()
                assert steps == 9 or reward == 0
            found.append((target, steps, reward))
    assert set(found) == {("ball", 9, 1.0), ("wall", 9, -1.0)}
    assert env.render().shape == (160, 80, 3)
    with pytest.raises(ValueError, match="no action 3"):
        env.unwrapped.step(3)


def test_a_space_is_told_in_one_line_without_addresses_or_many_bounds():
    bounds = np.arange(40, dtype=np.float32)
    parts = {"near": gym.spaces.Box(-bounds - 1, bounds), "far": gym.spaces.Tuple([gym.spaces.Discrete(2), Odd()])}
    assert in_words(gym.spaces.Dict(parts)) == "Dict(far: Tuple(Discrete(2), Odd), near: Box((40,), float32))"
    assert in_words(gym.spaces.Box(0, 255, (7, 7), np.uint8)) == "Box(0, 255, (7, 7), uint8)"


class Odd(gym.Space):
    """Says of itself what nobody wants to know."""

    def __repr__(self):
        return "Odd(<function at 0x7f00>)"
