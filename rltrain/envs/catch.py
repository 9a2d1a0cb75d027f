"""Catch: a ball falls down a small board of pixels, and a paddle must be where it lands."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np

from rltrain.core import Array

SCALE = 16
"""Pixels in a picture for each on the board."""


class Catch(gym.Env[Array, Any]):
    """A board of `rows` by `columns` pixels, on which ball and paddle are 255 and all else is 0.

    The ball begins in a random column of the top row and falls one row a step; actions move the paddle, which begins in
    the middle of the bottom row, left, not at all, or right. When the ball lands the episode ends, with a reward of 1
    where the paddle is below it and -1 where it is not. The best return is 1: every column can be reached in time
    wherever the ball falls, as long as rows > columns / 2.

    Source: Osband et al. 2020, "Behaviour Suite for Reinforcement Learning", https://arxiv.org/abs/1908.03568.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 5}

    def __init__(self, rows: int = 10, columns: int = 5, render_mode: str | None = None) -> None:
        if columns < 1 or rows < 2 or rows <= columns / 2:
            raise ValueError(f"a board of {rows} rows and {columns} columns leaves no time to reach the ball")
        self.render_mode = render_mode
        self._shape = rows, columns
        self.observation_space = gym.spaces.Box(0, 255, self._shape, np.uint8)
        self.action_space = gym.spaces.Discrete(3)
        self._ball, self._paddle = [0, 0], 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Array, dict[str, Any]]:
        """Drop a ball."""
        super().reset(seed=seed, options=options)
        _, columns = self._shape
        self._ball, self._paddle = [0, int(self.np_random.integers(columns))], columns // 2
        return self._board(), {}

    def step(self, action: Any) -> tuple[Array, float, bool, bool, dict[str, Any]]:
        """Move the paddle, and let the ball fall."""
        if not self.action_space.contains(action):
            raise ValueError(f"there is no action {action!r}")
        rows, columns = self._shape
        self._paddle = min(max(self._paddle + int(action) - 1, 0), columns - 1)
        self._ball[0] += 1
        landed = self._ball[0] == rows - 1
        caught = self._ball[1] == self._paddle
        return self._board(), float(landed * (1 if caught else -1)), landed, False, {}

    def _board(self) -> Array:
        board = np.zeros(self._shape, np.uint8)
        board[self._ball[0], self._ball[1]] = board[-1, self._paddle] = 255
        return board

    def render(self) -> Array | None:  # type: ignore[override]
        """The board, enlarged (rows * 16, columns * 16, 3)."""
        if self.render_mode is None:
            return None
        return np.kron(self._board(), np.ones((SCALE, SCALE), np.uint8))[:, :, None].repeat(3, axis=2)
