"""Networks as functions of one flat parameter vector, with a gradient of the same shape.

An optimiser step, gradient clipping and a target update are then one operation each. An agent hands `learn` a
function that gives the gradient of its loss at the network's *outputs*; the network does the rest. Three kinds share
this interface: `FusedMLP` (`fused.py`) is NumPy written out by hand, for speed on a CPU; `FusedImages`
(`fused_images.py`) is the same above convolutions; `ModuleNetwork` (`modules.py`) is any torch module through autograd.
Tests hold the first two to the third. `NoisyNetwork` (`noisy.py`) is any of them under noise.

Legend: B batch, I inputs, O outputs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np

from rltrain.core import Array, State, UpdateMode
from rltrain.nn.arrays import Tensor, copy_into, to_numpy
from rltrain.nn.blueprint import Blueprint
from rltrain.nn.fused import ALL, FUSED, fused
from rltrain.nn.initialisation import Init
from rltrain.nn.torso import Torso

OutputGradient = Callable[..., tuple[Tensor, Any]]
"""(outputs (B, O), *arguments) -> gradient of the loss at the outputs (B, O), and whatever else is wanted."""


class Network(Protocol):
    """What an agent needs of a network."""

    parameters: Tensor  # (P,) float32
    gradient: Tensor  # (P,) float32
    mode: UpdateMode
    """How `learn` runs."""

    @property
    def device(self) -> str | None:
        """Where torch keeps it; None for NumPy."""

    def learn(self, gradient_at: OutputGradient, x: Tensor, *arguments: Tensor) -> Any:
        """Fill `gradient` at inputs (B, I) and return what `gradient_at(outputs, *arguments)` gave beside it."""

    def input_gradient(
        self, gradient_at: OutputGradient, x: Tensor, *arguments: Tensor, columns: slice = ALL
    ) -> Tensor:
        """The gradient at the inputs (B, I) of a loss of these outputs; that of the parameters stays as it is."""

    def evaluate(self, x: Tensor) -> Tensor:
        """Outputs (B, O), to be read before the next `evaluate`."""

    def infer(self, x: Array, columns: slice = ALL) -> Array:
        """These columns of the outputs (N, O) as NumPy, for acting."""


def build(
    plans: Sequence[Blueprint],
    device: str,
    *,
    torso: Torso | None = None,
    rng: np.random.Generator | None = None,
    init: Init = "uniform",
) -> Network:
    """Perceptrons over the same input, outputs side by side, in their fastest form for the device.

    For images they share the convolutions of a `torso`, whose weights `rng` draws; its parameters come first.
    """
    if device == "cpu" and all(plan.activation in FUSED for plan in plans):
        if torso is None:
            return fused(plans)
        from rltrain.nn.fused_images import FusedImages  # loads torch

        return FusedImages(plans, torso, rng, init)
    from rltrain.nn.modules import module_network  # loads torch

    return module_network(plans, device, torso=torso, rng=rng, init=init)


def network_state(network: Network) -> State:
    """The parameters, as a checkpoint holds them."""
    return {"parameters": to_numpy(network.parameters)}


def load_network_state(network: Network, state: State) -> None:
    """Restore `network_state`. Raises ValueError when the sizes differ."""
    saved = np.ascontiguousarray(state["parameters"])
    if saved.shape != tuple(network.parameters.shape):
        raise ValueError(f"the network has {len(network.parameters):,} parameters, the state {saved.size:,}")
    copy_into(network.parameters, saved)
