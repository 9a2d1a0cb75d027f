"""The blocks of a configuration file. The blocks of components are added by name when it is loaded."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

from pydantic import Field

from rltrain.config.seeds import Seeds, seeds_of
from rltrain.config.tune import TuneSettings
from rltrain.core import EnvSpec
from rltrain.schedules import Constant, Ramp
from rltrain.settings import Settings

NONE_EARLY = "nothing is evaluated before the end: set eval.every to less than train.total_steps"
"""Why what waits for an evaluation does nothing."""


class AtariSettings(Settings):
    """How games of the Arcade Learning Environment are seen and played, by ale-py's own vector and its threads.

    Source: Machado et al. 2018, "Revisiting the Arcade Learning Environment", https://arxiv.org/abs/1709.06009
    """

    sticky_actions: float = Field(default=0.25, ge=0, le=1)
    """Probability that a frame repeats the action before; 0.25 is what v5 ids mean, older results have 0."""
    life_loss: bool = False
    """In training a life that is lost ends the episode for the agent, while the game goes on."""
    clip_reward: bool = True
    """In training rewards are cut to -1 ... 1; every return that is reported is the game's score."""
    frame_skip: int = Field(default=4, ge=1, le=60)
    """Frames that an action lasts, of which the last two are seen as one."""
    frame_stack: int = Field(default=4, ge=1, le=64)
    """Frames seen at once."""
    size: int = Field(default=84, ge=8, le=210)
    """Height and width in grey pixels to which the screen is scaled."""
    noop_max: int = Field(default=30, ge=0, le=1_000)
    """An episode begins with fewer frames than this without an action, as many as are drawn."""
    fire_reset: bool = True
    """Press the fire button first, where there is one, as ale-py's own vector does."""
    fire_on_life_loss: bool = False
    """Press it also in the step after a lost life, whatever the agent chose, in evaluation too.

    Without it a game like Breakout stands still until the agent presses the button. Neither ale-py nor Gymnasium does
    so; OpenAI's baselines and Stable-Baselines3 do.
    """
    full_action_space: bool = False
    """All 18 actions, also those that do nothing in this game."""
    threads: int | None = Field(default=None, ge=1, le=1_024)
    """That step the games; null for one a core."""

    @property
    def max_episode_steps(self) -> int:
        """An episode is cut short after half an hour of play, 108,000 frames, as in all published results."""
        return 108_000 // self.frame_skip


class EnvSettings(Settings):
    """Which environment, how many of it, and what is wrapped around it."""

    id: str
    """A registered Gymnasium id, such as CartPole-v1."""
    num_envs: int = Field(default=1, ge=1, le=100_000)
    """Environments that step together."""
    vectorization: Literal["auto", "compiled", "sync", "async"] = "auto"
    """sync: one after the other in this process; async: a worker process each, for heavy environments.

    compiled: all at once, for Gymnasium's classic control tasks without kwargs and wrappers of single environments,
    with the same numbers; auto takes it where it can, else sync.
    """
    worker_timeout: float = Field(default=60.0, gt=0, le=86_400)
    """async: seconds after which a worker that does not answer is killed and replaced."""
    worker_restarts: int = Field(default=3, ge=0)
    """async: workers that may be replaced before the run ends; evaluation and a resumed run count by themselves."""
    atari: AtariSettings | None = None
    """For ids that begin with ALE/: the usual preprocessing, `{}` for its defaults; null for raw screens."""
    kwargs: dict[str, Any] = {}
    """Keyword arguments of the environment itself."""
    max_episode_steps: int | None = Field(default=None, ge=1, le=10**9)
    """Time limit in steps; null keeps the environment's own."""
    wrappers: tuple[Settings, ...] = ()
    """Applied from first to last; each is chosen by `name`. Those that see all environments together come last."""

    def notes(self, spec: EnvSpec) -> Iterator[str]:
        """What a user of games should know who left out how they are seen."""
        if self.id.startswith("ALE/") and self.atari is None:
            yield "env.atari is not set: the agent sees raw screens; `env.atari: {}` takes the usual preprocessing"


class StopSettings(Settings):
    """When to stop before `total_steps`."""

    return_: float | None = Field(default=None, alias="return")
    """Stop when an evaluation reaches this mean return and 100 fresh greedy episodes confirm it.

    Where the environment tells its model, the exact return decides.
    """
    minutes: float | None = Field(default=None, gt=0)
    """Stop after this much time, checkpoints and evaluations included."""


