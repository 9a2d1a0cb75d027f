"""DDPG and TD3: their gradients against autograd, what they converge to, and what they update when."""

import itertools

import gymnasium as gym
import numpy as np
import pytest
import torch

from rltrain.config.load import from_dict
from rltrain.continuous import EncodedBatch
from rltrain.core import EnvSpec, Transition
from rltrain.fitting import problems
from rltrain.nn import losses
from rltrain.nn.arrays import to_numpy
from rltrain.nn.modules import module_network
from rltrain.nn.optimizers import Diverged
from rltrain.registry import find, settings_class
from rltrain.schedules import Constant

BOX = gym.spaces.Box(np.array([-1, 2], np.float32), np.array([3, 4], np.float32))  # middles 1 and 3, half 2 and 1
AGENTS = ["ddpg", "td3"]
NO = np.zeros(1, bool)


def agent(
    name="ddpg", seed=0, *, actions=BOX, envs=1, exploration="gaussian_noise", noise=None, device="cpu", **settings
):
    defaults = {
        "hidden_sizes": (16,),
        "batch_size": 16,
        "buffer_size": 500,
        "learning_starts": 0,
        "learning_rate": Constant(value=5e-3),
        "tau": 0.05,
    }
    config = settings_class("agents", name)(name=name, **{**defaults, **settings})
    made = None
    if config.explores_with is not None:
        explored = settings_class("explorations", exploration)(name=exploration, **(noise or {"sigma": 1.0}))
        made = find("explorations", exploration)(explored)
    spec = EnvSpec("test", gym.spaces.Box(-10, 10, (2,), np.float32), actions, envs)
    return find("agents", name)(config, spec, exploration=made, rng=np.random.default_rng(seed), device=device)


def play(agent, steps, *, length=8, reward=lambda action: 1.0, ends="truncated"):
    """An environment in which nothing changes; episodes of `length` steps end as told."""
    obs = np.zeros((1, 2), np.float32)
    for step in range(1, steps + 1):
        action = agent.act(obs)
        over = np.array([step % length == 0])
        paid = np.array([reward(action[0])], np.float32)
        cut = (over, NO) if ends == "terminated" else (NO, over)
        agent.observe(Transition(obs, action, paid, obs, *cut))
        agent.update()
    return agent


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def test_the_gradient_of_the_critics_loss_is_autograds():
    q, target, weight = normal(8, 2), normal(8, seed=1), abs(normal(8, seed=2))
    x = torch.from_numpy(q).requires_grad_()
    losses.critic_loss(x, torch.from_numpy(target), torch.from_numpy(weight)).backward()
    grad, error = losses.critic_gradient(q, target, weight)
    np.testing.assert_allclose(grad, x.grad.numpy(), atol=1e-7)
    np.testing.assert_allclose(error, target[:, None] - q)


@pytest.mark.parametrize("name", AGENTS)
@pytest.mark.parametrize("activation", ["relu", "elu"])  # fused, and through torch
def test_the_actors_gradient_is_that_of_the_first_critics_value_by_autograd(name, activation):
    made, obs = agent(name, activation=activation), normal(20, 2)
    actor, critic = made.actor.network, made.critic.network
    kept = to_numpy(critic.gradient)

    def tensors(network, sizes):
        flat, at = torch.from_numpy(to_numpy(network.parameters)), 0
        layers = []
        for inputs, outputs in sizes:
            weight = flat[at : at + inputs * outputs].reshape(inputs, outputs).requires_grad_()
            at += inputs * outputs
            layers.append((weight, flat[at : at + outputs].clone().requires_grad_()))
            at += outputs
        return layers

    def through(layers, x):
        for index, (weight, bias) in enumerate(layers):
            x = x @ weight + bias
            x = getattr(torch.nn.functional, activation)(x) if index < len(layers) - 1 else x
        return x

    mine, first = (
        tensors(actor, [(2, 16), (16, 2)]),
        tensors(critic, [(4, 16), (16, 1)]),
    )  # the first critic's come first
    seen = torch.from_numpy(obs)
    value = through(first, torch.cat((seen, torch.tanh(through(mine, seen))), 1)).mean()
    grads = torch.autograd.grad(-value, [part for layer in mine for part in layer])
    x = obs if activation == "relu" else seen
    actor.learn(made._policy_gradient, x, x)
    expected = torch.cat([part.reshape(-1) for part in grads]).numpy()
    assert abs(expected).max() > 1e-3
    np.testing.assert_allclose(to_numpy(actor.gradient), expected, rtol=1e-3, atol=1e-6)
    assert np.array_equal(to_numpy(critic.gradient), kept)  # the critic does not learn from it


