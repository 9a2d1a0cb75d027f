"""SparseGrid: four rooms, a key in one and a door in another, and no reward before both were found in order."""

from __future__ import annotations

from collections.abc import Iterator

from rltrain.envs.finite import FiniteEnv, Outcomes, start_at

MOVES = {0: (0, -1), 1: (1, 0), 2: (0, 1), 3: (-1, 0)}
"""left, down, right, up, as in FrozenLake"""


class SparseGrid(FiniteEnv):
    """Four rooms of `room` x `room` cells, joined by gaps in the walls; a state is a cell, without or with the key.

    One begins in the middle of the upper left room. The key lies in the corner of the lower left one and is taken by
    stepping on its cell; the goal is the corner of the upper right one, and pays 1 to whoever comes with the key, which
    ends the episode. Everything else pays 0. With probability `slip` a move goes to one of the two sides instead.

    Source: the four rooms of Sutton, Precup and Singh 1999, https://doi.org/10.1016/S0004-3702(99)00052-1, with a key.
    """

    def __init__(self, room: int = 5, slip: float = 0.0, render_mode: str | None = None) -> None:
        if room < 2 or not 0 <= slip < 1:
            raise ValueError(f"room must be at least 2 and slip within 0 and 1, not {room} and {slip}")
        side, gap = 2 * room + 1, room // 2
        walls = {(room, k) for k in range(side)} | {(k, room) for k in range(side)}
        walls -= {(gap, room), (side - 1 - gap, room), (room, gap), (room, side - 1 - gap)}
        self.cells = [(row, column) for row in range(side) for column in range(side) if (row, column) not in walls]
        self._numbers = {cell: number for number, cell in enumerate(self.cells)}
        self.side, self.key, self.goal, self.slip = side, (side - 1, 0), (0, side - 1), slip
        table: Outcomes = {
            number + key * len(self.cells): {move: list(self._outcomes(cell, bool(key), move)) for move in MOVES}
            for key in (0, 1)
            for number, cell in enumerate(self.cells)
        }
        first = self._numbers[gap, gap]
        super().__init__(table, start_at(first, 2 * len(self.cells)), render_mode)

    def _outcomes(self, cell: tuple[int, int], has_key: bool, move: int) -> Iterator[tuple[float, int, float, bool]]:
        sides = ((move, 1.0 - self.slip), ((move + 1) % 4, self.slip / 2), ((move - 1) % 4, self.slip / 2))
        for direction, probability in sides:
            if probability:
                yield probability, *self._enter(cell, has_key, direction)

    def _enter(self, cell: tuple[int, int], has_key: bool, move: int) -> tuple[int, float, bool]:
        """State, reward and whether the task is over, after a move that a wall may stop."""
        step = MOVES[move]
        there = (cell[0] + step[0], cell[1] + step[1])
        cell = there if there in self._numbers else cell
        has_key = has_key or cell == self.key
        over = has_key and cell == self.goal
        return self._numbers[cell] + has_key * len(self.cells), float(over), over

    def picture(self, state: int) -> str:
        """The rooms: `o` without and `@` with the key."""
        has_key, number = divmod(state, len(self.cells))
        marks = {self.key: "." if has_key else "k", self.goal: "G", self.cells[number]: "@" if has_key else "o"}
        rows = (
            "".join(
                marks.get((row, column), "." if (row, column) in self._numbers else "#") for column in range(self.side)
            )
            for row in range(self.side)
        )
        return "\n".join(rows)
