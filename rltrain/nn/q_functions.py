"""Action values from a network: of one head or of an ensemble, with or without a dueling layer and random priors.

Legend: B batch, N environments, K heads, A actions, O outputs of one head. Values of a batch are rows (B * K, A), the
heads of an observation one after the other, so that a loss knows nothing of heads.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from rltrain.core import Array, Metrics, State
from rltrain.nn.arrays import Tensor, copy_into, move_towards
from rltrain.nn.networks import Activation, Network, blueprint, build, load_network_state, network_state
from rltrain.nn.noisy import NoisyNetwork
from rltrain.nn.torso import Torso

RowGradient = Callable[..., tuple[Tensor, Any]]
"""(q (B * K, A), *arguments) -> gradient of the loss at q (B * K, A), and whatever else is wanted."""


class QFunction:
    """Q_k(s, a) = f_k(s, a) + prior_scale * p_k(s, a): a network f_k that learns, and a random one that never does.

    Where nothing was learnt the heads differ by their priors, so an agent that follows one head for an episode goes
    where it may be right. With `dueling` the outputs of a head are [V, A_1 ... A_n] and Q = V + A - mean A.
    Sources: Osband et al. 2016, https://arxiv.org/abs/1602.04621; priors: Osband, Aslanides and Cassirer 2018,
    https://arxiv.org/abs/1806.03335; noisy weights: `noisy.py`; dueling: Wang et al. 2016, https://arxiv.org/abs/1511.06581.
    """

    def __init__(
        self,
        sizes: Sequence[int],
        activation: Activation,
        gradient: RowGradient,
        *,
        actions: int,
        dueling: bool,
        heads: int,
        prior_scale: float,
        noisy_std: float | None,
        rng: np.random.Generator,
        device: str,
        torso: Torso | None = None,
    ) -> None:
        """`sizes`: inputs and hidden layers. For images all heads share a `torso`, which makes these inputs."""
        self.heads, self._gradient, self._scale = heads, gradient, prior_scale
        self._dueling = dueling_layer(actions) if dueling else None
        shape = (*sizes, actions + dueling)
        plans = [blueprint(shape, activation, rng) for _ in range(heads)]
        self.network: Network = build(plans, device, torso=torso, rng=rng)
        self._noisy: NoisyNetwork | None = None
        if noisy_std is not None:
            self.network = self._noisy = NoisyNetwork(self.network, plans, noisy_std)
        self.prior: Network | None = None
        if prior_scale:
            priors = [blueprint(shape, activation, rng) for _ in range(heads)]
            self.prior = build(priors, device, torso=torso, rng=rng)

    def follow(self, other: QFunction, tau: float) -> None:
        """Move by a share `tau` to another's network: p = (1 - tau) p + tau other."""
        move_towards(self.network.parameters, other.network.parameters, tau)

    def twin(self, other: QFunction) -> None:
        """Become equal to another, priors included."""
        self.network.parameters[:] = other.network.parameters
        self.prior = other.prior

    def disturb(self, rng: np.random.Generator | None) -> None:
        """Where weights are noisy, draw new noise, or without a generator take the means alone; else nothing."""
        if self._noisy is not None:
            self._noisy.disturb(rng)

    def metrics(self) -> Metrics:
        """The mean of |sigma|, where weights are noisy: how much is left of the noise."""
        noisy = self._noisy
        return {} if noisy is None else {"exploration/sigma": lambda: abs(noisy.sigma)}

    def values(self, obs: Tensor) -> Tensor:
        """Rows (B * K, A) for observations (B, I), in memory that may be used again by the next call."""
        return self._rows(self.network.evaluate(obs), self._prior_of(obs))

    def infer(self, obs: Array) -> Array:
        """(N, K, A) as NumPy, for acting."""
        prior = None if self.prior is None else self._scale * self.prior.infer(obs)
        rows: Array = self._rows(self.network.infer(obs), prior)
        return rows.reshape(len(obs), self.heads, -1)

    def learn(self, obs: Tensor, *arguments: Tensor) -> Any:
        """Fill the network's gradient from the loss's at the rows; returns what stood beside it."""
        return self.network.learn(self._at_outputs, obs, self._prior_of(obs), *arguments)

    def _prior_of(self, obs: Tensor) -> Tensor | None:
        return None if self.prior is None else self._scale * self.prior.evaluate(obs)

    def _at_outputs(self, outputs: Tensor, prior: Tensor | None, *arguments: Tensor) -> tuple[Tensor, Any]:
        """Gradient at the network's outputs (B, K * O)."""
        q = self._rows(outputs, prior)
        grad, parts = self._gradient(q, *arguments)
        if self._dueling is not None:
            grad = grad @ self._like(grad).T
        return grad.reshape(outputs.shape), (q, parts)

    def _rows(self, outputs: Tensor, prior: Tensor | None) -> Tensor:
        total = outputs if prior is None else outputs + prior
        rows = total.reshape(len(outputs) * self.heads, -1)
        return rows if self._dueling is None else rows @ self._like(rows)

    def _like(self, x: Tensor) -> Tensor:
        return self._dueling if isinstance(x, np.ndarray) else x.new_tensor(self._dueling)

    def state_dict(self) -> State:
        """The network, and the prior where there is one."""
        state = network_state(self.network)
        return state if self.prior is None else state | {"prior": network_state(self.prior)["parameters"]}

    def load_state_dict(self, state: State) -> None:
        """Restore the state. Raises ValueError when the sizes differ."""
        load_network_state(self.network, state)
        if self.prior is not None:
            copy_into(self.prior.parameters, np.ascontiguousarray(state["prior"]))


def dueling_layer(actions: int) -> Array:
    """Matrix (1 + A, A) of the linear map [V, A_1 ... A_n] -> Q = V + A - mean A."""
    return np.vstack((np.ones((1, actions)), np.eye(actions) - 1 / actions)).astype(np.float32)
