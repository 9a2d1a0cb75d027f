"""REINFORCE: Monte Carlo policy gradient on batches of whole episodes, with or without a learnt baseline.

    minimise  -1/E sum_episodes sum_t w_t (G_t - b(s_t)) log pi(a_t|s_t) + vf_coef mean((b(s) - G)^2) - ent_coef mean(H)

over E episodes, with G_t = r_t + gamma r_(t+1) + ... to the episode's end, w_t = gamma^t with `discount_weighting`,
else 1, and b(s) = V(s) with `baseline`, else 0. Where an episode was cut short, the baseline's value of its last
state stands for the rewards that were not seen; without a baseline they count as 0.

Source: Williams 1992; Sutton and Barto 2018, sections 13.3 and 13.4. With several environments, an episode that is open
at an update goes on under the new policy, and its actions are then weighed as if that policy had drawn them all; with
one environment every episode belongs to one policy.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from pydantic import Field

from rltrain.core import Array, EnvSpec, Metrics, State, Transition
from rltrain.nn import policy_losses as losses
from rltrain.nn.arrays import Tensor, to_device
from rltrain.nn.optimizers import descend
from rltrain.on_policy import OnPolicyAgent, OnPolicySettings, explained_variance, output_gradient
from rltrain.rollout import check_finite
from rltrain.schedules import Constant, LearningRate


class ReinforceSettings(OnPolicySettings):
    """Settings of REINFORCE; steps are environment steps, summed over all environments."""

    learning_rate: LearningRate = Constant(value=1e-3)
    """A number, or a schedule of environment steps."""
    episodes_per_update: int = Field(default=8, ge=1)
    """Whole episodes of each batch, at least."""
    baseline: bool = True
    """Subtract a learnt value of the state from the return."""
    normalize_returns: bool = False
    """Returns minus baseline of each batch with mean 0 and standard deviation 1."""
    discount_weighting: bool = False
    """Weigh step t by gamma**t, as the policy gradient theorem asks; most leave it out."""
    vf_coef: float = Field(default=0.5, ge=0)
    """Weight of the baseline's loss."""
    max_grad_norm: float | None = Field(default=None, gt=0)
    """Greatest norm of the whole gradient; null for no clipping."""

    def notes(self, spec: EnvSpec) -> Iterator[str]:
        """What is of a baseline that is not there, too."""
        yield from super().notes(spec)
        if not self.baseline:
            yield from (
                f"agent.{name} does nothing without a baseline" for name in self.changed("vf_coef", "shared_network")
            )

    def gradient_steps_of(self, total_steps: int, num_envs: int) -> int:
        """About how many gradient steps a run takes; episodes are reckoned at 100 steps."""
        return total_steps // (100 * self.episodes_per_update)


class Trajectory:
    """What happened in one episode so far, a list for each column."""

    COLUMNS = ("obs", "choice", "reward")

    def __init__(self) -> None:
        self.obs: list[Array] = []  # encoded, (I,) each
        self.choice: list[Array] = []
        self.reward: list[float] = []
        self.cut: Array | None = None  # the observation at which it was cut short

    def state_dict(self) -> State:
        """The columns."""
        return {name: np.array(getattr(self, name)) for name in self.COLUMNS} | {"cut": self.cut}

    def load_state_dict(self, state: State) -> None:
        """Restore the state."""
        self.obs, self.choice = list(state["obs"]), list(state["choice"])
        self.reward, self.cut = [float(reward) for reward in state["reward"]], state["cut"]


