"""Parallelised Q-network: Q-learning from the rollouts of many environments, without replay and target network.

    R_t = r_t + gamma ((1 - lambda) max_a Q(s'_t, a) + lambda R_(t+1)),   and at the rollout's last step
    R_t = r_t + gamma max_a Q(s'_t, a)
    minimise  l(Q(s, a) - R)  over minibatches of the rollout, in several epochs

Nothing follows an episode that ended: R_t = r_t. Beyond one that was cut short stands max_a Q of the true successor, as
at the rollout's end. What keeps Q from diverging is that hidden units are normalised (`layer_norm`); every minibatch
learns towards returns that were worked out once, before the first of them.

Sources: Gallici et al. 2024, algorithm 1, https://arxiv.org/abs/2407.04811; the return is Peng's Q(lambda), which
goes on beyond an action that is not the best: Peng and Williams 1996, https://doi.org/10.1007/BF00114731.

Differences from the authors' implementation: Adam in place of RAdam; layer normalisation has neither gain nor bias, and
after a convolution is over all units of an image, in place of the channels of each pixel; weights begin as torch's
layers do; epsilon and the learning rate follow the environment step, in place of the number of updates.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from pydantic import Field

from rltrain.core import ActionSelector, Array, EnvSpec, Metrics, Problem, State, Transition
from rltrain.encoding import Encoder, vector_problem
from rltrain.nn.arrays import Tensor, namespace, to_device, to_numpy
from rltrain.nn.blueprint import Activation
from rltrain.nn.distributions import Categorical
from rltrain.nn.losses import LossKind
from rltrain.nn.optimizers import descend
from rltrain.nn.size import size_problems
from rltrain.q_agent import QAgent
from rltrain.q_settings import QSettings
from rltrain.rollout import Rollout
from rltrain.rollout_agent import minibatch_problems, minibatch_steps
from rltrain.schedules import Constant, LearningRate
from rltrain.settings import HiddenSizes


class PQNSettings(QSettings):
    """Settings of the parallelised Q-network; steps are environment steps, summed over all environments.

    Defaults are the authors' for Atari, with 128 environments, but for hidden_sizes, which are [512] there.
    """

    learning_rate: LearningRate = Constant(value=2.5e-4)
    """A number, or a schedule of environment steps."""
    hidden_sizes: HiddenSizes = (128, 128)
    """Units of each hidden layer."""
    activation: Activation = "relu"
    """relu and tanh run fused in NumPy; the others through torch."""
    layer_norm: bool = True
    """Layer normalisation, with neither gain nor bias, before every activation, of convolutions too."""
    n_steps: int = Field(default=32, ge=1)
    """Steps of each environment between updates: a rollout has n_steps * num_envs."""
    batch_size: int = Field(default=128, ge=1)
    """Steps per gradient step; what is left over of a rollout makes a last, smaller minibatch."""
    n_epochs: int = Field(default=2, ge=1)
    """Passes over each rollout."""
    gamma: float = Field(default=0.99, ge=0, le=1)
    """Discount per step."""
    q_lambda: float = Field(default=0.65, ge=0, le=1)
    """lambda: 0 for one-step targets, 1 for the sum of rewards to the rollout's end."""
    loss: LossKind = "mse"
    """Of the TD error: huber is linear beyond 1, mse is half its square."""
    max_grad_norm: float | None = Field(default=10.0, gt=0)
    """Greatest norm of the whole gradient; null for no clipping."""
    adam_eps: float = Field(default=1e-8, gt=0)
    """Added to the root of Adam's second moment."""

    def gradient_steps_of(self, total_steps: int, num_envs: int) -> int:
        """About how many gradient steps a run takes."""
        return minibatch_steps(self, total_steps, num_envs)

    def problems(self, config: Any, spec: EnvSpec) -> Iterator[Problem]:
        """What does not fit the environment or the run's length."""
        if problem := vector_problem(config.agent.name, spec, images=True):
            yield Problem("agent.name", problem)
            return
        yield from super().problems(config, spec)
        yield from size_problems(config, spec)
        yield from minibatch_problems(self, config, spec)