@pytest.mark.parametrize("name", AGENTS)
def test_a_target_is_the_reward_and_the_discounted_value_of_the_target_networks(name, monkeypatch):
    """Targets worth 3 and 5 wherever they look; r = 2, discount 0.5 and 0: y = 2 + 0.5 * 3 = 3.5 and 2."""
    made, seen = agent(name, activation="relu"), []
    values = np.array([[3.0, 5.0], [5.0, 3.0]], np.float32)[:, : made._config.critics]
    values[1, 0] = 3.0 if name == "ddpg" else 5.0
    monkeypatch.setattr(made.critic.target, "evaluate", lambda x: values)
    monkeypatch.setattr(
        made.critic.network, "learn", lambda f, x, target, weight: seen.append(target) or target[:, None]
    )
    two = np.full(2, 2, np.float32)
    batch = EncodedBatch(
        normal(2, 2), normal(2, 2), two, np.array([0.5, 0], np.float32), two, normal(2, 2), made._noise(2)
    )
    made._gradient_step(batch, 0.1, 0.1, due=False)
    assert seen[0].tolist() == [3.5, 2.0]


FAST = {"gamma": 0.9, "learning_rate": 1e-2, "tau": 0.1}


@pytest.mark.parametrize(
    ("name", "settings"), [("ddpg", {}), ("td3", {}), ("sac", {"ent_coef": 0.0}), ("ddpg", {"n_step": 3})]
)
def test_reward_1_for_ever_is_worth_10_at_gamma_09_although_episodes_are_cut_at_8(name, settings):
    learnt = play(agent(name, **FAST, **settings), 600)
    assert learnt.values(np.zeros((1, 2), np.float32))[0] == pytest.approx(10, abs=0.5)


def test_the_same_with_real_ends_is_worth_less():
    """v = 1 + 0.9 * 7/8 * v, so v = 4.7."""
    learnt = play(agent(batch_size=64, **FAST), 600, ends="terminated")
    assert learnt.values(np.zeros((1, 2), np.float32))[0] == pytest.approx(4.7, abs=0.8)


@pytest.mark.parametrize("name", AGENTS)
def test_the_best_action_within_the_box_is_learnt_from_uniform_ones(name, monkeypatch):
    """The reward is greatest at (0, 3.5), which is -0.5 and 0.5 on the scale of the box."""
    own = {"batch_size": 64, "buffer_size": 2_000, "hidden_sizes": (32,), "gamma": 0.0}
    made = agent(name, learning_rate=3e-3, learning_starts=300, **own)
    uniform = lambda unit, first, step, rng: rng.uniform(-1, 1, unit.shape).astype(np.float32)  # noqa: E731
    monkeypatch.setattr(made._exploration, "perturb", uniform)
    play(made, 1_000, reward=lambda a: -(a[0] ** 2) / 4 - (a[1] - 3.5) ** 2)
    np.testing.assert_allclose(made.act(np.zeros((1, 2), np.float32), explore=False)[0], [0, 3.5], atol=0.3)


def test_an_actor_at_the_end_of_its_tanh_gives_the_end_of_the_box_and_never_more():
    made = agent()
    made.actor.network.parameters[-2:] = [50, -50]
    for explore in (False, True):
        actions = [made.act(np.zeros((1, 2), np.float32), explore=explore)[0] for _ in range(20)]
        assert all(BOX.contains(action) for action in actions)
    assert made.act(np.zeros((1, 2), np.float32), explore=False).tolist() == [[3, 2]]


