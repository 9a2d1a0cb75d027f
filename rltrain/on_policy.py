"""What agents share that follow the gradient of their policy: network, distribution, acting, one gradient step.

Outputs of the network, side by side: the values of the state, then what the distribution takes.
Legend: T steps, N environments, B batch, O outputs, H values: of the reward, and of the bonuses where these are apart.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from functools import partial
from typing import Any, ClassVar

import gymnasium as gym
import numpy as np
from pydantic import Field

from rltrain.core import Array, EnvSpec, Metrics, Problem, State, Transition
from rltrain.encoding import Encoder, in_words, vector_problem
from rltrain.nn.arrays import Tensor, namespace, resolve_device
from rltrain.nn.blueprint import Activation, blueprint
from rltrain.nn.distributions import Distribution, action_problem, distribution
from rltrain.nn.initialisation import Init
from rltrain.nn.networks import Network, build, load_network_state, network_state
from rltrain.nn.optimizers import OptimizerName, make_optimizer
from rltrain.nn.size import size_problems
from rltrain.nn.torso import EncoderName, encoder_problem, torso_of, units_note
from rltrain.schedules import Constant, LearningRate
from rltrain.settings import HiddenSizes, Settings

POLICY_GAIN = 0.01
"""Of the policy's last layer: the first policy is nearly the same everywhere, and nearly uniform."""


class OnPolicySettings(Settings, ABC):
    """Settings that every policy-gradient agent has; steps are environment steps, summed over all environments."""

    explores_with: ClassVar[None] = None
    explores_by: ClassVar[str] = "explores by drawing from its policy"
    offers: ClassVar[tuple[str, ...]] = ()

    learning_rate: LearningRate = Constant(value=7e-4)
    """A number, or a schedule of environment steps."""
    gamma: float = Field(default=0.99, ge=0, le=1)
    """Discount per step."""
    hidden_sizes: HiddenSizes = (64, 64)
    """Units of each hidden layer."""
    activation: Activation = "tanh"
    """relu and tanh run fused in NumPy; the others through torch."""
    encoder: EncoderName = "auto"
    """Images: convolutions before the hidden layers, which actor and critic share; auto takes nature for screens."""
    shared_network: bool = False
    """One network with two heads for policy and value; false for a network each."""
    init: Init = "orthogonal"
    """How weights begin; uniform as torch's layers do."""
    optimizer: OptimizerName = "adam"
    """How the gradient moves the weights."""
    optimizer_eps: float = Field(default=1e-5, gt=0)
    """Keeps the division of adam and rmsprop finite."""
    max_grad_norm: float | None = Field(default=0.5, gt=0)
    """Greatest norm of the whole gradient; null for no clipping."""
    ent_coef: float = Field(default=0.0, ge=0)
    """Weight of the entropy bonus in the loss: more of it explores more."""
    log_std_init: float = Field(default=0.0, ge=-20, le=5)
    """Continuous actions: logarithm of the first standard deviation, in the action's units (before squashing)."""
    state_dependent_std: bool = False
    """Continuous actions: the standard deviation is an output of the network, not one number per dimension."""
    squash: bool = False
    """Continuous actions: tanh stretched to the box; false for a normal distribution that is cut to the box."""

    def distribution(self, space: gym.Space[Any]) -> Distribution:
        """The family of distributions over this action space."""
        return distribution(space, log_std=self.log_std_init, by_state=self.state_dependent_std, squash=self.squash)

    @property
    def numbers_kept(self) -> int:
        """For each parameter of one network, in actor and critic together."""
        moments = {"adam": 2, "rmsprop": 1, "sgd": 0}[self.optimizer]
        return (2 + moments) * (1 if self.shared_network or not getattr(self, "baseline", True) else 2)

    @abstractmethod
    def gradient_steps_of(self, total_steps: int, num_envs: int) -> int:
        """About how many gradient steps a run takes."""

    def problems(self, config: Any, spec: EnvSpec) -> Iterator[Problem]:
        """What does not fit the environment."""
        if problem := vector_problem(config.agent.name, spec, images=True):
            yield Problem("agent.name", problem)
        elif problem := encoder_problem(self.encoder, spec):
            yield Problem("agent.encoder", problem)
        if problem := action_problem(spec.action_space, squash=self.squash):
            yield Problem("agent.squash" if "squash" in problem else "agent.name", problem)
        if not isinstance(spec.action_space, gym.spaces.Box):
            for name in self.changed("log_std_init", "state_dependent_std"):
                why = f"is for continuous actions, not for {in_words(spec.action_space)}: leave it out"
                yield Problem(f"agent.{name}", why)
        yield from size_problems(config, spec)

    def notes(self, spec: EnvSpec) -> Iterator[str]:
        """What a user should know of layers that were left as they are, and of what does nothing."""
        if self.optimizer == "sgd" and any(self.changed("optimizer_eps")):
            yield "agent.optimizer_eps does nothing with sgd"
        if "hidden_sizes" not in self.model_fields_set and (note := units_note(self.encoder, self.hidden_sizes, spec)):
            yield note


