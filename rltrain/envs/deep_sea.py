"""DeepSea: only one sequence of actions in 2^size finds the treasure, and every step towards it costs something."""

from __future__ import annotations

import numpy as np

from rltrain.envs.finite import FiniteEnv, Outcomes, start_at

COST = 0.01
"""Price of going right in every row, together."""


class DeepSea(FiniteEnv):
    """A grid of `size` rows; each step leads one row down, to the left or to the right.

    The treasure of 1 lies at the bottom right; a move to the right costs 0.01 / size, one to the left nothing. In
    every cell it is drawn once, by `mapping_seed`, which of the two actions means right. The best return is 0.99;
    random actions find it with probability 2^-size. With `stochastic`, a move to the right stays in its column with
    probability 1 / size, and the last one is paid all the same: the treasure is reached with probability
    (1 - 1/size)^(size - 1) at best, 0.39 for size 10.

    Source: Osband et al. 2020, "Behaviour Suite for Reinforcement Learning", https://arxiv.org/abs/1908.03568; without
    its noise on the reward of the last row, so that the table of outcomes is finite.
    """

    def __init__(
        self, size: int = 10, stochastic: bool = False, mapping_seed: int = 42, render_mode: str | None = None
    ) -> None:
        if size < 2:
            raise ValueError(f"size must be at least 2, not {size}")
        self.size = size
        rights = np.random.default_rng(mapping_seed).integers(0, 2, (size, size))
        slip = 1 / size if stochastic else 0.0
        table: Outcomes = {}
        for state in range(size * size):
            row, column = divmod(state, size)
            right = int(rights[row, column])
            table[state] = {right: self._right(row, column, slip), 1 - right: self._left(row, column)}
        super().__init__(table, start_at(0, size * size), render_mode)

    def _cell(self, row: int, column: int) -> int:
        """The cell below, or the same where there is none."""
        return min(row, self.size - 1) * self.size + min(max(column, 0), self.size - 1)

    def _left(self, row: int, column: int) -> list[tuple[float, int, float, bool]]:
        return [(1.0, self._cell(row + 1, column - 1), 0.0, row == self.size - 1)]

    def _right(self, row: int, column: int, slip: float) -> list[tuple[float, int, float, bool]]:
        last, cost = row == self.size - 1, COST / self.size
        treasure = 1.0 if last and column == self.size - 1 else 0.0
        outcomes = [(1.0 - slip, self._cell(row + 1, column + 1), treasure - cost, last)]
        if slip:
            outcomes.append((slip, self._cell(row + 1, column), treasure - cost, last))
        return outcomes

    def picture(self, state: int) -> str:
        """The row, and where in it the diver is."""
        row, column = divmod(state, self.size)
        return f"row {row:2d} " + "".join("o" if place == column else "." for place in range(self.size))
