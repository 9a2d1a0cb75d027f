"""How weights begin."""

from __future__ import annotations

from typing import Literal

import numpy as np

from rltrain.core import Array

Init = Literal["uniform", "orthogonal"]


def orthogonal(rows: int, columns: int, rng: np.random.Generator) -> Array:
    """A matrix whose shorter side is orthonormal, uniformly drawn."""
    q, r = np.linalg.qr(rng.normal(size=(max(rows, columns), min(rows, columns))))
    q *= np.sign(np.diag(r))  # without this the draw is not uniform
    return q if rows >= columns else q.T
