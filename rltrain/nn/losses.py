"""Losses of value-based agents: pure functions of arrays, NumPy's or torch's, in the papers' order.

Legend: B batch, A actions, Z numbers that describe the return of an action where it has a distribution
(`distributional.py`). Beside the loss stands its gradient with respect to the action values in
closed form; a test holds it to autograd.
"""

from __future__ import annotations

from typing import Literal

from rltrain.nn.arrays import Tensor, log_softmax, namespace

LossKind = Literal["huber", "mse"]


def td_target(reward: Tensor, discount: Tensor, next_value: Tensor) -> Tensor:
    """y = r + discount * V(s'), all (B,). `discount` is 0 where the task ended.

    Source: Sutton and Barto 2018, equation 6.1 ff.
    """
    return reward + discount * next_value


def greedy_value(q: Tensor, next_values: Tensor) -> Tensor:
    """V(s') = next_values(s', argmax_a q(s', a)): (B, A), and (B, A) or (B, A, Z) -> (B,) or (B, Z).

    Both are the target network's (Mnih et al. 2015, algorithm 1), or `q` is the network's: double Q-learning
    (van Hasselt et al. 2016, equation 4, https://arxiv.org/abs/1509.06461).
    """
    return next_values[rows(next_values), q.argmax(1)]


def munchausen_term(q: Tensor, action: Tensor, temperature: float, floor: float) -> Tensor:
    """max(t log pi(a|s), floor) (B,) with pi = softmax(q / t), t the temperature: `q` (B, A), `action` (B,).

    Source: Vieillard, Pietquin and Geist 2020, equation 2 and section 3.1, https://arxiv.org/abs/2007.14430
    """
    return (temperature * log_softmax(q / temperature)[rows(q), action]).clip(floor, None)


def soft_value(q: Tensor, next_values: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """sum_a pi(a) next_values(s', a), (B,) or (B, Z), and t times the entropy of pi = softmax(q / t), (B,).

    Both together are sum_a pi(a) (Q(s', a) - t log pi(a)), what comes after in Munchausen's target.
    Source: Vieillard, Pietquin and Geist 2020, equation 2, https://arxiv.org/abs/2007.14430
    """
    log_policy = log_softmax(q / temperature)
    policy = namespace(q).exp(log_policy)
    share = policy if next_values.ndim == 2 else policy[:, :, None]
    return (share * next_values).sum(1), -temperature * (policy * log_policy).sum(1)


def critic_loss(q: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """Mean over the batch of weight * sum_k (Q_k(s, a) - y)^2 / 2, a scalar: `q` (B, K) of K critics, the rest (B,)."""
    return (weight * (0.5 * (q - target[:, None]) ** 2).sum(1)).mean()


def critic_gradient(q: Tensor, target: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Gradient of `critic_loss` with respect to q (B, K), weight (Q_k - y) / B, and the TD errors y - Q_k (B, K)."""
    error = target[:, None] - q
    return error * weight[:, None] * (-1 / len(q)), error


def mean_value_gradient(q: Tensor) -> tuple[Tensor, None]:
    """Gradient of -mean Q with respect to q (B, O), over rows and outputs: -1 / (B O)."""
    return namespace(q).full_like(q, -1 / (q.shape[0] * q.shape[1])), None


def least_value_gradient(q: Tensor) -> tuple[Tensor, None]:
    """Gradient of -mean min_k Q_k with respect to q (B, K): -1 / B for the least critic of a row, 0 for the others."""
    xp = namespace(q)
    least = q.argmin(1)[:, None] == xp.arange(q.shape[1], device=q.device)  # (B, K)
    return xp.where(least, xp.full_like(q, -1 / len(q)), xp.zeros_like(q)), None


def temperature_gradient(log_prob: Tensor, target_entropy: float) -> Tensor:
    """Gradient of -log alpha * mean(log pi + target entropy) with respect to log alpha (1,); `log_prob` is (B,).

    Positive where the policy's entropy is above the target. Source: Haarnoja et al. 2018b, equation 18, on the
    logarithm as in the authors' implementation. https://arxiv.org/abs/1812.05905
    """
    return -(log_prob.mean() + target_entropy).reshape(1)


def rows(x: Tensor) -> Tensor:
    """0, 1, ... B - 1, where `x` (B, ...) is."""
    return namespace(x).arange(len(x), device=x.device)


def q_learning_loss(q: Tensor, action: Tensor, target: Tensor, weight: Tensor, kind: LossKind) -> Tensor:
    """Mean over the batch of weight * l(Q(s, a) - y), a scalar.

    l is the Huber function (x^2/2 for |x| <= 1, else |x| - 1/2) or x^2 / 2.
    `q` (B, A), `action` (B,) int64, `target` and `weight` (B,).
    """
    error = q[rows(q), action] - target
    absolute = abs(error)
    huber = namespace(q).where(absolute <= 1, 0.5 * error**2, absolute - 0.5)
    return (weight * (huber if kind == "huber" else 0.5 * error**2)).mean()


def q_learning_gradient(
    q: Tensor, action: Tensor, target: Tensor, weight: Tensor, kind: LossKind
) -> tuple[Tensor, Tensor]:
    """Gradient of `q_learning_loss` with respect to q (B, A), and the TD errors y - Q(s, a) (B,).

    dL/dQ(s, a) = weight / B * clip(Q(s, a) - y, -1, 1) at the action taken (unclipped for mse), else 0.
    """
    row = rows(q)
    error = target - q[row, action]
    slope = error.clip(-1, 1) if kind == "huber" else error
    grad = namespace(q).zeros_like(q)
    grad[row, action] = slope * weight * (-1 / len(q))
    return grad, error
