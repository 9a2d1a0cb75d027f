"""Every contract of rltrain: what an agent, a loop, an exploration strategy and their data are.

Everything else knows this file and nothing of its siblings; `experiment.py` alone knows all parts.
Legend for shapes: N environments, B batch, A actions, K ensemble heads.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from traceback import extract_tb
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol, TypeAlias

import numpy as np

from rltrain.team import ALONE, Team

if TYPE_CHECKING:
    import gymnasium as gym

    from rltrain.mdp import Model

Array: TypeAlias = np.ndarray[Any, np.dtype[Any]]
Metrics: TypeAlias = dict[str, Any]
"""Name -> number; or an array or tensor, whose mean is meant; or a function that returns one of these.

Only the log turns it into a number, so that a value nobody reads costs nothing.
"""
State: TypeAlias = dict[str, Any]
"""A tree of dicts and lists whose leaves are NumPy arrays, int, float, bool, str or None."""


class Transition(NamedTuple):
    """One step of N environments, as the loop hands it to the agent."""

    obs: Array  # (N, *obs_shape)
    action: Array  # (N, *action_shape)
    reward: Array  # (N,) float32, what bonuses paid included
    next_obs: Array  # (N, *obs_shape) the true successor, also at an episode's end
    terminated: Array  # (N,) bool: nothing comes after, the value beyond is zero
    truncated: Array  # (N,) bool: cut short, the value beyond still counts
    bonus: Array | None = None  # (N,) float32: the part of `reward` that bonuses paid; None where there are none


class Batch(NamedTuple):
    """What a loss sees. Episode ends and n-step returns are already inside `reward` and `discount`."""

    obs: Any  # (B, *obs_shape)
    action: Any  # (B, *action_shape)
    reward: Any  # (B,) n-step discounted sum
    discount: Any  # (B,) gamma**(actual n), 0 where the task ended
    next_obs: Any  # (B, *obs_shape) the observation n steps later
    weight: Any  # (B,) 1 for uniform replay
    indices: Any  # (B,) rows in the buffer


class ActionValues(NamedTuple):
    """What a value-based agent offers to an action selector."""

    mean: Array  # (N, A)
    std: Array | None = None  # (N, A) for posterior sampling
    samples: Array | None = None  # (K, N, A) ensemble heads
    visits: Array | None = None  # (N, A) for UCB
    moments: Array | None = None  # (N, A, 2) targets seen, sum of their squared deviations
    first: Array | None = None  # (N,) bool: an episode begins here
    envs: Array | None = None  # (N,) whose rows these are; None for those of all environments, in their order


@dataclass(frozen=True)
class EnvSpec:
    """What an agent may know of its environment."""

    id: str
    observation_space: gym.Space[Any]
    """Space of one environment's observation."""
    action_space: gym.Space[Any]
    """Space of one environment's action."""
    num_envs: int
    max_episode_steps: int | None = None
    frame_stack: int = 1
    """How many frames lie in the first dimension of an observation, each step a new one; 1 where none are stacked."""
    reward_threshold: float | None = None
    model: Model | None = None
    """Every probability of the environment, where it is finite and tells them; for planners and exact figures."""
    team: Team = ALONE
    """With whom the agent learns: `num_envs` is of this rank alone."""


class Problem(NamedTuple):
    """One thing that is wrong with a configuration, at a dotted path such as `agent.batch_size`."""

    path: str
    message: str


class RltrainError(Exception):
    """A failure that is explained to the user in one line and ends the program with `exit_code`."""

    exit_code = 1


def first_line(error: BaseException) -> str:
    """What an error says, in one line; its kind where it says nothing."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def raised(error: BaseException) -> str:
    """One line about an exception, with the place where it was raised."""
    kind, place = type(error).__name__, extract_tb(error.__traceback__)[-1]
    said = first_line(error)
    return f"raised {kind if said == kind else f'{kind}: {said}'} ({place.filename}:{place.lineno})"


class ConfigError(RltrainError):
    """The configuration is wrong. Carries every problem found, each a line ready to print."""

    exit_code = 2

    def __init__(self, *messages: str) -> None:
        super().__init__("\n".join(messages))
        self.messages: Sequence[str] = messages


UpdateMode = Literal["eager", "graphs", "compiled"]
"""How torch runs an update: call by call; from CUDA graphs where the device has them; or compiled, then so too.

All three give the same numbers, up to rounding. A network in NumPy has one way only, and looks at none of them.
"""


class CompilableNetwork(Protocol):
    """What is known of an agent's network above the agent; `nn/networks.py` has the rest."""

    mode: UpdateMode

    @property
    def device(self) -> str | None:
        """Where torch keeps it; None where it is NumPy."""


