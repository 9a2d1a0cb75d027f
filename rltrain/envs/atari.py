"""Atari games in ale-py's own vector, whose threads step them and scale their screens. This file loads ale-py.

What differs from that vector: rewards are never clipped where they are counted, a life that is lost ends the episode
for the agent and not the game, every episode begins on a seed of its own so that it can be repeated, and autoreset is
off. A picture is that of a second vector, which plays the same games and sees them whole and in colour.
Legend: N games.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import gymnasium as gym
import numpy as np
from ale_py import Action
from ale_py.vector_env import AtariVectorEnv
from gymnasium.utils.seeding import np_random
from gymnasium.vector import AutoresetMode, VectorEnv

from rltrain.config.schema import AtariSettings, EnvSettings
from rltrain.core import Array, State
from rltrain.envs.episode import FOREIGN

MAX_SEED = 2**31 - 1
"""Of the emulator."""
LOG = 4_096
"""Steps whose actions there is room for at first."""
ENLARGED = 3
"""Pixels of a picture for each of a game's screen."""
SCREEN = (210, 160)
"""Height and width of a game's screen in most games; of the others it is scaled to this."""


class AtariVector(VectorEnv[Any, Any, Any]):
    """Steps N games of one kind; `training` decides whether lives and clipped rewards are what the agent gets."""

    def __init__(self, settings: EnvSettings, num_envs: int, *, training: bool, render_mode: str | None = None) -> None:
        atari = settings.atari
        assert atari is not None
        self.spec = gym.spec(settings.id)
        make = partial(_games, self.spec.kwargs["game"], num_envs, atari, settings.max_episode_steps)
        self._games = make((atari.size, atari.size), stack_num=atari.frame_stack)
        self._shown = None if render_mode is None else make(SCREEN, stack_num=1, grayscale=False)
        self._screens: Array = np.zeros((0,))  # of the second vector
        actions = list(self._games.ale.get_action_set())
        self._fire = actions.index(Action.FIRE) if atari.fire_on_life_loss and Action.FIRE in actions else None
        self.num_envs, self.render_mode = num_envs, render_mode
        self.metadata = {
            "autoreset_mode": AutoresetMode.DISABLED,
            "render_modes": ["rgb_array"],
            "render_fps": 60 // atari.frame_skip,
        }
        for name in ("single_observation_space", "single_action_space", "observation_space", "action_space"):
            setattr(self, name, getattr(self._games, name))
        self._clips, self._life_loss = training and atari.clip_reward, training and atari.life_loss
        self._rngs = [np_random()[0] for _ in range(num_envs)]  # each draws the seeds of a game's episodes
        self._seeds = np.zeros(num_envs, np.int64)  # of the open episodes
        self._log = np.zeros((LOG, num_envs), np.uint8)  # actions
        self._time = 0  # steps in the log
        self._began = np.zeros(num_envs, np.int64)  # where in the log an episode begins
        self._returns = np.zeros(num_envs)  # what the game paid in the open episodes
        self._lives = np.zeros(num_envs, np.int32)
        self._goes_on = np.zeros(num_envs, bool)  # the agent's episode is over, the game's is not
        self._lost = np.zeros(num_envs, bool)  # a life, in the latest step
        self._obs: Array = np.zeros((0,))

    def reset(self, *, seed: Any = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Begin episodes: of all games, or of those in `options["reset_mask"]`; one that goes on is left as it is.

        `seed` is a list with a seed for each game.
        """
        mask = (options or {}).get("reset_mask")
        begin = np.ones(self.num_envs, bool) if mask is None else mask & ~self._goes_on
        if seed is not None:
            for env in np.flatnonzero(begin):
                self._rngs[env] = np_random(seed[env])[0]
        self._goes_on[:] = False
        for env in np.flatnonzero(begin):
            self._seeds[env] = self._rngs[env].integers(MAX_SEED)
        if begin.any():
            self._begin(begin)
        return self._obs, {}

    def _begin(self, begin: Array) -> None:
        """Begin the episodes of these games (N,) on their seeds."""
        how: Any = {"seed": self._seeds[begin], "options": {"reset_mask": begin}}
        self._obs, info = self._games.reset(**how)
        if self._shown is not None:
            self._screens, _ = self._shown.reset(**how)
        self._lives, self._returns[begin], self._began[begin] = info["lives"], 0.0, self._time
        self._lost[begin] = False

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        """Take a step in every game."""
        actions = np.asarray(actions, np.int64)
        if self._fire is not None and np.count_nonzero(self._lost):
            actions = np.where(self._lost, self._fire, actions)
        if self._time == len(self._log):
            self._make_room()
        self._log[self._time] = actions
        self._time += 1
        self._obs, reward, terminated, truncated, info = self._games.step(actions)
        if self._shown is not None:
            self._screens = self._shown.step(actions)[0]
        self._returns += reward
        infos = self._infos(terminated | truncated) if np.count_nonzero(terminated | truncated) else {}
        self._lost = lost = (info["lives"] < self._lives) & (info["lives"] > 0) & ~terminated & ~truncated
        if self._life_loss and np.count_nonzero(lost):
            self._goes_on, terminated = lost.copy(), terminated | lost
            infos["goes_on"] = lost.copy()
        self._lives = info["lives"]
        return self._obs, np.clip(reward, -1, 1) if self._clips else reward, terminated, truncated, infos

    def _infos(self, done: Array) -> dict[str, Any]:
        """Return and length in agent steps of the episodes that are over, in the form of Gymnasium's vectors."""
        return {
            "episode_return": np.where(done, self._returns, 0.0),
            "_episode_return": done,
            "episode_length": np.where(done, self._time - self._began, 0),
            "_episode_length": done.copy(),
        }

    def _make_room(self) -> None:
        """Forget the actions of closed episodes; where most of them are open, double the log."""
        oldest = int(self._began.min())
        kept = self._log[oldest:]
        self._log = np.zeros((max(LOG, 2 * len(kept)), self.num_envs), np.uint8)
        self._log[: len(kept)] = kept
        self._time, self._began = len(kept), self._began - oldest

    def call(self, name: str, *args: Any) -> tuple[Any, ...]:
        """Call one of the methods below, which do for every game what `Episode`'s do for one environment."""
        result: tuple[Any, ...] = getattr(self, name)(*args)
        return result

    def running_return(self) -> tuple[float, ...]:
        """Unclipped returns of the open episodes so far."""
        return tuple(self._returns.tolist())

    def render(self) -> tuple[Array, ...]:  # type: ignore[override]
        """The screen of every game in its colours, enlarged: (H, W, 3)."""
        return tuple(self._screens[:, -1].repeat(ENLARGED, 1).repeat(ENLARGED, 2))

    def snapshot(self) -> tuple[State, ...]:
        """How every open episode began and the actions since, from which `restore` returns to this very step."""
        return tuple(
            {
                "game": self.spec.id if self.spec else "",
                "seed": int(self._seeds[env]),
                "actions": self._log[self._began[env] : self._time, env].copy(),
                "obs": self._obs[env].copy(),
                "rng": self._rngs[env].bit_generator.state,
            }
            for env in range(self.num_envs)
        )

    def restore(self, snapshots: list[State]) -> tuple[tuple[Any, str | None], ...]:
        """Begin the saved episodes again and repeat their actions, all so that they end at the same step.

        Returns observations and, for those that could not be repeated, the reason; these begin a fresh episode.
        """
        reasons = [None if each.get("game") == self.spec.id else FOREIGN for each in snapshots]  # type: ignore[union-attr]
        for env, each in enumerate(snapshots):
            if reasons[env] is None:
                self._rngs[env].bit_generator.state, self._seeds[env] = each["rng"], each["seed"]
        self._repeat([each.get("actions", np.zeros(0, np.uint8)) for each in snapshots])
        for env, each in enumerate(snapshots):
            if reasons[env] is None and not np.array_equal(each["obs"], self._obs[env]):
                reasons[env] = "the emulator does not repeat itself from the same seed"
        if (anew := np.array([reason is not None for reason in reasons])).any():
            self.reset(options={"reset_mask": anew})
        return tuple((self._obs[env].copy(), reason) for env, reason in enumerate(reasons))

    def _repeat(self, logs: list[Array]) -> None:
        """Play logs of different lengths, none of which is over before its end; until one begins its game is idle."""
        longest = max(map(len, logs))
        begins = np.array([longest - len(log) for log in logs])
        self._begin(np.ones(self.num_envs, bool))
        for step in range(longest + 1):
            if step and (begins == step).any():
                self._begin(begins == step)
            if step < longest:
                self.step([log[step - at] if step >= at else 0 for log, at in zip(logs, begins, strict=True)])
        self._goes_on = np.zeros(self.num_envs, bool)

    def close_extras(self, **kwargs: Any) -> None:
        """Stop the threads."""
        del self._games, self._shown


def _games(
    game: str,
    num_envs: int,
    atari: AtariSettings,
    limit: int | None,
    size: tuple[int, int],
    **seen: Any,
) -> AtariVectorEnv:
    """ale-py's vector of these games; all that decides what happens in them is the same whatever is `seen`."""
    return AtariVectorEnv(
        game,
        num_envs,
        num_threads=atari.threads or 0,
        max_num_frames_per_episode=(limit or atari.max_episode_steps) * atari.frame_skip,
        repeat_action_probability=atari.sticky_actions,
        full_action_space=atari.full_action_space,
        img_height=size[0],
        img_width=size[1],
        frameskip=atari.frame_skip,
        noop_max=atari.noop_max,
        use_fire_reset=atari.fire_reset,
        reward_clipping=False,
        **seen,
    )
