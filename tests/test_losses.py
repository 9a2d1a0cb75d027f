"""Losses against hand-worked numbers, and their closed-form gradients against autograd."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rltrain.nn import losses


def test_target_is_reward_plus_discounted_value_and_only_the_reward_where_the_task_ended():
    target = losses.td_target(torch.tensor([1.0, 1.0]), torch.tensor([0.9, 0.0]), torch.tensor([10.0, 10.0]))
    assert target.tolist() == [10.0, 1.0]  # 1 + 0.9 * 10, and 1


def test_double_value_takes_the_action_of_one_network_and_the_value_of_the_other():
    online = torch.tensor([[1.0, 3.0, 2.0]])  # prefers action 1
    target = torch.tensor([[9.0, 4.0, 5.0]])  # would prefer action 0
    assert losses.greedy_value(online, target).tolist() == [4.0]
    assert losses.greedy_value(target, target).tolist() == [9.0]


@pytest.mark.parametrize(
    ("kind", "expected"),
    # errors Q - y: 0.5 and -3, weights 1 and 2
    [("huber", (0.125 + 2 * 2.5) / 2), ("mse", (0.125 + 2 * 4.5) / 2)],
)
def test_loss_by_hand(kind, expected):
    q = torch.tensor([[1.5, 7.0], [0.0, -2.0]])
    action, target, weight = torch.tensor([0, 1]), torch.tensor([1.0, 1.0]), torch.tensor([1.0, 2.0])
    assert losses.q_learning_loss(q, action, target, weight, kind).item() == pytest.approx(expected)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 12), st.integers(1, 5), st.sampled_from(["huber", "mse"]))
def test_closed_form_gradient_is_autograds(seed, batch, actions, kind):
    generator = torch.Generator().manual_seed(seed)
    q = 3 * torch.randn(batch, actions, generator=generator, dtype=torch.float64)
    target = 3 * torch.randn(batch, generator=generator, dtype=torch.float64)
    weight = torch.rand(batch, generator=generator, dtype=torch.float64)
    action = torch.randint(actions, (batch,), generator=generator)
    q.requires_grad_()
    losses.q_learning_loss(q, action, target, weight, kind).backward()
    grad, error = losses.q_learning_gradient(q.detach(), action, target, weight, kind)
    torch.testing.assert_close(grad, q.grad, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(error, target - q.detach().gather(1, action[:, None])[:, 0])
