"""Memory that the passes of a perceptron write into, made once."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from rltrain.core import Array


class Workspace:
    """Memory for the outputs of every layer, for as many rows as were ever asked for."""

    def __init__(self, sizes: Sequence[int], extra: int, *, normalised: bool = False) -> None:
        self._sizes, self._wide, self._rows = sizes[1:], sizes[-1] + extra, 0
        self._outputs: list[Array] = []
        self._views: list[Array] = []  # of the rows that were asked for last
        self._hidden: list[tuple[Array, Array]] = []
        self._normalised, self._plain = normalised, [None] * (len(self._sizes) - 1)
        self._normal: list[tuple[Array, Array]] = []
        self._widened = np.empty((0, self._wide), np.float32)

    def outputs(self, rows: int) -> list[Array]:
        """Outputs of every layer, (rows, units) each."""
        if rows > self._rows:
            self._rows, self._hidden, self._normal = rows, [], []
            self._outputs = [np.empty((rows, size), np.float32) for size in self._sizes]
            self._widened = np.empty((rows, self._wide), np.float32)
        if not self._views or len(self._views[0]) != rows:
            self._views = [part[:rows] for part in self._outputs]
        return self._views

    def hidden(self, rows: int) -> list[tuple[Array, Array]]:
        """Room for slopes and gradients of the hidden layers, (rows, units) each; only a backward pass needs it."""
        if not self._hidden:
            self._hidden = [(np.empty_like(part), np.empty_like(part)) for part in self._outputs[:-1]]
        return [(slopes[:rows], grads[:rows]) for slopes, grads in self._hidden]

    def normal(self, rows: int) -> Sequence[tuple[Array, Array] | None]:
        """Of every hidden layer its normalised units (rows, units), and what a row was multiplied by (rows, 1)."""
        if not self._normalised:
            return self._plain
        if not self._normal:
            self._normal = [(np.empty_like(part), np.empty_like(part[:, :1])) for part in self._outputs[:-1]]
        return [(units[:rows], scales[:rows]) for units, scales in self._normal]

    def widened(self, outputs: Array, *others: Array) -> Array:
        """Outputs with others after them, each (rows, units) or the same (units,) for every row."""
        wide, at = self._widened[: len(outputs)], 0
        for part in (outputs, *others):
            wide[:, at : at + part.shape[-1]] = part
            at += part.shape[-1]
        return wide