@pytest.mark.parametrize("name", ["ddpg", "td3", "sac", "tqc"])
def test_priorities_are_the_errors_of_the_critics_and_go_on_from_a_saved_state(name):
    made, again = (agent(name, seed, prioritized={}, n_step=3, gradient_steps=2) for seed in (0, 1))
    play(made, 100)
    drawn, sample = [], made._sample
    made._sample = lambda rows: drawn.append(sample(rows)) or drawn[-1]
    error = made._gradient_steps(1)["train/td_error"]().reshape(16, -1).mean(1)
    last = {row: (abs(each) + 1e-6) ** 0.6 for row, each in zip(drawn[0].indices, error, strict=True)}
    found = made.replay._priorities._tree[np.array(list(last))]
    np.testing.assert_allclose(found, list(last.values()), rtol=1e-5)
    batch = made._sample(16)
    before = batch.indices.copy()
    made._prioritize(batch, np.arange(32, dtype=np.float32).reshape(16, 2) - 31)  # of two critics
    expected = {
        row: (abs(np.arange(32) - 31.0).reshape(16, 2).mean(1)[at] + 1e-6) ** 0.6 for at, row in enumerate(before)
    }
    found = made.replay._priorities._tree[np.array(list(expected))]
    np.testing.assert_allclose(found, list(expected.values()), rtol=1e-5)
    again.load_state_dict(made.state_dict())
    for each in (made, again):
        play(each, 30)
    assert str(made.state_dict()) == str(again.state_dict())
    assert made._sample(16).weight.min() < 1


def moved(agent, steps, seed=0):
    """Observations around 50 with deviation 3, and around -2 with deviation 0.1; each step goes on from the last."""
    rng = np.random.default_rng(seed)
    rows = (rng.normal(size=(steps + 1, 2)) * [3.0, 0.1] + [50.0, -2.0]).astype(np.float32)
    for obs, after in itertools.pairwise(rows[:, None]):
        agent.observe(Transition(obs, agent.act(obs), np.ones(1, np.float32), after, NO, NO))
        agent.update()
    return rows


@pytest.mark.parametrize("name", AGENTS)
def test_replay_keeps_numbers_as_they_are_and_networks_see_them_by_the_statistics_of_now(name):
    made = agent(name, normalize_observation=True)
    rows = moved(made, 300)
    kept = made.replay.sample(64).obs
    assert {tuple(row) for row in kept} <= {tuple(row) for row in rows}
    expected = (kept - rows.mean(0, np.float64)) / np.sqrt(rows.var(0, dtype=np.float64) + 1e-8)  # every row once
    np.testing.assert_allclose(made._encode(kept), expected, rtol=1e-4, atol=1e-5)
    assert made._encode(kept + np.array([1e3, 0])).max() == 10.0


def test_statistics_stay_as_they_are_where_nothing_is_learnt_and_travel_with_the_agent():
    made, again = agent("td3", normalize_observation=True), agent("td3", seed=1, normalize_observation=True)
    rows = moved(made, 300)
    before, kept = str(made._encode.moments.state_dict()), made.act(rows, explore=False)
    assert str(made._encode.moments.state_dict()) == before
    again.load_state_dict({key: value for key, value in made.state_dict().items() if key != "replay"})
    np.testing.assert_array_equal(again.act(rows, explore=False), kept)
    again.replay.load_state_dict(made.replay.state_dict())
    for each in (made, again):
        moved(each, 50, seed=2)
    assert str(made.state_dict()) == str(again.state_dict())


@pytest.mark.parametrize(("space", "fits"), [("Taxi-v4", False), ("rltrain/Catch-v0", False), ("CartPole-v1", True)])
def test_what_is_no_number_is_not_normalised(space, fits):
    data = {
        "env": {"id": space},
        "agent": {"name": "dqn", "normalize_observation": True},
        "train": {"total_steps": 20_000},
    }
    found = problems(from_dict(data | {"exploration": {"name": "epsilon_greedy"}}).config)
    assert [problem.path for problem in found] == ["agent.normalize_observation"] * (not fits)


def test_what_has_no_effect_beside_another_setting_is_told():
    def told(**settings):
        return list(agent("td3", **settings)._config.notes(agent()._spec))

    assert told(target_policy_noise=0.0) == told(target_noise_clip=0.3) == told(prioritized={}) == []
    assert "target_noise_clip does nothing" in told(target_policy_noise=0.0, target_noise_clip=0.3)[0]
    assert "drawn uniformly" in told(prioritized={"alpha": 0.0})[0]


