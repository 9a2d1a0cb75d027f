"""Action values from a network: of one head or of an ensemble, with or without a dueling layer and random priors.

Legend: B batch, N environments, K heads, A actions, Z numbers that describe the return of an action. What a batch gives
are rows (B * K, A), or (B * K, A, Z) where returns have a distribution, the heads of an observation one after the
other, so that a loss knows nothing of heads.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from rltrain.core import Array, Metrics, State
from rltrain.nn.arrays import Fixed, Tensor, copy_into, move_towards
from rltrain.nn.blueprint import Activation, Blueprint, blueprint
from rltrain.nn.networks import Network, build, load_network_state, network_state
from rltrain.nn.noisy import NoisyNetwork
from rltrain.nn.torso import Torso

RowGradient = Callable[..., tuple[Tensor, Any]]
"""(rows, *arguments) -> gradient of the loss at the rows, and whatever else is wanted."""


class QFunction:
    """Q_k(s, a) = f_k(s, a) + prior_scale * p_k(s, a): a network f_k that learns, and a random one that never does.

    Where nothing was learnt the heads differ by their priors, so an agent that follows one head for an episode goes
    where it may be right. With `dueling` the outputs of a head are [V, A_1 ... A_n] and Q = V + A - mean A.
    With `atoms` Q is Z numbers for every action, and so are V and A.
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
        atoms: int | None,
        dueling: bool,
        heads: int,
        prior_scale: float,
        noisy_std: float | None,
        layer_norm: bool,
        rng: np.random.Generator,
        device: str,
        torso: Torso | None = None,
    ) -> None:
        """`sizes`: inputs and hidden layers. For images all heads share a `torso`, which makes these inputs."""
        self.heads, self._gradient, self._scale, self._torso = heads, gradient, prior_scale, torso
        self._distributional, self._width = atoms is not None, actions + dueling
        shape = (*sizes, self._width * (atoms or 1))
        plan = partial(blueprint, activation=activation, rng=rng, layer_norm=layer_norm)
        plans = self._plans(shape, plan)
        images = {} if torso is None else {"torso": torso, "rng": rng}
        self.network: Network = self._build(plans, device, **images)
        self._noisy: NoisyNetwork | None = None
        if noisy_std is not None:
            self.network = self._noisy = NoisyNetwork(self.network, plans, noisy_std)
        self.prior = self._build(self._plans(shape, plan), device, **images) if prior_scale else None
        self._dueling = Fixed(dueling_layer(actions), self.network.device) if dueling else None

    def _plans(self, shape: Sequence[int], plan: Callable[[Sequence[int]], Blueprint]) -> list[Blueprint]:
        return [plan(shape) for _ in range(self.heads)]

    def _build(self, plans: Sequence[Blueprint], device: str, **images: Any) -> Network:
        return build(plans, device, **images)

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
        return {} if noisy is None else {"exploration/sigma": lambda: abs(noisy.sigma[noisy.plain :])}

    def values(self, obs: Tensor) -> Tensor:
        """Rows for observations (B, I), in memory that may be used again by the next call."""
        return self._rows(self.network.evaluate(obs), self._prior_of(obs))

    def infer(self, obs: Array) -> Array:
        """(N, K, A) or (N, K, A, Z) as NumPy, for acting."""
        prior = None if self.prior is None else self._scale * self.prior.infer(obs)
        rows: Array = self._rows(self.network.infer(obs), prior)
        return rows.reshape(len(obs), self.heads, *rows.shape[1:])

    def learn(self, obs: Tensor, *arguments: Tensor) -> Any:
        """Fill the network's gradient from the loss's; returns the rows, and the second value of `gradient_at`."""
        return self.network.learn(self._at_outputs, obs, self._prior_of(obs), *arguments)

    def _prior_of(self, obs: Tensor) -> Tensor | None:
        return None if self.prior is None else self._scale * self.prior.evaluate(obs)

    def _at_outputs(self, outputs: Tensor, prior: Tensor | None, *arguments: Tensor) -> tuple[Tensor, Any]:
        """Gradient at the network's outputs (B, K * (A or A + 1) * Z)."""
        rows = self._rows(outputs, prior)
        grad, parts = self._gradient(rows, *arguments)
        if self._dueling is not None:
            grad = _through(self._dueling.like(grad).T, grad)
        return grad.reshape(outputs.shape), (rows, parts)

    def _rows(self, outputs: Tensor, prior: Tensor | None) -> Tensor:
        total = outputs if prior is None else outputs + prior
        count = len(outputs) * self.heads
        rows = total.reshape(count, self._width, -1) if self._distributional else total.reshape(count, -1)
        return rows if self._dueling is None else _through(self._dueling.like(rows), rows)

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


def _through(matrix: Tensor, rows: Tensor) -> Tensor:
    """Rows (R, J) or (R, J, Z) through a linear layer (J, O), the same for each of Z."""
    return rows @ matrix if rows.ndim == 2 else matrix.T @ rows
