"""The ranks of a run as actors of Ray: one process each, on this machine or spread over those of a cluster."""

from __future__ import annotations

import socket
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple

from rltrain.cluster import NoCluster, connected
from rltrain.collective import TorchTeam, joined_store, opened_store
from rltrain.parallel import Call, Rank, RankFailed, Told, answers, told
from rltrain.registry import load_plugins, plugins
from rltrain.sittings import usable_cores, what_runs
from rltrain.team import Team

PLACES_SECONDS = 60.0
"""How long a cluster that is busy is waited for."""


class Surroundings(NamedTuple):
    """What every rank must have as the run has it."""

    meeting: tuple[str, int]
    """Where the ranks find each other."""
    path: list[str]
    """Where modules are looked for."""
    plugins: list[str]
    runs: dict[str, str]
    """Versions of all that decides what a run does."""

    def enter(self) -> None:
        """Look for modules where the run does, and have the user's own. Raises RankFailed where versions differ."""
        others = what_runs()
        if changed := sorted(name for name in self.runs if self.runs[name] != others.get(name)):
            raise RankFailed(f"{', '.join(changed)} on {socket.gethostname()} are not as where the run was started")
        sys.path.extend(place for place in self.path if place not in sys.path)
        load_plugins(self.plugins)


class RankActor:
    """A process with one rank in it."""

    def __init__(self) -> None:
        self._store: Any = None
        self._rank: Rank

    def meet(self) -> tuple[str, int]:
        """Open the store in which the ranks find each other; returns where."""
        import ray

        host = ray.util.get_node_ip_address()  # type: ignore[no-untyped-call]
        self._store, port = opened_store(host)
        return host, port

    def begin(self, here: Surroundings, make: Callable[[Team], Rank], rank: int, size: int, gpu: bool) -> Told:
        """Join the others, and make what this rank has."""

        def joined() -> None:
            here.enter()
            store = self._store or joined_store(*here.meeting)
            self._rank = make(TorchTeam(rank, size, store, gpu=gpu))

        return told(joined)

    def tell(self, method: str, *arguments: Any) -> Told:
        """What a method of the rank returns."""
        return self._rank.tell(method, *arguments)


@contextmanager
def ray_ranks(make: Callable[[Team], Rank], size: int, *, gpu: bool) -> Iterator[list[Call]]:
    """Ranks while this is entered, each with a core of its own and, with `gpu`, a GPU.

    Raises ConfigError where Ray is not installed; NoCluster where it has no room for them; RankFailed where one cannot
    be made.
    """
    with connected(cpus=max(size, usable_cores())) as ray, _places(ray, size, gpu) as places:
        actor = ray.remote(RankActor)
        actors = [actor.options(**place).remote() for place in places]
        try:
            meeting = ray.get(actors[0].meet.remote())
            here = Surroundings(meeting, list(sys.path), list(plugins), what_runs())
            answers([each.begin.remote(here, make, rank, size, gpu).future() for rank, each in enumerate(actors)])
            yield [partial(_call, each) for each in actors]
        finally:
            for each in actors:
                ray.kill(each)


@contextmanager
def _places(ray: Any, size: int, gpu: bool) -> Iterator[list[dict[str, Any]]]:
    """Where actors are put, over as many machines as there are. Raises NoCluster."""
    from ray.util.placement_group import placement_group, remove_placement_group
    from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

    needs = {"CPU": 1.0, **({"GPU": 1.0} if gpu else {})}
    group = placement_group([needs] * size, strategy="SPREAD")
    try:
        if not group.wait(PLACES_SECONDS):
            has = ray.cluster_resources()
            told = ", ".join(f"{has.get(name, 0):g} {name}s" for name in needs)
            raise NoCluster(f"Ray has no room for {size} ranks with 1 {' and 1 '.join(needs)} each: it has {told}")
        yield [
            {
                "num_cpus": 1,
                "num_gpus": int(gpu),
                "scheduling_strategy": PlacementGroupSchedulingStrategy(group, placement_group_bundle_index=index),
            }
            for index in range(size)
        ]
    finally:
        remove_placement_group(group)


def _call(actor: Any, method: str, *arguments: Any) -> Future[Told]:
    future: Future[Told] = actor.tell.remote(method, *arguments).future()
    return future