@pytest.mark.parametrize("name", AGENTS)
def test_actions_are_uniform_until_learning_starts(name):
    made = agent(name, learning_starts=1, noise={"sigma": 0.0})
    unit = made.box.unit(np.concatenate([made.act(np.zeros((1, 2), np.float32)) for _ in range(2_000)]))
    counts = np.array([np.histogram(column, bins=8, range=(-1, 1))[0] for column in unit.T])
    assert ((counts - 250) ** 2 / 250).sum(1).max() < 24.3  # 7 degrees of freedom, p = 0.001
    made._steps = 1
    assert len(np.unique([made.act(np.zeros((1, 2), np.float32)) for _ in range(5)], axis=0)) == 1


def test_rounding_leads_out_of_no_box():
    ends = np.sort(np.random.default_rng(0).normal(size=(2, 500)).astype(np.float32), 0)
    space = gym.spaces.Box(*ends)
    assert all(space.contains(agent(actions=space).box.action(np.full((1, 500), u, np.float32))[0]) for u in (-1, 1))


def test_networks_see_actions_on_a_scale_from_minus_1_to_1():
    unit = np.array([[0.5, -1], [-0.25, 1]], np.float32)
    assert agent().box.action(unit).tolist() == [[2, 2], [0.5, 4]]
    assert agent().box.unit(agent().box.action(unit)).tolist() == unit.tolist()


@pytest.mark.parametrize(("name", "delay"), [("ddpg", 1), ("td3", 2), ("td3", 3)])
def test_the_actor_and_the_targets_move_every_policy_delay_steps_of_the_critic(name, delay):
    made = agent(name, **({"policy_delay": delay} if name == "td3" else {}))
    for step in range(1, 8):
        before = [part.parameters.copy() for part in (made.actor.network, made.actor.target, made.critic.target)]
        play(made, 1)
        moved = [
            not np.array_equal(old, part.parameters)
            for old, part in zip(before, (made.actor.network, made.actor.target, made.critic.target), strict=True)
        ]
        assert moved == [step % delay == 0] * 3
    assert made.critic.optimizer.state_dict()["step"] == 7
    assert made.actor.optimizer.state_dict()["step"] == 7 // delay


def test_targets_begin_as_the_networks_and_follow_by_tau_in_memory_of_their_own():
    made = agent(tau=0.25)
    for learner in (made.actor, made.critic):
        assert np.array_equal(learner.target.parameters, learner.network.parameters)
        assert not np.shares_memory(learner.target.parameters, learner.network.parameters)
    start = made.actor.target.parameters.copy()
    play(made, 1)
    expected = 0.75 * start + 0.25 * made.actor.network.parameters
    np.testing.assert_allclose(made.actor.target.parameters, expected, atol=1e-7)


def test_twin_critics_begin_apart_and_the_smaller_counts():
    made = agent("td3", target_policy_noise=0.0)
    x = normal(30, 4)
    q = made.critic.target.infer(x)
    assert abs(q[:, 0] - q[:, 1]).min() > 1e-4
    action = np.tanh(made.actor.target.infer(x[:, :2]))
    both = made.critic.target.infer(np.concatenate((x[:, :2], action), 1))
    np.testing.assert_allclose(made._next_value(x[:, :2], made._noise(30)), both.min(1), atol=1e-6)


def test_target_actions_have_noise_that_is_clipped_twice():
    made = agent("td3", target_policy_noise=0.2, target_noise_clip=0.3)
    made.actor.target.parameters[:] = 0
    noise = made._next_action(normal(5_000, 2), made._noise(5_000))
    assert abs(noise).max() == np.float32(0.3)
    assert np.mean(abs(noise) == np.float32(0.3)) == pytest.approx(0.1336, abs=0.015)  # 2 (1 - Phi(1.5))
    assert np.std(noise) == pytest.approx(0.1818, abs=0.005)  # of a normal of 0.2 cut at 1.5 deviations
    made.actor.target.parameters[-2:] = 50
    assert made._next_action(normal(500, 2), made._noise(500)).max() == 1


