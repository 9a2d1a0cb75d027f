"""A team over `torch.distributed`: gloo for what is on a CPU, NCCL for what is on a GPU. Loads torch when used."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import numpy as np

from rltrain.core import RltrainError, first_line
from rltrain.lazy import lazy_module
from rltrain.team import Team, Tensor

if TYPE_CHECKING:
    import torch
    import torch.distributed as dist
else:
    torch, dist = lazy_module("torch"), lazy_module("torch.distributed")

TIMEOUT_SECONDS = 300.0
"""How long a rank waits for the others: an environment may be slow, and a node may vanish without a word."""


class TeamLost(RltrainError):
    """The other ranks do not answer any more."""

    exit_code = 71


def opened_store(host: str, timeout: float = TIMEOUT_SECONDS) -> tuple[Any, int]:
    """Where the ranks find each other, kept by the first of them, and its port.

    It listens on this address alone: torch by itself would listen on all.
    """
    listening = socket.create_server((host, 0))
    port = listening.getsockname()[1]
    store = dist.TCPStore(  # type: ignore[attr-defined]
        host,
        port,
        is_master=True,
        wait_for_workers=False,
        timeout=timedelta(seconds=timeout),
        master_listen_fd=listening.detach(),
    )
    return store, port


def joined_store(host: str, port: int, timeout: float = TIMEOUT_SECONDS) -> Any:
    """The store that another rank keeps. Raises TeamLost."""
    return _asked(dist.TCPStore, host, port, is_master=False, timeout=timedelta(seconds=timeout))  # type: ignore[attr-defined]


class TorchTeam(Team):
    """One of the ranks of this process's `torch.distributed`."""

    def __init__(
        self, rank: int, size: int, store: Any, *, gpu: bool = False, timeout: float = TIMEOUT_SECONDS
    ) -> None:
        """Waits until everybody is there. Raises TeamLost."""
        super().__init__(rank, size)
        torch.set_num_threads(1)
        if getattr(store, "host", "") == "127.0.0.1":
            os.environ.setdefault("GLOO_SOCKET_IFNAME", _loopback())
        _asked(
            dist.init_process_group,
            "cpu:gloo,cuda:nccl" if gpu else "gloo",
            store=store,
            rank=rank,
            world_size=size,
            timeout=timedelta(seconds=timeout),
        )

    def gather(self, x: Tensor) -> Tensor:
        """Everyone's array of this shape, (R, *shape). Raises TeamLost."""
        own = torch.from_numpy(np.asarray(x, order="C")) if isinstance(x, np.ndarray) else x.contiguous()
        everyone = own.new_empty((self.size, *own.shape))
        _asked(dist.all_gather, list(everyone), own)
        return everyone.numpy() if isinstance(x, np.ndarray) else everyone

    def add(self, x: Tensor) -> None:
        """The sum over all ranks, in place. Raises TeamLost."""
        _asked(dist.all_reduce, torch.from_numpy(x) if isinstance(x, np.ndarray) else x)

    def close(self) -> None:
        """Leave; whoever waits for this rank is told at once."""
        with suppress(Exception):
            dist.destroy_process_group()


def _loopback() -> str:
    """The name of the interface that leads nowhere else."""
    return next((name for _, name in socket.if_nameindex() if name.startswith("lo")), "lo")


def _asked(call: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
    try:
        return call(*arguments, **options)
    except RuntimeError as error:
        raise TeamLost(f"the other ranks do not answer: {first_line(error)}") from error