class OnPolicyAgent(ABC):
    """Acts by sampling from its policy; learns from what it did since the last update, and forgets it."""

    Config: type[OnPolicySettings]

    def __init__(self, config: Any, spec: EnvSpec, *, exploration: None, rng: np.random.Generator, device: str) -> None:
        init_rng, self._rng = rng.spawn(2)
        self._config = config
        self._team = spec.team
        self._encode = Encoder(spec.observation_space, images=True)
        self._torso = None if self._encode.image is None else torso_of(config.encoder, spec)
        self.policy: Distribution = config.distribution(spec.action_space)
        self._value = slice(0, self.value_heads)  # columns of the outputs
        self._policy = slice(self.value_heads, self.value_heads + self.policy.outputs)
        self.network = self._build(init_rng, resolve_device(device, config.hidden_sizes, self._torso))
        self.optimizer = make_optimizer(config.optimizer, self.network.parameters, config.optimizer_eps)
        self._choice: Array  # of the latest act
        self._seen: Array  # encoded observations of the latest act
        self._steps = 0  # environment steps observed, by all ranks

    @property
    def value_heads(self) -> int:
        """H: how many of the first outputs are values of the state."""
        return 1

    def _build(self, rng: np.random.Generator, device: str) -> Network:
        """The critic's parameters come first, the actor's after them; before both, the convolutions that they share."""
        config, free = self._config, self.policy.free
        heads = self.policy.outputs - self.policy.features - (0 if free is None else len(free))
        extra: dict[str, Any] = {"free": free, "features": self.policy.features > 0}
        own = {"activation": config.activation, "rng": rng, "init": config.init}
        inputs = self._encode.size if self._torso is None else self._torso.features
        inner, eyes = (inputs, *config.hidden_sizes), {"torso": self._torso, "rng": rng, "init": config.init}
        self.critic_parameters = 0  # of the network's, those that are the critic's alone
        values = self.value_heads
        if config.shared_network and values:
            gain = [1.0] * values + [POLICY_GAIN] * heads
            return build([blueprint((*inner, values + heads), gain=gain, **extra, **own)], device, **eyes)
        critics = [blueprint((*inner, values), **own)] if values else []
        self.critic_parameters = sum(critic.parameters for critic in critics)
        return build([*critics, blueprint((*inner, heads), gain=POLICY_GAIN, **extra, **own)], device, **eyes)

    @property
    def networks(self) -> tuple[Network, ...]:
        """The network that learns."""
        return (self.network,)

    def act(self, obs: Array, *, explore: bool = True) -> Array:
        """Actions (N, *action_shape) for observations (N, *obs_shape): drawn, or the most probable."""
        seen = self._encode(obs)
        outputs = self.network.infer(seen, self._policy)
        if not explore:
            return self.policy.action(self.policy.mode(outputs))
        self._seen, self._choice = seen, self._draw(outputs)
        return self.policy.action(self._choice)

    def _draw(self, outputs: Array) -> Array:
        """Choices (N, C) for the policy's outputs; random numbers are drawn for the environments of all ranks."""
        return np.asarray(self._team.part(self.policy.sample(self._team.spread(outputs), self._rng)))

    def values(self, obs: Array) -> Array | None:
        """V(s) of the reward, (N,), where there is a critic."""
        if not self.value_heads:
            return None
        return self.network.infer(self._encode(obs), self._value)[:, 0]

    def observe(self, transition: Transition) -> None:
        """Count the step; what else is kept is up to the agent."""
        self._steps += len(transition.reward) * self._team.size

    @abstractmethod
    def update(self) -> Metrics:
        """Learn if it is time to; {} when nothing was learnt."""

    @abstractmethod
    def abandon(self, env: int) -> None:
        """Forget the open episode of an environment."""

    def state_dict(self) -> State:
        """Network, optimiser, generator and counter."""
        return {
            "network": network_state(self.network),
            "optimizer": self.optimizer.state_dict(),
            "rng": self._rng.bit_generator.state,
            "steps": self._steps,
        }

    def load_state_dict(self, state: State) -> None:
        """Restore the state."""
        load_network_state(self.network, state["network"])
        self.optimizer.load_state_dict(state["optimizer"])
        self._rng.bit_generator.state = state["rng"]
        self._steps = state["steps"]


def output_gradient(d_value: Tensor, d_policy: Tensor) -> Tensor:
    """Gradient at all outputs (B, O), from those at the values (B, H) and at the policy's outputs (B, O - H)."""
    return namespace(d_value).concatenate((d_value, d_policy), 1)


def explained_variance(value: Tensor, target: Tensor) -> Metrics:
    """1 - Var(y - V) / Var(y) of every head (B, H): 1 for a perfect critic, 0 for one that knows the mean only."""

    def of(head: int) -> Tensor:
        return 1 - (target[:, head] - value[:, head]).var() / (target[:, head].var() + 1e-8)

    names = ("train/explained_variance", "train/intrinsic_explained_variance")[: value.shape[1]]
    return {name: partial(of, head) for head, name in enumerate(names)}
