"""Mean and variance of a stream of vectors, and vectors in their units."""

from __future__ import annotations

import numpy as np

from rltrain.core import Array, State


class RunningMoments:
    """Mean and population variance of everything given to `update`, in float64.

    Blocks of rows are merged by the parallel formula, with the deviations taken from the mean so far: a small
    variance beside a great mean keeps its digits.
    Source: Chan, Golub and LeVeque 1979, "Updating Formulae and a Pairwise Algorithm for Computing Sample Variances",
    equation 2.1.
    """

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.count = 0
        self.mean = np.zeros(shape)
        self._squares = np.zeros(shape)  # sum of squared deviations from the mean

    @property
    def var(self) -> Array:
        """Population variance; 1 while there is nothing to tell it from."""
        return self._squares / self.count if self.count else np.ones_like(self._squares)

    def update(self, rows: Array) -> None:
        """Take in rows (n, *shape)."""
        n = len(rows)
        if n == 0:
            return
        if self.count == 0:
            self.mean = np.array(rows[0], np.float64)  # any value near the data will do to take deviations from
        total = self.count + n
        deviation = rows - self.mean
        shift = np.add.reduce(deviation, 0) / total  # of the mean
        self._squares += np.add.reduce(deviation * deviation, 0) - total * shift * shift
        np.maximum(self._squares, 0.0, out=self._squares)  # rounding, where all values are equal
        self.mean += shift
        self.count = total

    def state_dict(self) -> State:
        """Mean, sum of squared deviations, and count."""
        return {"mean": self.mean.copy(), "squares": self._squares.copy(), "count": self.count}

    def load_state_dict(self, state: State) -> None:
        """Restore what `state_dict` returned."""
        self.count = int(state["count"])
        self.mean = np.array(state["mean"], np.float64)
        self._squares = np.array(state["squares"], np.float64)


class Standardizer(RunningMoments):
    """clip((x - mean) / sqrt(variance + epsilon), -clip, clip), by everything given to `update`."""

    def __init__(self, shape: tuple[int, ...], *, epsilon: float, clip: float) -> None:
        super().__init__(shape)
        self._epsilon, self._clip = epsilon, clip
        self._deviation: Array | None = None  # kept while the moments stay as they are

    def __call__(self, rows: Array) -> Array:
        """Rows (n, *shape) float32."""
        if self._deviation is None:
            self._deviation = np.sqrt(self.var + self._epsilon)
        normal = (rows - self.mean) / self._deviation
        clip = self._clip
        return np.asarray(np.minimum(np.maximum(normal, -clip), clip), np.float32)  # np.clip costs three times as much

    def update(self, rows: Array) -> None:
        """Take in rows (n, *shape)."""
        super().update(rows)
        self._deviation = None

    def load_state_dict(self, state: State) -> None:
        """Restore what `state_dict` returned."""
        super().load_state_dict(state)
        self._deviation = None