class Agent(Protocol):
    """An action-selection mechanism and an update rule; owns its memory, never sees the environment.

    Every agent is built as `__init__(config, spec, *, exploration, rng, device)` and has the class attribute
    `Config`, its settings. These say `explores_with` (`"selector"`, `"noise"` or None) and `offers`, the fields of
    `ActionValues` beside `mean` that the agent fills in. Where there is more to say they have `explores_by` (how an
    agent explores that takes no exploration, for the refusal of one), `remedies` (for a field
    that is not offered, the settings with which it is), `requires` (what an exploration must have, as
    `("probabilities",)`) and `learns_from_reward` (False where a bonus would do nothing). An agent may say what it
    `learns_with`, keys of its state such as `("replay",)` that a policy which only acts is loaded without; and that it
    `replays`, learns again from rewards of long ago, beside which no statistics may scale them.
    """

    @property
    def networks(self) -> Sequence[CompilableNetwork]:
        """The networks whose update may be compiled; none for a table."""

    def act(self, obs: Array, *, explore: bool = True) -> Array:
        """Choose actions (N, *action_shape) for `obs` (N, *obs_shape). No side effect without exploring."""

    def values(self, obs: Array) -> Array | None:
        """What the agent thinks actions (N, A) or states (N,) are worth; None if it has no such values."""

    def observe(self, transition: Transition) -> None:
        """Take in what the actions led to."""

    def update(self) -> Metrics:
        """Learn if it is time to; {} when nothing was learnt."""

    def abandon(self, env: int) -> None:
        """Forget the open episode of an environment: after a resume it could not be repeated, and begins anew."""

    def state_dict(self) -> State:
        """Everything that changes while training. What is large may be the agent's own memory, not a copy."""

    def load_state_dict(self, state: State) -> None:
        """Restore what `state_dict` returned, as copies."""


class Stateful(Protocol):
    """Anything whose state travels in the checkpoint."""

    def state_dict(self) -> State: ...
    def load_state_dict(self, state: State) -> None: ...


class ActionSelector(Stateful, Protocol):
    """Turns action values into actions. `needs` names fields of `ActionValues`, one of which it must have."""

    def select(self, values: ActionValues, step: int, rng: np.random.Generator) -> Array: ...
    def metrics(self, step: int) -> Metrics: ...


class ActionNoise(Stateful, Protocol):
    """Perturbs continuous actions (N, D), whose box is -1 to 1: one unit is half the range of an action.

    `first` (N,) says where an episode begins, `step` counts environment steps.
    """

    def perturb(self, action: Array, first: Array, step: int, rng: np.random.Generator) -> Array: ...
    def metrics(self, step: int) -> Metrics: ...


class RewardBonus(Stateful, Protocol):
    """Adds to the reward that the agent learns from, never to what is reported."""

    def bonus(self, transition: Transition) -> Array: ...  # (N,)
    def metrics(self) -> Metrics: ...  # of the latest step; the loop puts `exploration/` and the bonus before each
    def abandon(self, env: int) -> None: ...  # as the agent's


@dataclass
class Progress:
    """What one `Loop.advance` brought."""

    steps: int  # environment steps since the run began
    returns: list[float] = field(default_factory=list)  # undiscounted, of the episodes that ended
    lengths: list[int] = field(default_factory=list)  # environment steps of the same episodes
    successes: list[bool] = field(default_factory=list)  # of the same episodes, where the environment says
    metrics: Metrics = field(default_factory=dict)  # of the latest update
    lost: int = 0  # episodes that are over without an end, since a worker process was lost
    choices: int = 0  # actions that a selector chose
    exploratory: int = 0  # of these, the ones whose value was below the greatest
    actions: Array | None = None  # (K, A) how often each was taken, in each of K parts; None where they are continuous
    bonus: float | None = None  # sum of what was paid in bonuses since the run began; None without them

    def add(self, later: Progress) -> None:
        """Take in what came after this."""
        self.steps, self.bonus = later.steps, later.bonus
        self.returns += later.returns
        self.lengths += later.lengths
        self.successes += later.successes
        self.metrics.update(later.metrics)
        self.lost += later.lost
        self.choices += later.choices
        self.exploratory += later.exploratory
        if later.actions is not None:
            self.actions = later.actions if self.actions is None else self.actions + later.actions


class Loop(Protocol):
    """Runs an agent in its environments. Nothing above a loop can tell which one runs."""

    @property
    def steps(self) -> int:
        """Environment steps since the run began."""

    def advance(self, steps: int) -> Progress:
        """Take `steps` environment steps, rounded up to a multiple of the number of environments."""

    def state_dict(self) -> State: ...
    def load_state_dict(self, state: State) -> None: ...