class Reinforce(OnPolicyAgent):
    """Learning from the returns of whole episodes."""

    Config = ReinforceSettings

    def __init__(self, config: Any, spec: EnvSpec, *, exploration: None, rng: np.random.Generator, device: str) -> None:
        super().__init__(config, spec, exploration=exploration, rng=rng, device=device)
        self._open = [Trajectory() for _ in range(spec.num_envs)]
        self._ended: list[Trajectory] = []

    @property
    def value_heads(self) -> int:
        """One with a baseline."""
        return int(self._config.baseline)

    def observe(self, transition: Transition) -> None:
        """Append the step to the open episodes."""
        super().observe(transition)
        over = transition.terminated | transition.truncated
        for n, episode in enumerate(self._open):
            episode.obs.append(self._seen[n].copy())
            episode.choice.append(self._choice[n])
            episode.reward.append(float(transition.reward[n]))
            if over[n]:
                if not transition.terminated[n]:
                    episode.cut = self._encode(transition.next_obs[n : n + 1])[0].copy()
                self._ended.append(episode)
                self._open[n] = Trajectory()

    def update(self) -> Metrics:
        """One gradient step when enough episodes have ended."""
        if len(self._ended) < self._config.episodes_per_update:
            return {}
        metrics = self._learn()
        self._ended = []
        return metrics

    def _learn(self) -> Metrics:
        config, device, episodes = self._config, self.network.device, self._ended
        obs = np.array([row for episode in episodes for row in episode.obs])
        choice = np.array([row for episode in episodes for row in episode.choice])
        for seen in (obs, *(episode.cut[None] for episode in episodes if episode.cut is not None)):
            check_finite(seen)
        target = np.concatenate([self._returns(episode) for episode in episodes])[:, None]
        value = self.network.infer(obs, self._value) if self._config.baseline else np.zeros_like(target)
        weight = np.concatenate([self._weights(len(episode.reward)) for episode in episodes])
        columns = [to_device(column, device) for column in (obs, choice, (target - value)[:, 0], target, weight)]
        log_prob, entropy = self.network.learn(self._output_gradient, *columns, len(episodes))
        rate = config.learning_rate(self._steps)
        norm = descend(self.optimizer, self.network.gradient, rate, config.max_grad_norm, self._steps)
        metrics: Metrics = {
            "train/policy_loss": lambda: losses.policy_gradient_loss(log_prob, columns[2]),
            "train/entropy": entropy,
            "train/gradient_norm": norm,
            "train/learning_rate": rate,
        }
        if self._config.baseline:
            metrics["train/value_loss"] = lambda: losses.value_loss(value, target, value, None)
            metrics |= explained_variance(value, target)
        return metrics

    def _returns(self, episode: Trajectory) -> Array:
        """G_t of every step, (L,)."""
        total, returns = 0.0, np.zeros(len(episode.reward), np.float32)
        if episode.cut is not None and self._config.baseline:
            total = float(self.network.infer(episode.cut[None], self._value)[0, 0])
        for t in range(len(returns) - 1, -1, -1):
            total = episode.reward[t] + self._config.gamma * total
            returns[t] = total
        return returns

    def _weights(self, length: int) -> Array:
        gamma = self._config.gamma if self._config.discount_weighting else 1.0
        return (gamma ** np.arange(length)).astype(np.float32)

    def _output_gradient(
        self, outputs: Tensor, choice: Tensor, advantage: Tensor, target: Tensor, weight: Tensor, episodes: int
    ) -> tuple[Tensor, Any]:
        """Gradient of the loss at the outputs (B, O); beside it log-probabilities and entropies (B,)."""
        config, count = self._config, len(outputs)
        log_prob, entropy, pull = self.policy.evaluate(outputs[:, self._policy], choice)
        if config.normalize_returns:
            advantage = losses.normalized(advantage)
        d_log_prob = losses.policy_gradient(log_prob, weight * advantage) * (count / episodes)  # a sum over steps
        grad = pull(d_log_prob, -config.ent_coef / count)
        if config.baseline:
            value = outputs[:, self._value]
            grad = output_gradient(config.vf_coef * losses.value_gradient(value, target, value, None), grad)
        return grad, (log_prob, entropy)

    def abandon(self, env: int) -> None:
        """Forget the steps of an episode that begins anew."""
        self._open[env] = Trajectory()

    def state_dict(self) -> State:
        """As every agent's, and the episodes that wait for the next update."""
        return super().state_dict() | {
            "open": [episode.state_dict() for episode in self._open],
            "ended": [episode.state_dict() for episode in self._ended],
        }

    def load_state_dict(self, state: State) -> None:
        """Restore the state."""
        super().load_state_dict(state)
        self._open, self._ended = _episodes(state["open"]), _episodes(state["ended"])


def _episodes(states: list[State]) -> list[Trajectory]:
    episodes = [Trajectory() for _ in states]
    for episode, state in zip(episodes, states, strict=True):
        episode.load_state_dict(state)
    return episodes