class TrainSettings(Settings):
    """How long to train and how often to log."""

    total_steps: int = Field(gt=0)
    """Environment steps, summed over all environments."""
    log_every: int = Field(default=1_000, ge=1)
    """Environment steps between log entries."""
    compile: Literal["auto", "on", "off"] = "auto"
    """Whether to compile, which gives the same numbers; auto where the run is long enough to pay for it.

    For a table it is the whole loop, by Numba; for a network that runs through torch the update, by torch: on a CPU
    those of iqn, and with other activations than relu and tanh. On a CUDA device the update runs from CUDA graphs,
    unless this is off.
    """
    data_parallel: int = Field(default=1, ge=1, le=10_000)
    """Processes that learn one agent together, on one machine or many, each with `env.num_envs` environments.

    Gradients are averaged, and the result is that of one process with all the environments, up to rounding. For
    ppo, a2c and actor_critic; needs Ray.
    """
    stop: StopSettings = StopSettings()


class SuccessSettings(Settings):
    """When an episode counts as a success."""

    return_at_least: float
    """An episode with this undiscounted return or more is a success."""


class EvalSettings(Settings):
    """Greedy evaluation while training, on its own stream of seeds."""

    every: int | None = Field(default=10_000, ge=1)
    """Environment steps between evaluations; null for one at the end alone."""
    episodes: int = Field(default=20, ge=1, le=100_000)
    """Episodes of each evaluation."""
    max_episode_steps: int | None = Field(default=None, ge=1, le=10**9)
    """Hard cap below the environment's own limit; null takes that limit, or 1,000 steps where there is none."""
    success: SuccessSettings | None = None
    """null takes `is_success` from the environment's info, or else its reward threshold."""


class CheckpointSettings(Settings):
    """How often to save, and how many checkpoints to keep."""

    every: int | None = Field(default=10_000, ge=1)
    """Environment steps between checkpoints; null for only one at the end."""
    keep_last: int = Field(default=3, ge=1)
    """Newest checkpoints kept."""
    keep_best: int = Field(default=1, ge=0)
    """Checkpoints kept beside them: those of the greatest evaluation."""


class Config(Settings):
    """A whole experiment: everything that decides what a run does."""

    env: EnvSettings
    agent: Settings
    """What learns, by its `name`."""
    exploration: Settings | None = None
    """How actions are explored; left out for agents that explore by themselves."""
    bonuses: tuple[Settings, ...] = ()
    """Added to the reward that the agent learns from, never to what is reported."""
    train: TrainSettings
    eval: EvalSettings = EvalSettings()
    checkpoint: CheckpointSettings = CheckpointSettings()
    seed: int = Field(default=0, ge=0, lt=2**63)
    """Everything random of the run follows from it."""
    seeds: Seeds = None
    """Trains several seeds, each in a run of its own: a number n for `seed` to `seed` + n - 1, a list, or "0-4,7"."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """auto takes a GPU for hidden layers of 300 units or more; smaller networks are faster on the CPU."""
    tune: TuneSettings | None = None
    """What `rltrain tune` searches; every other command leaves it aside."""

    @property
    def group(self) -> list[int] | None:
        """The seeds of a group of runs; None for a single run, which 1 means too."""
        return None if self.seeds in (None, 1) else seeds_of(self.seeds, self.seed)

    @property
    def evaluated_early(self) -> bool:
        """Whether there is an evaluation before the end."""
        return self.eval.every is not None and self.eval.every < self.train.total_steps

    @property
    def parts(self) -> list[Settings]:
        """The settings of every part that has a name."""
        found = (self.agent, self.exploration, *self.bonuses, *self.env.wrappers)
        return [part for part in found if part is not None]

    def notes(self, spec: EnvSpec) -> Iterator[str]:
        """What a user should be told of any part, of what has no effect, and of schedules that do not fit the run."""
        for part in (self.env, *self.parts):
            yield from part.notes(spec)
        for path, schedule in _schedules(self):
            if told := schedule.misfit(path, self.train.total_steps):
                yield told
        if isinstance(self.seeds, str | tuple) and any(self.changed("seed")):
            yield f"seed {self.seed} is not used: seeds says which there are"
        cap, limit = self.eval.max_episode_steps, spec.max_episode_steps
        if cap is not None and limit is not None and cap > limit:
            yield f"eval.max_episode_steps {cap:,} does nothing: an episode ends after {limit:,} steps anyway"

    def single(self, seed: int) -> Config:
        """The configuration of one run of the group."""
        return self.model_copy(update={"seed": seed, "seeds": None, "tune": None})


def _schedules(settings: Settings, path: str = "") -> Iterator[tuple[str, Constant | Ramp]]:
    """Every schedule, by its path."""
    for name in type(settings).model_fields:
        value = getattr(settings, name)
        many = isinstance(value, tuple)
        for index, each in enumerate(value if many else (value,)):
            key = f"{path}{name}[{index}]" if many else path + name
            if isinstance(each, Constant | Ramp):
                yield key, each
            elif isinstance(each, Settings):
                yield from _schedules(each, key + ".")