class PQN(QAgent):
    """On-policy value learning for discrete actions from parallel environments."""

    Config = PQNSettings

    def __init__(
        self,
        config: PQNSettings,
        spec: EnvSpec,
        *,
        exploration: ActionSelector | None,
        rng: np.random.Generator,
        device: str,
    ) -> None:
        init_rng, hash_rng, self._rng = rng.spawn(3)
        self._config = config
        self._encode = Encoder(spec.observation_space, images=True)
        self._first = np.ones(spec.num_envs, bool)
        self._steps = 0
        self._begin(spec, exploration, device, init_rng=init_rng, hash_rng=hash_rng)
        shape, dtype = self._encode.shape, self._encode.dtype
        self.rollout = Rollout(config.n_steps, spec.num_envs, shape, Categorical(spec.action_space), dtype)

    def observe(self, transition: Transition) -> None:
        """Append to the rollout."""
        obs, action, reward, next_obs, terminated, truncated, _ = transition
        choice = (action - self._first_action)[:, None]
        self.rollout.add(self._encode(obs), choice, reward, self._encode(next_obs), terminated, truncated)
        self._first = terminated | truncated
        self._steps += len(reward)
        if self.visits is not None:
            self.visits.add(obs, action)

    def update(self) -> Metrics:
        """Learn from a full rollout and forget it."""
        if not self.rollout.full:
            return {}
        metrics = self._learn()
        self.rollout.clear()
        return metrics

    def _learn(self) -> Metrics:
        config, rollout, device = self._config, self.rollout, self.q.network.device
        seen = to_device(rollout.everything_seen(), device)  # once: images are large
        count, learning_rate = rollout.over.size, config.learning_rate(self._steps)
        target = self._returns(seen)
        action = rollout.choice.reshape(count, 1).repeat(config.heads, axis=1)
        columns = [to_device(column, device) for column in (action, target, np.ones_like(target))]
        for some in self._minibatches(count):
            action, target, weight = (column[some].reshape(-1) for column in columns)  # (B * K,)
            self.q.disturb(self._rng)
            q, error = self.q.learn(seen[some], action, target, weight)
            norm = descend(self.optimizer, self.q.network.gradient, learning_rate, config.max_grad_norm, self._steps)
        return {
            "train/loss": lambda: self._loss(q, action, target, weight),
            "train/q_value": q,
            "train/td_error": lambda: abs(error),
            "train/gradient_norm": norm,
            "train/learning_rate": learning_rate,
            **self._exploration_metrics(),
        }

    def _returns(self, seen: Tensor) -> Array:
        """R of every head (T * N, K), of all that the rollout has seen."""
        self.q.disturb(self._rng)
        q = self.q.values(seen).reshape(len(seen), self._config.heads, -1)
        best = to_numpy(namespace(q).amax(q, -1))  # (T * N + ..., K): of each head its own
        config, rollout = self._config, self.rollout
        heads = [best[:, head : head + 1] for head in range(config.heads)]
        advantage = [rollout.advantages(values, config.gamma, config.q_lambda, None) for values in heads]
        returns: Array = np.concatenate(advantage, 1) + best[: rollout.over.size]
        return returns

    def _minibatches(self, count: int) -> Iterator[Tensor]:
        """Rows of every minibatch, each epoch in a random order of its own."""
        for _ in range(self._config.n_epochs):
            order = to_device(self._rng.permutation(count), self.q.network.device)
            for at in range(0, count, self._config.batch_size):
                yield order[at : at + self._config.batch_size]

    def abandon(self, env: int) -> None:
        """The steps of the open episode stay, as of one that was cut short."""
        self.rollout.abandon(env)
        self._first[env] = True

    def state_dict(self) -> State:
        """Network, optimiser, exploration and visits; the steps since the last update; generator and counter."""
        return self._q_state() | {
            "rollout": self.rollout.state_dict(),
            "rng": self._rng.bit_generator.state,
            "first": self._first.copy(),
            "steps": self._steps,
        }

    def load_state_dict(self, state: State) -> None:
        """Restore the state."""
        self._load_q_state(state)
        self.rollout.load_state_dict(state["rollout"])
        self._rng.bit_generator.state = state["rng"]
        self._first = np.array(state["first"])
        self._steps = state["steps"]
