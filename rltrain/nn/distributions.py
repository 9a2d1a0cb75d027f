"""Distributions over actions, as functions of a network's outputs. NumPy's arrays and torch's tensors alike.

Legend: B batch, N environments, O outputs of the network, D dimensions of a
continuous action, K choices at once, C numbers of a choice (D or K).

`evaluate` gives log-probability and entropy, and `pull`, which turns their gradients into the gradient at the outputs:
with l = log p(a) and H the entropy, dL/d(output) = dL/dl * dl/d(output) + dL/dH * dH/d(output). Every agent that
follows a policy gradient needs no more than that. A test holds the closed forms to autograd.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import gymnasium as gym
import numpy as np

from rltrain.core import Array
from rltrain.encoding import alternatives, in_words
from rltrain.nn.arrays import Tensor, log_softmax, namespace

LOG_2PI = math.log(2 * math.pi)
LEAST_VARIANCE = 1e-6
"""Added to a variance that depends on the state: there may be one whose features are all 0."""


class Evaluated(NamedTuple):
    """What a distribution says of actions."""

    log_prob: Tensor  # (B,)
    entropy: Tensor  # (B,)
    pull: Callable[[Tensor, float], Tensor]
    """(dL/d log_prob (B,), dL/d entropy, the same for every row) -> dL/d outputs (B, O)"""


class Distribution(Protocol):
    """A family of distributions over one action space.

    A *choice* is what is drawn and remembered; an action is what the environment gets.
    """

    outputs: int
    """Numbers that it takes from the network, free ones included."""
    free: Array | None
    """Initial values of those that are the same for every observation, at the end; None where there are none."""
    features: int
    """How many of them are units of the last hidden layer, between the rest and the free ones."""
    choice_size: int
    """Numbers of a choice."""
    choice_dtype: Any

    def sample(self, outputs: Array, rng: np.random.Generator) -> Array:
        """Draw choices (N, C)."""

    def mode(self, outputs: Array) -> Array:
        """The most probable choices (N, C)."""

    def action(self, choice: Array) -> Array:
        """What the environment gets (N, *action_shape)."""

    def evaluate(self, outputs: Tensor, choice: Tensor) -> Evaluated:
        """Log-probability and entropy of choices (B, C)."""


class Categorical:
    """One choice among several, or K independent ones: Discrete, MultiDiscrete and MultiBinary.

    p(a = i) = exp(o_i) / sum_j exp(o_j) for each block of outputs.
    d log p(a) / d o_i = [i = a] - p_i;   dH / d o_i = -p_i (log p_i + H).
    """

    free: Array | None = None
    features = 0
    choice_dtype: Any = np.int64

    def __init__(self, space: gym.Space[Any]) -> None:
        self._shape = tuple(space.shape or ())
        parts = alternatives(space)
        assert parts is not None
        counts, starts = parts
        self._starts, self._dtype = starts.astype(np.int64), space.dtype
        ends = np.cumsum(counts).tolist()
        self.outputs = ends[-1]
        self.choice_size = len(ends)
        self._blocks = [slice(end - int(count), end) for count, end in zip(counts, ends, strict=True)]

    def sample(self, outputs: Array, rng: np.random.Generator) -> Array:
        """argmax_i (o_i - log E_i) with exponential E_i has the probabilities of the softmax (Gumbel's trick)."""
        noise = rng.standard_exponential(outputs.shape, np.float32)
        return self.mode(outputs - np.log(np.maximum(noise, 1e-30)))

    def mode(self, outputs: Array) -> Array:
        """The greatest output of every block."""
        if len(self._blocks) == 1:
            return np.asarray(outputs.argmax(1)[:, None])
        return np.stack([outputs[:, block].argmax(1) for block in self._blocks], 1)

    def action(self, choice: Array) -> Array:
        """The choices in the shape of the space, counted from where it begins."""
        return np.asarray((choice + self._starts).reshape(len(choice), *self._shape), self._dtype)

    def evaluate(self, outputs: Tensor, choice: Tensor) -> Evaluated:
        """Log-probability and entropy of choices (B, K)."""
        xp = namespace(outputs)
        row = xp.arange(len(outputs), device=outputs.device)
        logs = [log_softmax(outputs[:, block]) for block in self._blocks]
        ps = [xp.exp(log) for log in logs]
        entropies = [-(p * log).sum(1) for p, log in zip(ps, logs, strict=True)]

        def pull(d_log_prob: Tensor, d_entropy: float) -> Tensor:
            grads = []
            for k, (p, log, entropy) in enumerate(zip(ps, logs, entropies, strict=True)):
                grad = -p * d_log_prob[:, None]
                grad[row, choice[:, k]] += d_log_prob
                if d_entropy != 0:
                    grad -= d_entropy * p * (log + entropy[:, None])
                grads.append(grad)
            return grads[0] if len(grads) == 1 else xp.concatenate(grads, 1)

        log_prob = sum(log[row, choice[:, k]] for k, log in enumerate(logs))
        return Evaluated(log_prob, sum(entropies), pull)


class Gaussian:
    """Independent normal distributions: u_i ~ N(mean_i, std_i^2), D of each among the outputs: means, log stds.

    log p(u) = sum_i [-(u_i - mean_i)^2 / (2 std_i^2) - log std_i - log(2 pi) / 2];   H = sum_i [log std_i + (1 +
    log(2 pi)) / 2]. With z = (u - mean) / std: d log p / d mean = z / std, d log p / d log std = z^2 - 1.

    Without squashing the action is u, cut to the box only for the environment. With squashing it is tanh(u) stretched
    to the box, and log p(a) = log p(u) - sum_i log[(1 - tanh^2 u_i) (high_i - low_i) / 2]; the entropy stays that of
    u, since that of a has no closed form. Source: Haarnoja et al. 2018, appendix C. https://arxiv.org/abs/1801.01290
    """

    choice_dtype: Any = np.float32
    features = 0

    def __init__(self, space: gym.spaces.Box, *, log_std: float, by_state: bool, squash: bool) -> None:
        self._space, self._squash = space, squash
        self._low, self._high = space.low.reshape(-1), space.high.reshape(-1)
        size = len(self._low)
        self._size, self._offset = size, log_std if by_state else 0.0
        self.outputs = 2 * size
        self.free = None if by_state else np.full(size, log_std, np.float32)
        self.choice_size = size

    def sample(self, outputs: Array, rng: np.random.Generator) -> Array:
        """u = mean + std * noise."""
        mean, log_std = self.parts(outputs)
        return np.asarray(mean + np.exp(log_std) * rng.standard_normal(mean.shape, np.float32))

    def mode(self, outputs: Array) -> Array:
        """The means; squashed, this is the median."""
        return outputs[:, : self._size].copy()

    def action(self, choice: Array) -> Array:
        """The choice, cut or squashed to the box."""
        if self._squash:
            choice = self._low + (np.tanh(choice) + 1) / 2 * (self._high - self._low)
        action = np.clip(choice, self._low, self._high)
        return action.reshape(len(choice), *self._space.shape).astype(self._space.dtype, copy=False)

    def parts(self, outputs: Tensor) -> tuple[Tensor, Tensor]:
        """Means and logarithms of standard deviations, (B, D) each."""
        return outputs[:, : self._size], outputs[:, self._size :] + self._offset

    def to_outputs(self, outputs: Tensor, d_mean: Tensor, d_log_std: Tensor) -> Tensor:
        """Gradient at the outputs (B, O) from those at means and logarithms of standard deviations (B, D)."""
        return namespace(outputs).concatenate((d_mean, d_log_std), 1)

    def evaluate(self, outputs: Tensor, choice: Tensor) -> Evaluated:
        """Log-probability and entropy of choices (B, D)."""
        xp = namespace(outputs)
        mean, log_std = self.parts(outputs)
        inverse = xp.exp(-log_std)
        z = (choice - mean) * inverse

        def pull(d_log_prob: Tensor, d_entropy: float) -> Tensor:
            d = d_log_prob[:, None]
            return self.to_outputs(outputs, d * z * inverse, d * (z * z - 1) + d_entropy)

        return Evaluated(self.log_prob(z, log_std, choice), log_std.sum(1) + 0.5 * self._size * (1 + LOG_2PI), pull)

    def log_prob(self, z: Tensor, log_std: Tensor, u: Tensor) -> Tensor:
        """Log-probability (B,) of the actions of u = mean + std * z, (B, D) each."""
        log_prob = -0.5 * (z * z).sum(1) - log_std.sum(1) - 0.5 * self._size * LOG_2PI
        return log_prob - self._log_stretch(u) if self._squash else log_prob

    def _log_stretch(self, u: Tensor) -> Tensor:
        """Log of the volume da/du (B,): log(1 - tanh^2 u) = 2 (log 2 - u - log(1 + exp(-2u))), safe for great |u|."""
        xp = namespace(u)
        size = abs(u)
        slope = 2 * (math.log(2) - size - xp.log1p(xp.exp(-2 * size)))
        return slope.sum(1) + float(np.log((self._high - self._low) / 2).sum())


class StateDependentGaussian(Gaussian):
    """Normal distributions whose noise is linear in F features h of the state: u = mean + h E, E_ij ~ N(0, sigma_ij^2).

    With E held for a while the same state gets the same noise (gSDE); over draws of E it is std_j^2 = sum_i h_i^2
    sigma_ij^2. Outputs: means (D), features (F), and the free log sigma (F * D). d log std_j / d log sigma_ij = h_i^2
    sigma_ij^2 / std_j^2. No gradient reaches the features through the noise: they are learnt for the mean alone.
    Source: Raffin, Kober and Stulp 2022, section 3, https://arxiv.org/abs/2005.05719
    """

    def __init__(self, space: gym.spaces.Box, *, log_std: float, features: int, squash: bool) -> None:
        super().__init__(space, log_std=log_std, by_state=False, squash=squash)
        self.features = features
        self.outputs = self._size + features + features * self._size
        self.free = np.full(features * self._size, log_std, np.float32)

    def draw(self, outputs: Array, rng: np.random.Generator) -> Array:
        """A matrix E for every row (N, F, D)."""
        sigma = np.exp(self._split(outputs)[1])
        return np.asarray(sigma * rng.standard_normal(sigma.shape, np.float32))

    def held(self, outputs: Array, noise: Array) -> Array:
        """u = mean + h E (N, D) for matrices E (N, F, D)."""
        return np.asarray(self.mode(outputs) + (self._split(outputs)[0][:, None] @ noise)[:, 0])

    def sample(self, outputs: Array, rng: np.random.Generator) -> Array:
        """Choices (N, D) by matrices of their own."""
        return self.held(outputs, self.draw(outputs, rng))

    def _split(self, outputs: Tensor) -> tuple[Tensor, Tensor]:
        """Features (B, F) and log sigma (B, F, D)."""
        size, count = self._size, self.features
        return outputs[:, size : size + count], outputs[:, size + count :].reshape(-1, count, size)

    def _variances(self, outputs: Tensor) -> Tensor:
        """h_i^2 sigma_ij^2 (B, F, D)."""
        features, log_sigma = self._split(outputs)
        return (features * features)[:, :, None] * namespace(outputs).exp(2 * log_sigma)

    def parts(self, outputs: Tensor) -> tuple[Tensor, Tensor]:
        """Means and logarithms of standard deviations, (B, D) each."""
        variance = self._variances(outputs).sum(1) + LEAST_VARIANCE
        return outputs[:, : self._size], 0.5 * namespace(outputs).log(variance)

    def to_outputs(self, outputs: Tensor, d_mean: Tensor, d_log_std: Tensor) -> Tensor:
        """Gradient at the outputs (B, O) from those at means and logarithms of standard deviations (B, D)."""
        xp, variances = namespace(outputs), self._variances(outputs)
        shares = variances / (variances.sum(1) + LEAST_VARIANCE)[:, None]
        d_log_sigma = (shares * d_log_std[:, None]).reshape(len(outputs), -1)
        return xp.concatenate((d_mean, xp.zeros_like(self._split(outputs)[0]), d_log_sigma), 1)


def action_problem(space: gym.Space[Any], *, squash: bool) -> str | None:
    """Why there is no distribution over this action space, or None."""
    if isinstance(space, gym.spaces.Discrete | gym.spaces.MultiDiscrete | gym.spaces.MultiBinary):
        return "squash is for continuous actions: leave it out" if squash else None
    if not isinstance(space, gym.spaces.Box) or not np.issubdtype(space.dtype, np.floating):
        return (
            f"there is no policy over actions {in_words(space)}: Discrete, MultiDiscrete, MultiBinary or Box of floats"
        )
    if squash and not space.is_bounded():
        return f"squash needs a bounded box of actions, not {in_words(space)}"
    if squash and not (space.low < space.high).all():
        return f"squash needs low below high in every dimension, not {in_words(space)}"
    return None


def distribution(space: gym.Space[Any], *, log_std: float, by_state: bool, squash: bool) -> Distribution:
    """The family of distributions over an action space."""
    if isinstance(space, gym.spaces.Box):
        return Gaussian(space, log_std=log_std, by_state=by_state, squash=squash)
    return Categorical(space)
