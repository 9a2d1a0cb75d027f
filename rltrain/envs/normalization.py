"""Settings that the normalising wrappers share, and where they do not belong."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

from pydantic import Field

from rltrain.core import EnvSpec, Problem
from rltrain.registry import find
from rltrain.settings import Settings


class NormalizationSettings(Settings):
    """What the agent sees, (x - mean) / sqrt(variance + epsilon), is cut to -clip ... clip."""

    in_replay: ClassVar[str]
    """Why replay must not keep what this has scaled, and what to use beside it."""

    clip: float = Field(default=10.0, gt=0)
    """Greatest absolute value."""
    epsilon: float = Field(default=1e-8, gt=0)
    """Keeps the division finite."""

    def problems(self, config: Any, spec: EnvSpec) -> Iterator[Problem]:
        """An agent that replays what the statistics of an earlier time have scaled."""
        if getattr(find("agents", config.agent.name), "replays", False):
            yield Problem("env.wrappers", self.in_replay)
