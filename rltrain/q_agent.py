"""How every deep Q-network acts, and what it is made of; how it learns is up to the agent.

Legend: N environments, K heads, A actions, Z numbers that describe a return, R = B K rows of a batch.
"""

from __future__ import annotations

from typing import Any, ClassVar

import gymnasium as gym
import numpy as np

from rltrain.core import ActionSelector, ActionValues, Array, EnvSpec, Metrics, State
from rltrain.encoding import Encoder
from rltrain.hashing import PseudoCounts
from rltrain.nn import losses
from rltrain.nn.arrays import Tensor, resolve_device
from rltrain.nn.networks import Network
from rltrain.nn.optimizers import Adam
from rltrain.nn.q_functions import QFunction
from rltrain.nn.torso import torso_of


class QAgent:
    """Acts by action values, through a selector or by noise in the weights; how it learns is up to the agent."""

    q_function: ClassVar[type[QFunction]] = QFunction
    """What the network is."""
    _config: Any
    _encode: Encoder
    _rng: np.random.Generator
    _first: Array  # (N,) bool: an episode begins here
    _steps: int  # environment steps observed

    def _begin(
        self,
        spec: EnvSpec,
        exploration: ActionSelector | None,
        device: str,
        *,
        init_rng: np.random.Generator,
        hash_rng: np.random.Generator,
    ) -> None:
        """Make the network, its optimiser and the counts of visits."""
        config = self._config
        self._exploration = exploration
        assert isinstance(spec.action_space, gym.spaces.Discrete)
        self._actions, self._first_action = int(spec.action_space.n), int(spec.action_space.start)
        self._torso = (
            None if self._encode.image is None else torso_of(config.encoder, spec, layer_norm=config.layer_norm)
        )
        self._device = resolve_device(device, config.hidden_sizes, self._torso)
        self.q = self._q_function(init_rng)
        self.optimizer = Adam(self.q.network.parameters, eps=config.adam_eps)
        self.visits = None if config.visits is None else PseudoCounts(config.visits, spec, hash_rng)

    def _q_function(self, rng: np.random.Generator) -> QFunction:
        config = self._config
        return self.q_function(
            (self._encode.size if self._torso is None else self._torso.features, *config.hidden_sizes),
            config.activation,
            self._gradient,
            actions=self._actions,
            atoms=self.atoms,
            dueling=config.dueling,
            heads=config.heads,
            prior_scale=config.prior_scale,
            noisy_std=config.noisy_std if config.noisy else None,
            layer_norm=config.layer_norm,
            rng=rng,
            device=self._device,
            torso=self._torso,
        )

    @property
    def atoms(self) -> int | None:
        """Numbers Z that describe the return of an action; None where it is one number, its mean."""
        return None

    def _distribution(self, rows: Tensor) -> Tensor:
        """What rows (R, A) or (R, A, Z) of the network say of the returns; here they are the means themselves."""
        return rows

    def _mean(self, distribution: Tensor) -> Tensor:
        """The means of returns (..., Z)."""
        return distribution

    def _loss(self, rows: Tensor, action: Tensor, target: Tensor, weight: Tensor, *drawn: Tensor) -> Tensor:
        """The loss of rows at the actions (R,), a scalar."""
        return losses.q_learning_loss(rows, action, target, weight, self._config.loss)

    def _gradient(
        self, rows: Tensor, action: Tensor, target: Tensor, weight: Tensor, *drawn: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Gradient of the loss at the rows, and the errors (R,) that priorities are made of."""
        return losses.q_learning_gradient(rows, action, target, weight, self._config.loss)

    def _infer(self, obs: Array) -> Array:
        """Q of every head, (N, K, A), for acting."""
        return np.asarray(self._mean(self._distribution(self.q.infer(self._encode(obs)))))

    @property
    def networks(self) -> tuple[Network, ...]:
        """The network that learns."""
        return (self.q.network,)

    def act(self, obs: Array, *, explore: bool = True) -> Array:
        """Actions (N,) for observations (N, *obs_shape)."""
        self.q.disturb(self._rng if explore else None)
        samples = self._infer(obs)  # (N, K, A)
        mean = samples.mean(axis=1)
        if not explore:
            action = mean.argmax(axis=1)
        elif self._exploration is None:
            action = self._under_noise(mean)
        else:
            values = ActionValues(mean, first=self._first, visits=None if self.visits is None else self.visits(obs))
            if self._config.heads > 1:
                values = values._replace(samples=samples.swapaxes(0, 1), std=samples.std(axis=1))
            action = self._exploration.select(values, self._steps, self._rng)
        return np.asarray(action + self._first_action)

    def _under_noise(self, mean: Array) -> Array:
        """The best actions (N,) of a noisy network."""
        return np.asarray(mean.argmax(axis=1))

    def values(self, obs: Array) -> Array:
        """Q(s, a), (N, A), the mean of the heads, without noise."""
        self.q.disturb(None)
        return np.asarray(self._infer(obs).mean(axis=1))

    def _exploration_metrics(self) -> Metrics:
        chosen = {} if self._exploration is None else self._exploration.metrics(self._steps)
        counted = {} if self.visits is None else {"exploration/entries": len(self.visits)}
        return chosen | counted | self.q.metrics()

    def _q_state(self) -> State:
        """Network, optimiser, exploration and visits."""
        return {
            "q_network": self.q.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "exploration": None if self._exploration is None else self._exploration.state_dict(),
            "visits": None if self.visits is None else self.visits.state_dict(),
        }

    def _load_q_state(self, state: State) -> None:
        self.q.load_state_dict(state["q_network"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self._exploration is not None:
            self._exploration.load_state_dict(state["exploration"])
        if self.visits is not None:
            self.visits.load_state_dict(state["visits"])
