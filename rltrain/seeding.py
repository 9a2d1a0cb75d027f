"""Every random stream of a run comes from one seed, and no two streams are the same.

Gymnasium's own `seed + i` gives run 1 the environments of run 0, moved by one; here each stream is a
child of `numpy.random.SeedSequence(seed)`, told apart by its purpose and its number.
Source: O'Neill 2015, https://www.pcg-random.org/posts/developing-a-seed_seq-alternative.html
"""

from __future__ import annotations

from enum import IntEnum

import numpy as np


class Stream(IntEnum):
    """What a random stream is for. A number, once given, stays: it decides what a seed means."""

    AGENT = 0
    TRAIN_ENVS = 1
    TRAIN_EVAL = 2
    STOP_EVAL = 3
    REPORT_EVAL = 4
    RANDOM_POLICY = 5
    BONUSES = 6
    TUNING = 7


def seed_sequence(seed: int, stream: Stream, *key: int) -> np.random.SeedSequence:
    """The seed sequence of one stream of the run with this seed."""
    return np.random.SeedSequence(seed, spawn_key=(int(stream), *key))


def generator(seed: int, stream: Stream, *key: int) -> np.random.Generator:
    """A fresh generator of one stream."""
    return np.random.Generator(np.random.PCG64(seed_sequence(seed, stream, *key)))


def env_seeds(seed: int, stream: Stream, count: int, *key: int) -> list[int]:
    """Seeds for `count` environments, each a 63-bit number as `Env.reset(seed=...)` takes it."""
    children = (seed_sequence(seed, stream, *key, index) for index in range(count))
    return [int(child.generate_state(1, np.uint64)[0] >> np.uint64(1)) for child in children]
