"""Losses of policy-gradient agents: pure functions of arrays, NumPy's or torch's.

Legend: B batch, H values of a state; all arguments (B,), those of the values' loss (B, H). Beside each loss stands its
gradient with respect to its first argument in closed form; a test holds it to autograd. Advantages and targets are
numbers: no gradient flows into them.
"""

from __future__ import annotations

from rltrain.nn.arrays import Tensor, namespace


def policy_gradient_loss(log_prob: Tensor, advantage: Tensor) -> Tensor:
    """-mean(log pi(a|s) A). Source: Williams 1992; Sutton and Barto 2018, section 13.3."""
    return -(log_prob * advantage).mean()


def policy_gradient(log_prob: Tensor, advantage: Tensor) -> Tensor:
    """d/d log_prob: -A / B."""
    return advantage * (-1 / len(log_prob))


def clipped_surrogate_loss(log_prob: Tensor, old_log_prob: Tensor, advantage: Tensor, clip: Tensor) -> Tensor:
    """-mean(min(rho A, clip(rho, 1 - c, 1 + c) A)) with rho = pi(a|s) / pi_old(a|s).

    Source: Schulman et al. 2017, equation 7. https://arxiv.org/abs/1707.06347
    """
    xp = namespace(log_prob)
    ratio = xp.exp(log_prob - old_log_prob)
    return -xp.minimum(ratio * advantage, ratio.clip(1 - clip, 1 + clip) * advantage).mean()


def clipped_surrogate_gradient(log_prob: Tensor, old_log_prob: Tensor, advantage: Tensor, clip: Tensor) -> Tensor:
    """d/d log_prob: -rho A / B, but 0 where rho has left the range in the direction that A asks for."""
    xp = namespace(log_prob)
    ratio = xp.exp(log_prob - old_log_prob)
    inside = xp.where(advantage > 0, ratio <= 1 + clip, ratio >= 1 - clip)
    moves = xp.where(inside, ratio * advantage, 0.0)  # not a product: the ratio may be infinite
    return moves * (-1 / len(ratio))


def value_loss(value: Tensor, target: Tensor, old_value: Tensor, clip: Tensor | None) -> Tensor:
    """mean((V - y)^2); with a clip range c, mean(max((V - y)^2, (V_old + clip(V - V_old, -c, c) - y)^2)).

    Of several values of a state, the sum of their losses.
    Source of the clipped form: the authors' implementation of Schulman et al. 2017.
    """
    if clip is None:
        return ((value - target) ** 2).sum() / len(value)
    cut = old_value + (value - old_value).clip(-clip, clip)
    return namespace(value).maximum((value - target) ** 2, (cut - target) ** 2).sum() / len(value)


def value_gradient(value: Tensor, target: Tensor, old_value: Tensor, clip: Tensor | None) -> Tensor:
    """d/dV: 2 (V - y) / B; with a clip range 0 where the clipped error is the greater and V is out of the range."""
    error = value - target
    if clip is None:
        return error * (2 / len(value))
    change = value - old_value
    cut = old_value + change.clip(-clip, clip) - target
    free = (error**2 >= cut**2) | (abs(change) <= clip)
    return error * free * (2 / len(value))


def normalized(advantage: Tensor, among: Tensor | None = None) -> Tensor:
    """(A - mean) / (std + 1e-8), and A itself where there is only one.

    Mean and standard deviation are those of `among` (M,), of which `advantage` may be a part; by default its own.
    """
    among = advantage if among is None else among
    if len(among) < 2:
        return advantage
    xp = namespace(advantage)
    mean = among.mean()
    centred = among - mean
    std = xp.sqrt((centred * centred).sum() / (len(among) - 1))
    return (centred if among is advantage else advantage - mean) / (std + 1e-8)
