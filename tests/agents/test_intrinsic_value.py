"""A value of bonuses apart from that of rewards: what it learns, what the policy makes of it, and when it is refused."""

import numpy as np
import pytest
import torch
from policies import agent, constant, either, outputs, play

from rltrain.config.load import from_dict, to_dict
from rltrain.experiment import build
from rltrain.fitting import problems
from rltrain.nn.modules import module_network
from rltrain.on_policy import explained_variance
from rltrain.rollout import IntrinsicSettings

APART = ["actor_critic", "a2c", "ppo"]


def apart(name, *, more=(), **settings):
    """An agent with two values."""
    return agent(name, intrinsic=IntrinsicSettings(**settings), **dict(more))


def both_values(policy, obs=(1.0, 0.0)):
    """V_E and V_I."""
    return policy.network.infer(np.array([obs], np.float32), policy._value)[0]


@pytest.mark.parametrize(("episodic", "bonuses_worth"), [(False, 4.0), (True, 2.0)])
def test_each_head_learns_its_own_return(episodic, bonuses_worth):
    """Episodes of one step pay 3 and a bonus of 2. V_E = 3; V_I = 2 / (1 - 0.5) = 4 across their ends, 2 within one."""
    learnt = apart("a2c", gamma=0.5, episodic=episodic)
    play(learnt, 800, length=1, ends="terminated", reward=lambda *_: 3.0, bonus=lambda *_: 2.0)
    np.testing.assert_allclose(both_values(learnt), [3, bonuses_worth], atol=0.3)
    assert learnt.values(np.array([[1.0, 0.0]], np.float32)) == pytest.approx(both_values(learnt)[:1])


@pytest.mark.parametrize(("coef", "extrinsic_coef", "follows"), [(1.0, 0.2, 1), (0.2, 1.0, 0)])
@pytest.mark.parametrize("name", ["a2c", "ppo"])
def test_the_policy_follows_what_the_coefficients_weigh_more(name, coef, extrinsic_coef, follows):
    """Action 0 is rewarded, action 1 has a bonus of the same size."""
    learnt = apart(name, coef=coef, extrinsic_coef=extrinsic_coef, more={"envs": 4})
    pays = {"reward": lambda obs, action: float(action == 0), "bonus": lambda obs, action: float(action == 1)}
    play(learnt, 100, envs=4, length=1, ends="terminated", **pays)
    odds = outputs(learnt, (1.0, 0.0))
    assert odds[follows] - odds[1 - follows] > 0.5


def test_advantages_are_weighed_and_targets_are_not():
    """V_E = 3, V_I = 5 everywhere; an episode's only step pays 1 and a bonus of 2, episodic: A_E = -2, A_I = -3.

    A = 2 * -2 + 10 * -3 = -34; targets are what was paid.
    """
    learnt = apart("a2c", coef=10.0, extrinsic_coef=2.0, episodic=True, more={"hidden_sizes": (), "n_steps": 3})
    learnt.network.parameters[:6] = [0, 0, 0, 0, 3, 5]
    play(learnt, 2, length=1, ends="terminated", bonus=lambda *_: 2.0)
    learnt.act(constant(None, 1))
    learnt.update = lambda: None
    play(learnt, 1, length=1, ends="terminated", bonus=lambda *_: 2.0)
    batch = learnt._collected(0.9, 0.8)
    np.testing.assert_allclose(batch.advantage, [-34] * 3, rtol=1e-6)
    np.testing.assert_allclose(batch.target, [[1, 2]] * 3, rtol=1e-6)
    np.testing.assert_allclose(batch.old_value, [[3, 5]] * 3, rtol=1e-6)


def paid(policy, seed=0):
    """A rollout and its update."""
    draws = np.random.default_rng(seed)
    return play(policy, 8, envs=2, length=3, sees=either, ends="terminated", bonus=lambda *_: draws.random(), seed=seed)


@pytest.mark.parametrize("shared", [False, True], ids=["two networks", "shared"])
@pytest.mark.parametrize("name", APART)
def test_numpy_and_torch_learn_the_same(name, shared, monkeypatch):
    more = {"envs": 2, "shared_network": shared, **({"n_steps": 4, "batch_size": 8} if name == "ppo" else {})}
    fused = paid(apart(name, more=more))
    monkeypatch.setattr("rltrain.on_policy.build", module_network)
    through_torch = paid(apart(name, more=more))
    obs = np.array([[1.0, 1.0], [-1.0, 1.0]], np.float32)
    expected = fused.network.infer(obs)
    assert expected.shape == (2, 4)
    np.testing.assert_allclose(through_torch.network.infer(obs), expected, atol=2e-4)


