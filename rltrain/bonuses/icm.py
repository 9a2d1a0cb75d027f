"""A reward for consequences of one's own actions that cannot be predicted yet."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import gymnasium as gym
import numpy as np
from pydantic import Field

from rltrain.core import Array, EnvSpec, Problem, State, Transition
from rltrain.encoding import Encoder, UnitBox, vector_problem
from rltrain.intrinsic import Gathered, LearntBonus, LearntNetwork, LearntSettings
from rltrain.nn.blueprint import blueprint
from rltrain.nn.distributions import Categorical, action_problem


class ICMSettings(LearntSettings):
    """The three networks. `scale` multiplies half the squared error."""

    weight_decay: float = Field(default=0.01, ge=0)
    """Pull of the features' weights to 0, which forgets what actions have nothing to do with; the paper has none."""

    def problems(self, config: Any, spec: EnvSpec) -> Iterator[Problem]:
        """Networks take vectors, the pixels of an image too, and give choices or numbers."""
        if problem := vector_problem("icm", spec, images=True):
            yield Problem("bonuses", problem)
        elif problem := action_problem(spec.action_space, squash=False):
            yield Problem("bonuses", f"icm predicts actions: {problem}; rnd does not need them")


class DiscreteActions:
    """Actions that are choices, one-hot; the loss of outputs is the cross-entropy, summed over the choices of a row."""

    def __init__(self, space: gym.Space[Any]) -> None:
        if isinstance(space, gym.spaces.MultiBinary):
            space = gym.spaces.MultiDiscrete(np.full(int(np.prod(space.shape)), 2))
        self.encode = Encoder(space)
        self.size = self.encode.size
        self._family = Categorical(space)

    def gradient(self, outputs: Array, action: Array) -> tuple[Array, float]:
        """Gradient at the outputs (B, A) of L = -mean log softmax(outputs)[action], and L; `action` is one-hot."""
        told = self._family.evaluate(outputs, self._family.mode(action))
        return told.pull(np.full(len(action), -1 / len(action), np.float32), 0.0), float(-told.log_prob.mean())


class ContinuousActions:
    """Continuous actions, brought to -1 ... 1 where they have bounds; the loss is half the squared error.

    A number without bounds gets those of -1 and 1, which leave it as it is.
    """

    def __init__(self, space: gym.spaces.Box) -> None:
        known = np.isfinite(space.low) & np.isfinite(space.high) & (space.low < space.high)
        low, high = (np.where(known, each, other) for each, other in ((space.low, -1.0), (space.high, 1.0)))
        box = UnitBox(gym.spaces.Box(low.astype(np.float64), high.astype(np.float64), dtype=np.float64))
        self.size, self.encode = box.size, box.unit

    def gradient(self, outputs: Array, action: Array) -> tuple[Array, float]:
        """Gradient at the outputs (B, A) of L = mean_rows 1/2 |outputs - action|^2, and L."""
        return half_squared_error(outputs, action)


def half_squared_error(outputs: Array, target: Array) -> tuple[Array, float]:
    """Gradient at the outputs (B, F) of L = mean_rows 1/2 |outputs - target|^2, and L."""
    difference = outputs - target
    return difference / len(difference), float((difference * difference).sum() / (2 * len(difference)))


class ICM(LearntBonus):
    """novelty = 1/2 |forward(phi(s), a) - phi(s')|^2.

    The features phi are learnt by the inverse model alone, inverse(phi(s), phi(s')) -> a, so that they hold what the
    agent's actions have to do with; the forward model learns on features as they are. In the paper its loss reaches the
    features as well. Random features see noise, and where the inverse model errs no more, nothing makes them forget it
    but the decay of their weights, which is not in the paper. Observations are whitened and cut to +-5.
    Source: Pathak et al. 2017, "Curiosity-driven Exploration by Self-supervised Prediction", equations 2 to 6.
    https://arxiv.org/abs/1705.05363
    """

    Config = ICMSettings

    def __init__(self, config: ICMSettings, spec: EnvSpec, *, rng: np.random.Generator) -> None:
        super().__init__(config, spec)
        space = spec.action_space
        self.actions = ContinuousActions(space) if isinstance(space, gym.spaces.Box) else DiscreteActions(space)
        self._weight_decay = config.weight_decay
        inputs, size, actions = self.encode.size, config.features, self.actions.size

        def network(inputs: int, outputs: int) -> LearntNetwork:
            plan = blueprint((inputs, *config.hidden_sizes, outputs), config.activation, rng, init="orthogonal")
            return LearntNetwork(plan, config.learning_rate)

        self.features, self.inverse = network(inputs, size), network(2 * size, actions)
        self.forward = network(size + actions, size)
        self._gathered = Gathered(config.batch_size, inputs, inputs, actions)

    def novelty(self, transition: Transition) -> Array:
        """Half squared errors of the next features (N,); learns from the steps afterwards."""
        encoded = self.encode(transition.next_obs)
        self.white.update(encoded)
        obs, next_obs = self.white(self.encode(transition.obs)), self.white(encoded)
        action = self.actions.encode(transition.action)
        errors = self.errors(obs, action, next_obs)
        for batch in self._gathered.add(obs, next_obs, action):
            self.learn(*batch)
        return errors

    def errors(self, obs: Array, action: Array, next_obs: Array) -> Array:
        """1/2 |forward(phi(s), a) - phi(s')|^2 (N,) of whitened observations (N, D) and encoded actions (N, A)."""
        before, after = np.split(self.features.evaluate(np.concatenate((obs, next_obs))), 2)
        difference = self.forward.evaluate(np.concatenate((before, action), 1)) - after
        return np.asarray((difference * difference).sum(1) / 2)

    def gradients(self, obs: Array, next_obs: Array, action: Array) -> dict[str, float]:
        """Fill the gradients of all three networks for a batch of whitened observations; returns their losses."""
        both = np.concatenate((obs, next_obs))  # (2B, D): one network for both observations
        before, after = np.split(self.features.forward(both), 2)
        pair = np.concatenate((before, after), 1)  # (B, 2F)
        grad, inverse_loss = self.actions.gradient(self.inverse.forward(pair), action)
        at_pair = self.inverse.backward(pair, grad, to_inputs=True)
        assert at_pair is not None
        forward_loss = self.forward.learn(half_squared_error, np.concatenate((before, action), 1), after)
        self.features.backward(both, np.concatenate(np.split(at_pair, 2, axis=1)))
        return {"inverse_loss": inverse_loss, "forward_loss": forward_loss}

    def learn(self, obs: Array, next_obs: Array, action: Array) -> None:
        """One step of Adam for every network."""
        self.losses = self.gradients(obs, next_obs, action)
        self.features.gradient += self._weight_decay * self.features.parameters
        for network in (self.features, self.inverse, self.forward):
            network.step(self.steps)

    def state_dict(self) -> State:
        """Networks, moments, and the steps that wait."""
        return super().state_dict() | {
            "features": self.features.state_dict(),
            "inverse": self.inverse.state_dict(),
            "forward": self.forward.state_dict(),
            "gathered": self._gathered.state_dict(),
        }

    def load_state_dict(self, state: State) -> None:
        """Restore the state."""
        super().load_state_dict(state)
        for name, network in (("features", self.features), ("inverse", self.inverse), ("forward", self.forward)):
            network.load_state_dict(state[name])
        self._gathered.load_state_dict(state["gathered"])
