"""Truncated quantile critics: targets and gradients by hand and against autograd."""

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from test_off_policy import agent, normal

from rltrain.agents.tqc import TQCSettings
from rltrain.continuous import EncodedBatch
from rltrain.nn import distributional
from rltrain.nn.squashed import draw


def test_a_target_leaves_the_highest_quantiles_of_all_critics_together_out(monkeypatch):
    """Quantiles 1 9 4 and 2 8 7, one of each left out, so 1 2 4 7 stay; r 2, alpha 0.5, discounts 0.5 and 0."""
    made = agent("tqc", ent_coef=0.5, n_quantiles=3, top_quantiles_to_drop=1)
    quantiles = np.array([[1, 9, 4, 2, 8, 7]] * 2, np.float32)
    monkeypatch.setattr(made.critic.target, "evaluate", lambda x: quantiles)
    two, next_obs, noise = np.full(2, 2, np.float32), normal(2, 2), normal(2, 2, seed=1)
    log_prob = draw(made.policy, made.actor.network.infer(next_obs), noise).log_prob
    batch = EncodedBatch(next_obs, noise, two, np.array([0.5, 0], np.float32), two, next_obs, made._noise(2))
    y = made._target(batch, noise, np.float32([0.5]))
    np.testing.assert_allclose(y[0], 2 + 0.5 * (np.array([1, 2, 4, 7]) - 0.5 * log_prob[0]), rtol=1e-6)
    assert y[1].tolist() == [2, 2, 2, 2]


def test_the_gradient_at_a_quantile_by_hand():
    """One critic, quantiles 0 and 0 at 1/4 and 3/4, one target 0.5: slopes -tau * 0.5; with target -2 (1 - tau) * 1."""
    made = agent("tqc", n_critics=1, n_quantiles=2, top_quantiles_to_drop=0)
    q, one = np.zeros((1, 2), np.float32), np.ones(1, np.float32)
    assert made._critic_gradient(q, np.array([[0.5]], np.float32), one)[0].tolist() == [[-0.125, -0.375]]
    assert made._critic_gradient(q, np.array([[-2.0]], np.float32), one)[0].tolist() == [[0.75, 0.25]]


@pytest.mark.parametrize("seed", range(5))
def test_the_critics_gradient_is_that_of_the_sum_of_their_losses_by_autograd(seed):
    made = agent("tqc", n_critics=2, n_quantiles=3)
    q, target, weight = normal(8, 6, seed=seed), 2 * normal(8, 4, seed=seed + 9), abs(normal(8, seed=2))
    x = torch.from_numpy(q).requires_grad_()
    fractions, first = torch.from_numpy(made._fractions[:, :3]), torch.zeros(8, dtype=torch.int64)
    both = [
        distributional.quantile_loss(
            part[:, None], first, torch.from_numpy(target), torch.from_numpy(weight), fractions
        )
        for part in (x[:, :3], x[:, 3:])
    ]
    sum(both).backward()
    np.testing.assert_allclose(made._critic_gradient(q, target, weight)[0], x.grad, atol=1e-6)


def test_the_actor_follows_the_mean_of_all_quantiles_which_is_what_an_action_is_worth():
    made, obs, q = agent("tqc", n_quantiles=3), normal(5, 2), torch.from_numpy(normal(5, 6)).requires_grad_()
    (-q.mean(1).mean()).backward()
    np.testing.assert_allclose(made._value_gradient(q.detach())[0], q.grad)
    action = np.tanh(made.policy.mode(made.actor.network.infer(obs)))
    quantiles = made.critic.network.infer(np.concatenate((obs, action), 1))  # (5, K M)
    np.testing.assert_allclose(made.values(obs), quantiles.mean(1), rtol=1e-5)


def test_a_target_of_nothing_is_refused():
    with pytest.raises(ValidationError, match="leaves none"):
        TQCSettings(n_quantiles=2, top_quantiles_to_drop=2)
