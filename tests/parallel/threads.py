"""Ranks that are threads of one process: fast, and without any network."""

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial

import numpy as np

from rltrain.collective import TeamLost
from rltrain.team import Team


class ThreadTeam(Team):
    """Exchanges arrays through a list that all ranks see."""

    def __init__(self, rank, size, slots, barrier):
        super().__init__(rank, size)
        self._slots, self._barrier = slots, barrier
        self.calls = 0

    def gather(self, x):
        self.calls += 1
        self._slots[self.rank] = np.array(x)
        self._meet()
        everyone = np.stack(self._slots)
        self._meet()
        return everyone

    def add(self, x):
        x[...] = self.gather(x).sum(0)

    def _meet(self):
        try:
            self._barrier.wait(20)
        except threading.BrokenBarrierError:
            raise TeamLost("the other ranks do not answer") from None


def teams(size):
    """The members of a team."""
    slots, barrier = [None] * size, threading.Barrier(size)
    return [ThreadTeam(rank, size, slots, barrier) for rank in range(size)]


def together(functions):
    """What these return, each called in a thread of its own."""
    with ThreadPoolExecutor(len(functions)) as pool:
        return [future.result() for future in [pool.submit(function) for function in functions]]


@contextmanager
def thread_ranks(make, size, *, gpu=False):
    """As `rltrain.ranks.ray_ranks`."""
    pools = [ThreadPoolExecutor(1) for _ in range(size)]
    ranks = together([partial(make, team) for team in teams(size)])
    yield [partial(pool.submit, rank.tell) for pool, rank in zip(pools, ranks, strict=True)]
    for pool in pools:
        pool.shutdown()
