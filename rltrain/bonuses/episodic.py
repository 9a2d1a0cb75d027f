"""A reward for what is unlike everything else in the same episode."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from pydantic import Field

from rltrain.core import Array, EnvSpec, Problem, State, Transition
from rltrain.encoding import Encoder, vector_problem
from rltrain.intrinsic import Bonus, BonusSettings, whitener
from rltrain.memory import WORTH_TELLING
from rltrain.schedules import Constant, ScheduleSetting

FIRST_ROWS = 64
"""Observations of an episode for which there is room at the beginning; the room is doubled when it is used up."""


class EpisodicSettings(BonusSettings):
    """How alike two observations are, and how many are remembered."""

    scale: ScheduleSetting = Constant(value=0.01)
    """What the novelty is multiplied by: a number, or a schedule of environment steps."""
    neighbors: int = Field(default=10, ge=1)
    """k: nearest observations of the episode that are looked at."""
    kernel_epsilon: float = Field(default=1e-4, gt=0)
    """Size of the kernel: the smaller, the closer two observations must be to count as alike."""
    cluster_distance: float = Field(default=0.008, ge=0)
    """Squared distances below this, in units of the usual one, count as 0."""
    pseudo_count: float = Field(default=1e-3, gt=0)
    """c: its inverse is the greatest novelty."""
    memory_size: int = Field(default=1_000, ge=1)
    """Observations of one episode that are remembered; the oldest give way."""

    def problems(self, config: Any, spec: EnvSpec) -> Iterator[Problem]:
        """Distances are between vectors; the pixels of an image are one."""
        if problem := vector_problem("episodic", spec, images=True):
            yield Problem("bonuses", problem)

    def notes(self, spec: EnvSpec) -> Iterator[str]:
        """How much memory episodes take, where that is much."""
        need = 8 * spec.num_envs * self.memory_size * Encoder(spec.observation_space).size  # and differences to them
        if need > WORTH_TELLING:
            yield f"episodic remembers {self.memory_size:,} observations of an episode: {need / 2**30:.1f} GiB at most"


class Episodic(Bonus):
    """novelty = 1 / (sqrt(sum_k K(s', x_k)) + c) over the k nearest observations x_k of the episode before s'.

    K(x, y) = eps / (max(d^2 / m - xi, 0) + eps), d^2 the squared distance of whitened observations, m the mean of all
    d^2 to nearest neighbours so far, this step's included. An observation that was there k times already has novelty
    1 / (sqrt(k) + c); more in the first steps of a run, since the memory holds it as it was whitened then. The memory
    begins with the episode's first observation and is cleared at its end.
    Source: Badia et al. 2020, "Never Give Up", equation 2 and algorithm 1. https://arxiv.org/abs/2002.06038; there on
    learnt features, and with a bound on the similarity that fewer than 64 neighbours never reach.
    """

    Config = EpisodicSettings

    def __init__(self, config: EpisodicSettings, spec: EnvSpec, *, rng: np.random.Generator) -> None:
        super().__init__(config, spec)
        self._config = config
        self._encode = Encoder(spec.observation_space)
        self._white = whitener(self._encode.size)
        self._memory = np.zeros((spec.num_envs, min(FIRST_ROWS, config.memory_size), self._encode.size), np.float32)
        self.seen = np.zeros(spec.num_envs, np.int64)  # (N,) observations of the open episodes
        self._distance_sum, self._distance_count = 0.0, 0

    def novelty(self, transition: Transition) -> Array:
        """Novelty (N,) of the observations that were reached, which are then remembered."""
        encoded = self._encode(transition.next_obs)
        self._white.update(encoded)
        begins = self.seen == 0
        if begins.any():
            self._remember(begins, self._white(self._encode(transition.obs[begins])))
        x = self._white(encoded)
        found = self._compare(x)
        self._remember(np.ones(len(x), bool), x)
        for env in np.flatnonzero(transition.terminated | transition.truncated):
            self.abandon(int(env))
        return found

    def _compare(self, x: Array) -> Array:
        """Novelty (N,) of whitened observations (N, D)."""
        config, held = self._config, np.minimum(self.seen, self._config.memory_size)
        rows = int(held.max())
        difference = self._memory[:, :rows] - x[:, None]
        squares = np.einsum("nmd,nmd->nm", difference, difference).astype(np.float64)
        squares[np.arange(rows) >= held[:, None]] = np.inf  # nothing there
        k = min(config.neighbors, rows)
        nearest = np.partition(squares, k - 1, axis=1)[:, :k]
        there = np.isfinite(nearest)
        self._distance_sum += float(nearest[there].sum())
        self._distance_count += int(there.sum())
        usual = max(self._distance_sum / self._distance_count, 1e-12)
        apart = np.maximum(nearest / usual - config.cluster_distance, 0)
        kernel = config.kernel_epsilon / (apart + config.kernel_epsilon)  # 0 where nothing is there
        return np.asarray(1 / (np.sqrt(kernel.sum(1)) + config.pseudo_count))

    def _remember(self, envs: Array, x: Array) -> None:
        """Write whitened observations (n, D) of the environments in the mask `envs` (N,)."""
        size = self._config.memory_size
        place = self.seen[envs] % size
        while int(place.max()) >= self._memory.shape[1]:
            more = min(self._memory.shape[1], size - self._memory.shape[1])
            self._memory = np.pad(self._memory, ((0, 0), (0, more), (0, 0)))
        self._memory[np.flatnonzero(envs), place] = x
        self.seen[envs] += 1

    def abandon(self, env: int) -> None:
        """Forget an environment's episode."""
        self.seen[env] = 0
        self._memory[env] = 0  # so that a saved memory holds nothing that is over

    def state_dict(self) -> State:
        """Moments, the observations of the open episodes, and the usual distance."""
        rows = min(int(self.seen.max()), self._config.memory_size)
        return super().state_dict() | {
            "white": self._white.state_dict(),
            "memory": self._memory[:, :rows].copy(),
            "seen": self.seen.copy(),
            "distance_sum": self._distance_sum,
            "distance_count": self._distance_count,
        }

    def load_state_dict(self, state: State) -> None:
        """Restore the state."""
        super().load_state_dict(state)
        self._white.load_state_dict(state["white"])
        self.seen[:] = state["seen"]
        memory = np.array(state["memory"], np.float32)
        room = max(min(FIRST_ROWS, self._config.memory_size), memory.shape[1])
        self._memory = np.zeros((len(self.seen), room, self._encode.size), np.float32)
        self._memory[:, : memory.shape[1]] = memory
        self._distance_sum, self._distance_count = state["distance_sum"], int(state["distance_count"])