@pytest.mark.parametrize("gradient_steps", [2, -1])
@pytest.mark.parametrize(("envs", "train_freq"), [(3, 4), (5, 6), (4, 10), (8, 4), (1, 4)])
def test_as_many_gradient_steps_are_taken_as_are_told_whatever_the_number_of_environments(
    envs, train_freq, gradient_steps, monkeypatch
):
    """In 120 steps; 8 environments step twice as often as that, and have a block each time."""
    made, taken = agent(envs=envs, train_freq=train_freq, gradient_steps=gradient_steps), []
    monkeypatch.setattr(made, "_gradient_steps", lambda count: taken.append(count) or {})
    obs, no, one = np.zeros((envs, 2), np.float32), np.zeros(envs, bool), np.ones(envs, np.float32)
    for _ in range(120 // envs):
        made.observe(Transition(obs, made.act(obs), one, obs, no, no))
        made.update()
    assert len(taken) == 120 // max(envs, train_freq)
    assert sum(taken) == made._config.gradient_steps_of(120, envs) == (120 if gradient_steps == -1 else 2 * len(taken))


def test_blocks_of_gradient_steps_come_when_due():
    made = agent(train_freq=4, gradient_steps=-1, learning_starts=10)
    play(made, 8)
    assert made.critic.optimizer.state_dict()["step"] == 0
    play(made, 8)  # steps 9 to 16: blocks at 12 and 16; nothing at 4 and 8, before learning starts
    assert made.critic.optimizer.state_dict()["step"] == 8


@pytest.mark.parametrize("name", [*AGENTS, "sac", "tqc"])
def test_fused_and_autograd_networks_learn_the_same(name, monkeypatch):
    fused = play(agent(name), 60)
    monkeypatch.setattr("rltrain.continuous.build", module_network)
    module = play(agent(name), 60)
    obs = normal(20, 2)
    np.testing.assert_allclose(fused.values(obs), module.values(obs), atol=5e-5)
    np.testing.assert_allclose(fused.act(obs, explore=False), module.act(obs, explore=False), atol=5e-5)


def test_a_gradient_that_is_not_finite_stops_before_it_does_harm():
    made = play(agent(), 30)
    before = made.critic.network.parameters.copy()
    made.critic.target.parameters.fill(np.nan)
    with pytest.raises(Diverged, match=r"step 31: lower agent\.critic_learning_rate"):
        play(made, 1)
    assert np.array_equal(made.critic.network.parameters, before)


def test_actor_and_critic_have_learning_rates_of_their_own():
    made = agent(learning_rate=0.0, critic_learning_rate=0.01)
    before = made.actor.network.parameters.copy(), made.critic.network.parameters.copy()
    play(made, 5)
    assert np.array_equal(made.actor.network.parameters, before[0])
    assert not np.array_equal(made.critic.network.parameters, before[1])


def test_every_metric_is_a_number_of_the_latest_batch():
    from rltrain.callbacks import number

    made = play(agent("td3"), 20)
    made.observe(Transition(np.zeros((1, 2), np.float32), np.array([[1, 3]], np.float32), np.ones(1, np.float32), np.zeros((1, 2), np.float32), NO, NO))  # fmt: skip
    told = {name: number(value) for name, value in made.update().items()}
    assert set(told) == {f"train/{name}" for name in ("critic_loss", "actor_loss", "q_value", "td_error", "learning_rate")} | {"exploration/sigma"}  # fmt: skip
    assert np.isfinite(list(told.values())).all()
    obs = np.zeros((1, 2), np.float32)  # all it ever saw
    assert told["train/actor_loss"] == pytest.approx(-made.values(obs)[0], abs=1e-5)


def test_an_episode_that_could_not_be_repeated_begins_anew_for_noise_and_returns():
    made = agent(exploration="ou_noise", n_step=3, learning_starts=400, envs=2, noise={"sigma": 1.0, "dt": 1.0})
    obs, no = np.zeros((2, 2), np.float32), np.zeros(2, bool)
    for _ in range(2):
        made.observe(Transition(obs, made.act(obs), np.ones(2, np.float32), obs, no, no))
    made.abandon(1)
    waiting = [len(window["reward"]) for window in made.state_dict()["replay"]["windows"]]
    assert waiting == [2, 0]
    assert made.state_dict()["first"].tolist() == [False, True]


def test_an_episode_begins_after_an_end_of_either_kind():
    made, obs, no = agent(envs=3, learning_starts=400), np.zeros((3, 2), np.float32), np.zeros(3, bool)
    ends = np.array([True, False, False]), np.array([False, True, False])
    for cut, begins in ((ends, [True, True, False]), ((no, no), [False] * 3)):
        made.observe(Transition(obs, made.act(obs), np.ones(3, np.float32), obs, *cut))
        assert made.state_dict()["first"].tolist() == begins
