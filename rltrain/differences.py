"""In what settings, versions, machines and logs differ. Plain data goes in: what a `RunRecord` has read."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from enum import Enum
from typing import Any, Final, NamedTuple


class Absent(Enum):
    """Stands where one has no such setting; null would be a value."""

    ABSENT = "-"


ABSENT: Final = Absent.ABSENT


def shown(value: Any) -> str:
    """A value as it would stand in the YAML; `-` for what is not there."""
    return "-" if value is ABSENT else value if isinstance(value, str) else json.dumps(value)


def flatten(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Dotted name -> value, such as `agent.gamma` or `bonuses[0].scale`; a list of plain values is one value."""
    return dict(_leaves(settings, ""))


def _leaves(value: Any, name: str) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping) and value:
        for key, part in value.items():
            yield from _leaves(part, f"{name}.{key}" if name else str(key))
    elif isinstance(value, list) and any(isinstance(part, Mapping) for part in value):
        for index, part in enumerate(value):
            yield from _leaves(part, f"{name}[{index}]")
    else:
        yield name, value


def differing(settings: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """Name -> the value in each of `settings`, for all names in which they do not agree.

    `settings` are nested, or flat as `shared` returns them. ABSENT stands where one has no such name. A block that is
    null or empty in one is told by the names within it.
    """
    flat = [flatten(each) for each in settings]
    names = sorted(dict.fromkeys(name for each in flat for name in each), key=_place(flat))
    blocks = {name[:end] for name in names for end in range(len(name)) if name[end] in ".["}
    rows = {name: [each.get(name, ABSENT) for each in flat] for name in names if name not in blocks}
    return {name: row for name, row in rows.items() if any(not _same(value, row[0]) for value in row)}


def _place(flat: Sequence[Mapping[str, Any]]) -> Callable[[str], tuple[int, bool]]:
    """Blocks in their own order, in each what it is called first."""
    blocks = list(dict.fromkeys(re.split(r"[.[]", name)[0] for each in flat for name in each))

    def place(name: str) -> tuple[int, bool]:
        block, *rest = re.split(r"[.[]", name)
        return blocks.index(block), not rest or rest[-1] != "name"

    return place


def shared(settings: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Dotted name -> value, of what all of `settings` have in common; for a group, everything but its seeds."""
    first, *others = [flatten(each) for each in settings]
    return {
        name: value for name, value in first.items() if all(_same(each.get(name, ABSENT), value) for each in others)
    }


def _same(a: Any, b: Any) -> bool:
    """1 is 1.0, but neither is true."""
    return bool(a == b) and isinstance(a, bool) == isinstance(b, bool)


class Unlike(NamedTuple):
    """Where two logs part."""

    step: int
    metrics: dict[str, tuple[Any, Any]]  # in one and in the other, ABSENT where it is not logged


def unlike(one: bytes, other: bytes) -> Unlike | None:
    """In what two lines of `metrics.jsonl` differ; None where the numbers are the same."""
    if one == other:
        return None
    entries = json.loads(one), json.loads(other)
    metrics = {name: (values[0], values[1]) for name, values in differing(entries).items()}
    return Unlike(min(entry["step"] for entry in entries), metrics) if metrics else None
