"""Losses of agents that learn the distribution of the return: pure functions of arrays, NumPy's or torch's.

Legend: B batch, A actions, Z atoms of a categorical distribution, T quantiles, J quantiles of the target. Beside a loss
stands its gradient in closed form; a test holds it to autograd.
"""

from __future__ import annotations

import numpy as np

from rltrain.core import Array
from rltrain.nn.arrays import Tensor, add_at, log_softmax, namespace
from rltrain.nn.losses import rows


def project(
    reward: Tensor, discount: Tensor, probability: Tensor, support: Tensor, v_min: float, v_max: float
) -> Tensor:
    """The distribution of r + discount * X (B, Z) on the support that it has to be on.

    X has `probability` (B, Z) at `support` (Z,), which goes from v_min to v_max in equal steps. What falls between two
    atoms is shared by them so that the mean is kept; what falls beyond an end goes to it.
    Source: Bellemare, Dabney and Munos 2017, equation 7 and algorithm 1, https://arxiv.org/abs/1707.06887
    """
    xp, (batch, atoms) = namespace(probability), probability.shape
    place = (reward[:, None] + discount[:, None] * support - v_min) * ((atoms - 1) / (v_max - v_min))
    place = place.clip(0, atoms - 1)  # 0 is the first atom, Z - 1 the last
    below = xp.floor(place).clip(0, atoms - 2)
    above = (place - below) * probability  # the share of the next atom
    index = (xp.asarray(below, dtype=xp.int64) + atoms * rows(probability)[:, None]).reshape(-1)
    size = batch * atoms
    total = add_at(index, (probability - above).reshape(-1), size) + add_at(index + 1, above.reshape(-1), size)
    return total.reshape(batch, atoms)


def categorical_loss(logits: Tensor, action: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """Mean over the batch of weight * KL(target, softmax(logits at the action)), a scalar.

    `logits` (B, A, Z), `action` (B,), `target` (B, Z) probabilities, `weight` (B,).
    KL(m, p) = sum_z m_z log(m_z / p_z).
    Source: Bellemare, Dabney and Munos 2017, section 4, https://arxiv.org/abs/1707.06887
    """
    return (weight * _divergence(log_softmax(logits[rows(logits), action]), target)).mean()


def categorical_gradient(logits: Tensor, action: Tensor, target: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Gradient of `categorical_loss` at the logits (B, A, Z), and KL(target, softmax) of every row (B,).

    dL/d logits(a) = weight / B * (softmax - target) at the action taken, else 0.
    """
    xp, row = namespace(logits), rows(logits)
    log_p = log_softmax(logits[row, action])
    grad = xp.zeros_like(logits)
    grad[row, action] = (xp.exp(log_p) - target) * (weight * (1 / len(logits)))[:, None]
    return grad, _divergence(log_p, target)


def _divergence(log_p: Tensor, target: Tensor) -> Tensor:
    log_target = namespace(target).log(target.clip(1e-30, None))  # 0 log 0 is 0
    return (target * (log_target - log_p)).sum(1)


def midpoints(count: int) -> Array:
    """The fractions (T,) of quantiles of equal probability: the middles of T equal parts of 0 to 1, float32."""
    return ((np.arange(count) + 0.5) / count).astype(np.float32)


def quantile_loss(quantiles: Tensor, action: Tensor, target: Tensor, weight: Tensor, fractions: Tensor) -> Tensor:
    """Mean over the batch of weight * sum_i mean_j |tau_i - [u_ij < 0]| h(u_ij), a scalar; u_ij = y_j - theta_i.

    h is the Huber function (x^2/2 for |x| <= 1, else |x| - 1/2). `quantiles` theta (B, A, T) at the `fractions` tau
    (1, T) or (B, T), `action` (B,), `target` y (B, J), `weight` (B,).
    Source: Dabney et al. 2018, equation 10 and algorithm 1, https://arxiv.org/abs/1710.10044
    """
    u = target[:, None, :] - quantiles[rows(quantiles), action][:, :, None]  # (B, T, J)
    absolute = abs(u)
    huber = namespace(u).where(absolute <= 1, 0.5 * u**2, absolute - 0.5)
    return (weight * (abs(fractions[:, :, None] - 1.0 * (u < 0)) * huber).mean(2).sum(1)).mean()


def quantile_gradient(
    quantiles: Tensor, action: Tensor, target: Tensor, weight: Tensor, fractions: Tensor
) -> tuple[Tensor, Tensor]:
    """Gradient of `quantile_loss` at the quantiles (B, A, T), and mean_j y_j - mean_i theta_i (B,).

    With c = clip(u, -1, 1) the slope is -weight / B * mean_j (tau_i max(c, 0) + (1 - tau_i) min(c, 0)) at the
    action taken, else 0. Of c and max(c, 0) only the sums over j are needed, since min(c, 0) = c - max(c, 0).
    """
    row, count = rows(quantiles), target.shape[1]
    chosen = quantiles[row, action]
    c = (target[:, None, :] - chosen[:, :, None]).clip(-1, 1)  # (B, T, J)
    both, up = c.sum(2), c.clip(0, None).sum(2)
    slope = fractions * up + (1 - fractions) * (both - up)
    grad = namespace(quantiles).zeros_like(quantiles)
    grad[row, action] = slope * (weight * (-1 / (len(quantiles) * count)))[:, None]
    return grad, target.mean(1) - chosen.mean(1)
