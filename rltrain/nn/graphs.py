"""CUDA graphs: the kernels of a call recorded once and then started together.

A small network keeps a GPU busy for less time than a CPU takes to start its kernels one by one.
Source: https://docs.pytorch.org/docs/stable/notes/cuda.html#cuda-graphs
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import torch

if TYPE_CHECKING:
    from rltrain.nn.networks import Network

RECORD_AT = 3
"""A combination of shapes is recorded when it comes for this time; batches of ever new lengths never are."""
MAX_GRAPHS = 16
"""Combinations that are recorded at most: each keeps memory of its own."""
WARM_UP = 3
"""Calls before recording, in which libraries set themselves up, as torch asks for."""


class Graphed:
    """A function of tensors on a GPU that branches on no value of theirs, and runs from recordings.

    What it returns is overwritten by its next call. One that is called by another is a part of that one's recordings.
    """

    inside: ClassVar[bool] = False
    """Whether a function runs that is, or will be, recorded as a whole."""

    def __init__(self, function: Callable[..., Any], changes: Sequence[torch.Tensor] = ()) -> None:
        """`changes` are the tensors that depend on how often it was called: calls for recording are undone."""
        self._function, self._changes = function, changes
        self._came: Counter[Any] = Counter()
        self._recordings: dict[Any, _Recording] = {}

    def __call__(self, *arguments: Any) -> Any:
        """What the function returns for these arguments."""
        if Graphed.inside:
            return self._function(*arguments)
        key = tuple((each.shape, each.dtype) if isinstance(each, torch.Tensor) else each for each in arguments)
        if key not in self._recordings:
            self._came[key] += 1
            if self._came[key] < RECORD_AT or len(self._recordings) == MAX_GRAPHS:
                return self._whole(*arguments)
            kept = [each.clone() for each in self._changes]
            self._recordings[key] = _Recording(self._whole, arguments)
            for each, before in zip(self._changes, kept, strict=True):
                each.copy_(before)
        return self._recordings[key](arguments)

    def _whole(self, *arguments: Any) -> Any:
        Graphed.inside = True
        try:
            return self._function(*arguments)
        finally:
            Graphed.inside = False


class _Recording:
    """One call, with memory of its own for what goes in and comes out."""

    def __init__(self, function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
        self._inputs = [each.clone() if isinstance(each, torch.Tensor) else each for each in arguments]
        beside = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        beside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(beside):
            for _ in range(WARM_UP):
                function(*self._inputs)
        torch.cuda.current_stream().wait_stream(beside)
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph):
            self._outputs = function(*self._inputs)

    def __call__(self, arguments: tuple[Any, ...]) -> Any:
        for place, given in zip(self._inputs, arguments, strict=True):
            if isinstance(place, torch.Tensor):
                place.copy_(given)
        self._graph.replay()
        return self._outputs


def graphed(function: Callable[..., Any], network: Network, changes: Sequence[torch.Tensor] = ()) -> Callable[..., Any]:
    """The function as it runs for a network: from recordings on a CUDA device, unless the mode is to be eager."""
    on_gpu = network.device is not None and network.device.startswith("cuda")
    return Graphed(function, changes) if on_gpu and network.mode != "eager" else function