@pytest.mark.parametrize("clip_range_vf", [None, 0.3])
def test_the_gradient_of_both_heads_is_that_of_the_written_loss(clip_range_vf):
    """-mean(log p A) where nothing has moved yet, vf_coef times the sum of both mean squares, in double precision."""
    learnt = apart("ppo", more={"vf_coef": 0.7, "normalize_advantage": False})
    draws = torch.Generator().manual_seed(3)
    told, target, old = (torch.randn(6, width, generator=draws, dtype=torch.float64) for width in (4, 2, 2))
    advantage, choice = torch.randn(6, generator=draws, dtype=torch.float64), torch.tensor([[0], [1], [1]] * 2)
    told.requires_grad_()
    log_prob = torch.log_softmax(told[:, 2:], 1).gather(1, choice)[:, 0]
    values = (told[:, :2] - target) ** 2
    if clip_range_vf is not None:
        cut = old + (told[:, :2] - old).clip(-clip_range_vf, clip_range_vf)
        values = torch.maximum(values, (cut - target) ** 2)
    (-(log_prob * advantage).mean() + 0.7 * values.mean(0).sum()).backward()
    found, _ = learnt._output_gradient(
        told.detach(), choice, advantage, target, log_prob.detach(), old, advantage, torch.tensor(0.2), clip_range_vf
    )
    torch.testing.assert_close(found, told.grad)


def run(name, bonuses, **own):
    return from_dict(
        {
            "env": {"id": "CartPole-v1", "num_envs": 2},
            "agent": {"name": name, **own},
            "bonuses": bonuses,
            "train": {"total_steps": 1_000},
            "device": "cpu",
        }
    ).config


SMALL = {"a2c": {}, "actor_critic": {}, "ppo": {"n_steps": 20, "batch_size": 10}}


@pytest.mark.parametrize("name", APART)
def test_without_a_bonus_it_is_refused(name):
    (problem,) = problems(run(name, [], intrinsic={}, **SMALL[name]))
    assert problem.path == "agent.intrinsic"
    assert "no bonus" in problem.message
    assert not problems(run(name, [{"name": "rnd"}], intrinsic={}, **SMALL[name]))


@pytest.mark.parametrize("name", APART)
def test_a_run_goes_on_exactly_in_the_middle_of_a_rollout(name):
    made = run(name, [{"name": "rnd", "batch_size": 8}], intrinsic={"gamma": 0.9}, **SMALL[name])
    assert to_dict(from_dict(to_dict(made)).config) == to_dict(made)
    first, second = build(made), build(made)
    first.loop.advance(150)
    assert first.agent.rollout.bonus.any()
    second.loop.advance(34)
    second.agent.load_state_dict(first.agent.state_dict())
    second.loop.load_state_dict(first.loop.state_dict())
    metrics = [experiment.loop.advance(150).metrics for experiment in (first, second)]
    assert np.array_equal(first.agent.network.parameters, second.agent.network.parameters)
    told = [found["train/value_loss"]() for found in metrics]
    assert told[0] == told[1] > 0


def test_the_summed_reward_is_what_the_only_value_learns():
    """Without the setting, 3 and a bonus of 2 are 5."""
    learnt = play(agent("a2c"), 800, length=1, ends="terminated", reward=lambda *_: 3.0, bonus=lambda *_: 2.0)
    np.testing.assert_allclose(both_values(learnt), [5], atol=0.3)


def test_every_head_tells_how_much_it_explains():
    """Errors of 0 and 1 about targets of 0 and 2; errors of 2 and 0 about targets of 2 and 0: 1 - 0.25 and 1 - 1."""
    told = explained_variance(np.array([[0.0, 0], [1, 0]]), np.array([[0.0, 2], [2, 0]]))
    expected = {"train/explained_variance": 0.75, "train/intrinsic_explained_variance": 0.0}
    assert {name: round(float(of()), 6) for name, of in told.items()} == expected
    assert list(explained_variance(np.zeros((2, 1)), np.ones((2, 1)))) == ["train/explained_variance"]
