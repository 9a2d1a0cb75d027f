"""Whether there is memory for an agent's networks, before they are made."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import gymnasium as gym

from rltrain.core import EnvSpec, Problem
from rltrain.encoding import is_image
from rltrain.memory import MEMORY_SHARE, available_bytes
from rltrain.nn.arrays import resolve_device

LEARNT = 4
"""Numbers of 4 bytes that are kept for each parameter: itself, its gradient, and Adam's two moments."""
FOLLOWED = LEARNT + 1
"""The same where a target follows it."""


def size_problems(config: Any, spec: EnvSpec) -> Iterator[Problem]:
    """What is wrong where the hidden layers of `config.agent` need more memory than is free.

    The agent's settings say how many numbers are kept (`numbers_kept`) for each parameter of one network of theirs, in
    all networks together. Of a network on a GPU only the first weights are reckoned, which are drawn in this memory.
    """
    sizes, free = config.agent.hidden_sizes, available_bytes()
    parameters = sum((a + 1) * b for a, b in pairwise((_inputs(spec.observation_space), *sizes, 1)))
    kept = config.agent.numbers_kept
    if 4 * parameters * kept > MEMORY_SHARE * free and config.device != "cpu" and _on_gpu(config):
        kept = 1
    if (need := 4 * parameters * kept) > MEMORY_SHARE * free:
        yield Problem(
            "agent.hidden_sizes",
            f"networks of {parameters:,} parameters, for each of which {kept} numbers are kept, take "
            f"{need / 2**30:,.1f} GiB and {free / 2**30:.1f} GiB are free, of which they may take "
            f"{MEMORY_SHARE * 100:.0f} %: make the layers smaller",
        )


def _inputs(space: gym.Space[Any]) -> int:
    """Of the first layer, at least: how many convolutions have is not known here. Of other spaces there is none."""
    flat = isinstance(space, gym.spaces.Box | gym.spaces.Discrete | gym.spaces.MultiDiscrete | gym.spaces.MultiBinary)
    return int(gym.spaces.flatdim(space)) if flat and not is_image(space) else 1


def _on_gpu(config: Any) -> bool:
    return config.device == "cuda" or resolve_device(config.device, config.agent.hidden_sizes) == "cuda"
