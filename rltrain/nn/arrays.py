"""Arrays of either kind: NumPy's on a CPU, torch's on a GPU or where autograd is needed.

An equation is written once, with operators and the functions that both libraries have under one name and meaning
(`where`, `exp`, `minimum`, `amax`, ... and the methods `sum`, `mean`, `clip`). So torch is loaded only by a run that
uses it: on a CPU a small network is as fast in NumPy, and starting takes a third of the time.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from rltrain.core import Array, ConfigError
from rltrain.lazy import lazy_module

if TYPE_CHECKING:
    import torch
else:
    torch = lazy_module("torch")

Tensor: TypeAlias = Any
"""An array of NumPy or a tensor of torch."""
GPU_FILES = ("/dev/nvidiactl", "/dev/kfd", "/dev/dxg")
"""NVIDIA's driver, AMD's, and either under the Windows Subsystem for Linux."""
GPU_UNITS = 300
"""Units of a hidden layer from which `auto` takes a GPU: a smaller network is through sooner on the CPU.

Whole runs in NumPy on a CPU and from CUDA graphs on a GPU: 64 units 1.5 and 6.5 s (PPO), 0.7 and 7.5 s (DQN), 256
units 5.5 and 7.1 s, 3.1 and 9.4 s, 400 units 11.1 and 8.6 s, 4.4 and 7.6 s, 512 units 16.6 and 6.2 s, 8.8 and 8.6 s.
"""
NO_GPU = "torch finds no GPU on this machine: use auto or cpu"
"""Why `cuda` is refused."""


def namespace(x: Tensor) -> Any:
    """The library that `x` belongs to: `numpy` or `torch`."""
    return np if isinstance(x, np.ndarray) else torch


def has_gpu() -> bool:
    """Whether torch can use a GPU."""
    return bool(torch.cuda.is_available())


def resolve_device(name: str, hidden_sizes: Sequence[int], torso: object | None = None) -> str:
    """Turn `auto` into `cuda` where there is a usable GPU and a layer, or a torso, that is worth it; else `cpu`.

    On Linux a GPU has a device file; where `auto` sees none, torch is not loaded to ask. Raises ConfigError for `cuda`
    where torch finds none: some have another file.
    """
    if name == "cuda" and not has_gpu():
        raise ConfigError(f"device: {NO_GPU}")
    if name != "auto":
        return name
    if torso is None and max(hidden_sizes, default=0) < GPU_UNITS:
        return "cpu"
    if sys.platform == "linux" and not any(Path(file).exists() for file in GPU_FILES):
        return "cpu"
    return "cuda" if has_gpu() else "cpu"


def to_device(x: Tensor, device: str | None) -> Tensor:
    """`x` as a tensor on `device`; as it is where `device` is None, which stands for NumPy."""
    if device is None or not isinstance(x, np.ndarray):
        return x
    return torch.from_numpy(np.ascontiguousarray(x)).to(device)


def in_numpy(x: Tensor) -> Tensor:
    """A tensor on a CPU as an array over the same memory; anything else as it is."""
    return x.numpy() if not isinstance(x, np.ndarray) and x.device.type == "cpu" else x


def side_by_side(obs: Tensor, others: Tensor) -> Tensor:
    """Observations (B, I) and D numbers of each beside them, actions or fractions: (B, I + D).

    Images (B, *shape) stay bytes, and so do then the numbers: (B, bytes of both).
    """
    xp = namespace(obs)
    if obs.ndim > 2:
        obs, others = obs.reshape(len(obs), -1), others.view(xp.uint8)
    return xp.concatenate((obs, others), 1)


def apart(both: Tensor, shape: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """What `side_by_side` put together, as tensors: observations (B, *shape), and the numbers (B, D) beside them."""
    size = math.prod(shape)
    obs, numbers = both[:, :size], both[:, size:]
    if both.dtype != torch.uint8:
        return obs, numbers
    whole = numbers.clone(memory_format=torch.contiguous_format)  # of which a number begins where memory does
    return obs.reshape(-1, *shape), whole.view(torch.float32)


class Fixed:
    """Numbers that never change, as an array of NumPy's and where a network is."""

    def __init__(self, numbers: Array, device: str | None) -> None:
        self._array, self._there = numbers, to_device(numbers, device)

    def like(self, x: Tensor) -> Tensor:
        """As `x` is: NumPy's, or on the device."""
        return self._array if isinstance(x, np.ndarray) else self._there


def numbers(values: tuple[float, ...], device: str | None) -> Any:
    """A few numbers: as they are for NumPy, else a tensor on `device`, which a recording can be given."""
    return values if device is None else torch.tensor(values, device=device)


def to_numpy(x: Tensor) -> Array:
    """`x` as an array in memory of its own."""
    return x.copy() if isinstance(x, np.ndarray) else np.array(x.detach().cpu().numpy())


def move_towards(target: Tensor, source: Tensor, share: float) -> None:
    """target = (1 - share) target + share source, in place."""
    target *= 1 - share
    target += share * source


def copy_into(target: Tensor, source: Array) -> None:
    """Overwrite `target` with numbers from NumPy."""
    if isinstance(target, np.ndarray):
        target[:] = source
    else:
        target.copy_(target.new_tensor(source))


def add_at(index: Tensor, values: Tensor, size: int) -> Tensor:
    """Zeros (size,) with `values` (V,) added at `index` (V,), as often as an index comes."""
    if isinstance(values, np.ndarray):
        return np.bincount(index, values, size).astype(values.dtype)
    return values.new_zeros(size).index_add_(0, index, values)


def log_softmax(x: Tensor) -> Tensor:
    """Log of the softmax over the last axis; no number is too great for it."""
    xp = namespace(x)
    x = x - xp.amax(x, -1)[..., None]
    return x - xp.log(xp.exp(x).sum(-1))[..., None]
