"""Drawing rows in proportion to numbers that change: a tree of sums in three arrays.

Source: Schaul et al. 2016, appendix B.2.1, https://arxiv.org/abs/1511.05952, whose tree has two branches a node. Here a
node has 32, because one call of NumPy then works on a whole level for a whole batch: 3 levels in place of 20 for a
million rows, and no compiler has to be loaded.
"""

from __future__ import annotations

import numpy as np

from rltrain.core import Array

WIDTH = 32
"""Rows of a block, and blocks of a node above. Of 16, 32 and 64 the fastest."""
BELOW_ONE = 1 - 2.0**-53
"""The greatest number below 1: any other times this is the next below it."""


class SumTree:
    """Numbers p_i >= 0 of rows 0 to M - 1, and rows drawn with probability p_i / sum p.

    Sums are added up anew from what they are sums of, never corrected by differences. So they do not drift, and
    the numbers of the rows are all the state there is.
    """

    def __init__(self, capacity: int) -> None:
        nodes = -(-capacity // WIDTH**2)
        self._sums = np.zeros(nodes)  # of 1,024 rows each
        self._blocks = np.zeros((nodes, WIDTH))  # of 32 rows each
        self._rows = np.zeros((nodes * WIDTH, WIDTH))
        self._block, self._row = self._blocks.reshape(-1), self._rows.reshape(-1)  # the same memory, flat

    @property
    def total(self) -> float:
        """The sum of all numbers."""
        return float(self._sums.sum())

    def __getitem__(self, index: Array | slice) -> Array:
        """The numbers of these rows, in memory of their own."""
        return np.array(self._row[index])

    def __setitem__(self, index: Array, value: Array | float) -> None:
        """Give rows (B,) new numbers; of those for the same row the last one stays."""
        self._row[index] = value
        above = index // WIDTH
        self._block[above] = np.add.reduce(self._rows.take(above, 0), 1)
        above //= WIDTH
        self._sums[above] = np.add.reduce(self._blocks.take(above, 0), 1)

    def find(self, shares: Array) -> Array:
        """Rows (B,) at shares (B,) from 0 to 1 of the total: the first whose running sum is greater, or the last.

        A row whose number is 0 is never found, whatever rounding does. There must be one that is greater.
        """
        running = self._sums.cumsum()
        left = _inside(shares * running[-1], running[-1])
        at = running.searchsorted(left, side="right")
        left -= running[at] - self._sums[at]
        batch = np.arange(len(shares))
        for level in (self._blocks, self._rows):
            numbers = level.take(at, 0)  # in half the time of level[at]
            sums = numbers.cumsum(1)
            left = _inside(left, sums[:, -1])
            child = (sums > left[:, None]).argmax(1)
            left -= sums[batch, child] - numbers[batch, child]
            at = at * WIDTH + child
        return at


def _inside(left: Array, total: Array) -> Array:
    """What rounding left, no less than 0 and below the total."""
    return np.minimum(np.maximum(left, 0), total * BELOW_ONE)
