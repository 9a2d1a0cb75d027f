"""Where runs train: worker processes of this machine, or a Ray cluster."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Literal, NamedTuple

import typer

if TYPE_CHECKING:
    from rltrain.launch.job import Launcher

Name = Annotated[
    Literal["local", "ray"], typer.Option("--engine", help="Train in processes of this machine, or on a Ray cluster.")
]
Address = Annotated[
    str | None,
    typer.Option(
        "--ray-address",
        metavar="auto|HOST:PORT",
        help="The cluster; auto is the one that this machine is in. Without it Ray is started on this machine.",
    ),
]
Insecure = Annotated[
    bool, typer.Option("--insecure-ray", help="Use a cluster though it asks for no token and obeys everybody.")
]


class Engine(NamedTuple):
    """Which engine, and where it is."""

    name: Literal["local", "ray"] = "local"
    address: str | None = None
    insecure: bool = False

    @property
    def elsewhere(self) -> bool:
        """Whether another machine may do the work."""
        return self.name != "local"

    @contextmanager
    def launcher(self, workers: int | None, plugins: Sequence[str]) -> Iterator[Launcher]:
        """What trains runs, `workers` of them at once; ended when this is left. Raises ConfigError, NoCluster."""
        if self.name == "local":
            from rltrain.launch.processes import ProcessLauncher

            yield ProcessLauncher(workers, plugins)
            return
        from rltrain.cluster import connected
        from rltrain.launch.remote import RayLauncher

        with connected(self.address, insecure=self.insecure, cpus=workers) as ray:
            yield RayLauncher(ray, workers, plugins)

    @contextmanager
    def ranks(self, count: int) -> Iterator[None]:
        """Ready for one run in `count` processes, which are always Ray's. Raises ConfigError, NoCluster."""
        from rltrain.cluster import connected
        from rltrain.sittings import usable_cores

        with connected(self.address, insecure=self.insecure, cpus=max(count, usable_cores())):
            yield

    @property
    def options(self) -> list[str]:
        """The same on a command line."""
        if self.name == "local":
            return []
        address = [] if self.address is None else ["--ray-address", self.address]
        return ["--engine", self.name, *address, *(["--insecure-ray"] if self.insecure else [])]


def engine_of(name: Literal["local", "ray"], address: str | None, insecure: bool) -> Engine:
    """The engine that is meant. Raises ConfigError where options mean nothing together."""
    from rltrain.core import ConfigError

    if name != "ray" and (address is not None or insecure):
        raise ConfigError(f"{'--ray-address' if address is not None else '--insecure-ray'}: goes with --engine ray")
    if insecure and address is None:
        raise ConfigError("--insecure-ray: goes with --ray-address; what is started on this machine is safe")
    return Engine(name, address, insecure)
