"""Atari games in ale-py's own vector, whose threads step them and scale their screens. This file loads ale-py.

What differs from that vector: rewards are never clipped where they are counted, a life that is lost ends the episode
for the agent and not the game, seeds are ours so that what was played can be repeated, and autoreset is off. A picture
is that of a second vector, which plays the same games and sees them whole and in colour.
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
from rltrain.envs.episode import FOREIGN, GOES_ON

MAX_SEED = 2**31 - 1
"""Of the emulator."""
LOG = 4_096
"""Steps whose actions there is room for at first."""
SEED_FOR = 10_000
"""Steps of a game on one seed, at least: the emulator loads the game anew for a seed, as long as it takes 200 steps."""
ENLARGED = 3
"""Pixels of a picture for each of a game's screen."""
SCREEN = (210, 160)
"""Height and width of a game's screen in most games; of the others it is scaled to this."""


class AtariVector(VectorEnv[Any, Any, Any]):
    """Steps N games of one kind; `training` decides whether lives and clipped rewards are what the agent gets."""

    fresh_obs = True
    """Screens lie in memory of their own, which no later step uses again: the loop need not copy them."""

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
        self._rngs = [np_random()[0] for _ in range(num_envs)]  # each draws the seeds of a game
        self._seeds = np.zeros(num_envs, np.int64)
        self._log = np.zeros((LOG, num_envs), np.uint8)  # actions
        self._time = 0  # steps in the log
        self._seeded = np.full(num_envs, -SEED_FOR)  # where in the log a game got its seed
        self._began = np.zeros(num_envs, np.int64)  # where in the log an episode begins
        self._resets: list[list[int]] = [[] for _ in range(num_envs)]  # where episodes began since the seed
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
        anew = (seed is not None) | (self._time - self._seeded >= SEED_FOR) | (self._time == self._began)
        for env in np.flatnonzero(begin & anew):
            self._seeds[env] = self._rngs[env].integers(MAX_SEED)
        if begin.any():
            self._begin(begin, anew)
        return self._obs, {}

    def _begin(self, begin: Array, anew: Array) -> None:
        """Begin episodes of these games (N,), those that are `anew` on their seeds; the others go on as they would."""
        how: Any = {"seed": np.where(anew, self._seeds, -1)[begin], "options": {"reset_mask": begin}}
        self._obs, info = self._games.reset(**how)
        if self._shown is not None:
            self._screens, _ = self._shown.reset(**how)
        self._lives, self._returns[begin], self._began[begin] = info["lives"], 0.0, self._time
        self._lost[begin] = False
        self._seeded[begin & anew] = self._time
        for env in np.flatnonzero(begin):
            self._resets[env] = [] if anew[env] else [*self._resets[env], self._time]

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
        infos = self._infos(done) if np.count_nonzero(done := terminated | truncated) else {}
        self._lost = lost = (info["lives"] < self._lives) & (info["lives"] > 0) & ~done
        if self._life_loss and np.count_nonzero(lost):
            self._goes_on, terminated = lost.copy(), terminated | lost
            infos[GOES_ON] = lost.copy()
        self._lives = info["lives"]
        # Scores are whole numbers, so that their sign is what clipping to -1 ... 1 gives, in a tenth of the time
        return self._obs, np.sign(reward) if self._clips else reward, terminated, truncated, infos

    def _infos(self, done: Array) -> dict[str, Any]:
        """Return and length in agent steps of the episodes that are over, in the form of Gymnasium's vectors."""
        return {
            "episode_return": np.where(done, self._returns, 0.0),
            "_episode_return": done,
            "episode_length": np.where(done, self._time - self._began, 0),
            "_episode_length": done.copy(),
        }

    def _make_room(self) -> None:
        """Forget the actions before the seeds; where most of them are needed, double the log."""
        oldest = int(self._seeded.min())
        kept = self._log[oldest:]
        self._log = np.zeros((max(LOG, 2 * len(kept)), self.num_envs), np.uint8)
        self._log[: len(kept)] = kept
        self._time, self._seeded, self._began = len(kept), self._seeded - oldest, self._began - oldest
        self._resets = [[at - oldest for at in each] for each in self._resets]

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
        """The seed of every game, and all since, from which `restore` returns to this very step."""
        return tuple(
            {
                "game": self.spec.id if self.spec else "",
                "seed": int(self._seeds[env]),
                "actions": self._log[self._seeded[env] : self._time, env].copy(),
                "resets": [at - int(self._seeded[env]) for at in self._resets[env]],
                "obs": self._obs[env].copy(),
                "rng": self._rngs[env].bit_generator.state,
            }
            for env in range(self.num_envs)
        )

    def restore(self, snapshots: list[State]) -> tuple[tuple[Any, str | None], ...]:
        """Begin the games again on their seeds and repeat what was done, all so that they end at the same step.

        Returns observations and, for those that could not be repeated, the reason; these begin a fresh episode.
        """
        reasons = [None if each.get("game") == self.spec.id else FOREIGN for each in snapshots]  # type: ignore[union-attr]
        for env, each in enumerate(snapshots):
            if reasons[env] is None:
                self._rngs[env].bit_generator.state, self._seeds[env] = each["rng"], each["seed"]
        nothing = np.zeros(0, np.uint8)
        self._repeat([(each.get("actions", nothing), each.get("resets", [])) for each in snapshots])
        for env, each in enumerate(snapshots):
            if reasons[env] is None and not np.array_equal(each["obs"], self._obs[env]):
                reasons[env] = "the emulator does not repeat itself from the same seed"
        if (anew := np.array([reason is not None for reason in reasons])).any():
            self._seeded[anew] = self._time - SEED_FOR
            self.reset(options={"reset_mask": anew})
        return tuple((self._obs[env].copy(), reason) for env, reason in enumerate(reasons))

    def _repeat(self, games: list[tuple[Array, list[int]]]) -> None:
        """Play actions, and the resets between them, of different lengths; until a game begins it is idle."""
        longest = max(len(log) for log, _ in games)
        begins = np.array([longest - len(log) for log, _ in games])
        resets = [{at + reset for reset in own} for at, (_, own) in zip(begins.tolist(), games, strict=True)]
        everybody = np.ones(self.num_envs, bool)
        self._begin(everybody, everybody)
        for step in range(longest + 1):
            anew, again = begins == step, np.array([step in own for own in resets])
            if step and (anew | again).any():
                self._begin(anew | again, anew)
            if step < longest:
                self.step([log[step - at] if step >= at else 0 for at, (log, _) in zip(begins, games, strict=True)])
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
