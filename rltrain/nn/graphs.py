"""CUDA graphs: the kernels of a call recorded once and then started together.

A small network keeps a GPU busy for less time than a CPU takes to start its kernels one by one.
Source: https://docs.pytorch.org/docs/stable/notes/cuda.html#cuda-graphs
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import torch

RECORD_AT = 3
"""A combination of shapes is recorded when it comes for this time; batches of ever new lengths never are."""
MAX_GRAPHS = 16
"""Combinations that are recorded at most: each keeps memory of its own."""
WARM_UP = 3
"""Calls before recording, in which libraries set themselves up, as torch asks for."""


class Graphed:
    """A function of tensors on a GPU that branches on no value of theirs, and runs from recordings.

    What it returns is overwritten by its next call.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function
        self._came: Counter[Any] = Counter()
        self._recordings: dict[Any, _Recording] = {}

    def __call__(self, *arguments: Any) -> Any:
        """What the function returns for these arguments."""
        key = tuple((each.shape, each.dtype) if isinstance(each, torch.Tensor) else each for each in arguments)
        if key not in self._recordings:
            self._came[key] += 1
            if self._came[key] < RECORD_AT or len(self._recordings) == MAX_GRAPHS:
                return self._function(*arguments)
            self._recordings[key] = _Recording(self._function, arguments)
        return self._recordings[key](arguments)


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
