"""The setting `seeds`: a number of seeds, a list of them, or text such as "0-4,7"."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from typing import Annotated, TypeAlias

from pydantic import AfterValidator, ValidationInfo

MAX_SEEDS = 10_000
_PART = re.compile(r"([0-9]{1,19})(?:-([0-9]{1,19}))?")


def _check(value: int | str | tuple[int, ...] | None, info: ValidationInfo) -> int | str | tuple[int, ...] | None:
    """Refuse what names no seeds, or one twice."""
    if value is not None:
        twice = [seed for seed, count in Counter(seeds_of(value, info.data.get("seed", 0))).items() if count > 1]
        if twice:
            raise ValueError(f"seed {twice[0]} twice: equal seeds are the same run")
    return value


Seeds: TypeAlias = Annotated[int | str | tuple[int, ...] | None, AfterValidator(_check)]


def seeds_of(value: int | str | Sequence[int], first: int) -> list[int]:
    """The seeds that the setting means; a number counts from `first`. Raises ValueError."""
    if isinstance(value, str):
        return [seed for part in value.split(",") for seed in _range(part.strip(), value)]
    if isinstance(value, int):
        if not 1 <= value <= MAX_SEEDS:
            raise ValueError(f"expected a number of seeds from 1 to {MAX_SEEDS:,}, got {value:,}")
        if first + value > 2**63:
            raise ValueError(f"{value:,} seeds from {first} on go beyond 2**63 - 1, the greatest: lower seed")
        return list(range(first, first + value))
    if not value:
        raise ValueError("expected at least one seed, got an empty list")
    wrong = [seed for seed in value if not 0 <= seed < 2**63]
    if wrong:
        raise ValueError(f"a seed is a whole number from 0 to 2**63 - 1, got {wrong[0]}")
    return list(value)


def _range(part: str, text: str) -> range:
    """`4` or `0-9`."""
    found = _PART.fullmatch(part)
    if found is None:
        raise ValueError(f"expected seeds such as 0-9 or 0-4,7, got '{text}'")
    first, last = int(found[1]), int(found[2] or found[1])
    if last < first:
        raise ValueError(f"'{part}' ends before it begins: write {last}-{first}")
    if last - first >= MAX_SEEDS or last >= 2**63:
        raise ValueError(f"'{part}' is more than {MAX_SEEDS:,} seeds, or they are too large")
    return range(first, last + 1)


def seeds_text(seeds: Sequence[int]) -> str:
    """The shortest text that means these seeds, in order: [0, 1, 2, 7] -> `0-2,7`."""
    ordered = sorted(seeds)
    breaks = [index + 1 for index, (a, b) in enumerate(pairwise(ordered)) if b != a + 1]
    parts = [ordered[start:end] for start, end in pairwise([0, *breaks, len(ordered)])]
    return ",".join(str(part[0]) if len(part) == 1 else f"{part[0]}-{part[-1]}" for part in parts)
