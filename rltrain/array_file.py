"""Named arrays in one file in the safetensors format, written and read without a copy of them all in memory.

The file is 8 bytes with the length of a header, the header as JSON, and the numbers of one array after the other.
Source: https://github.com/huggingface/safetensors#format. The package of that name copies what it writes.
"""

from __future__ import annotations

import json
import math
import mmap
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from rltrain.core import Array

DTYPES = {
    np.dtype(kind): name
    for kind, name in (
        ("bool", "BOOL"), ("u1", "U8"), ("i1", "I8"), ("<u2", "U16"), ("<i2", "I16"), ("<f2", "F16"),
        ("<u4", "U32"), ("<i4", "I32"), ("<f4", "F32"), ("<u8", "U64"), ("<i8", "I64"), ("<f8", "F64"),
    )
}  # fmt: skip
"""What a header calls a type."""
BLOCK = 16 << 20
"""Bytes that are written at once."""
LARGE = 64 << 20
"""An array of so many bytes is not read before it is used."""


def blocks(arrays: Mapping[str, Array]) -> Iterator[bytes | memoryview]:
    """The bytes of a file with these arrays, piece by piece. Raises TypeError for a type that it cannot hold."""
    header: dict[str, Any] = {}
    begin = 0
    ordered = sorted(arrays.items(), key=lambda item: (-item[1].itemsize, item[0]))  # so that numbers lie aligned
    for name, array in ordered:
        if array.dtype not in DTYPES:
            raise TypeError(f"'{name}': arrays of {array.dtype} cannot be saved")
        end = begin + array.nbytes
        header[name] = {"dtype": DTYPES[array.dtype], "shape": list(array.shape), "data_offsets": [begin, end]}
        begin = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    yield struct.pack("<Q", len(text)) + text
    for _, array in ordered:
        whole = np.ascontiguousarray(array).reshape(-1).view(np.uint8).data
        for start in range(0, len(whole), BLOCK):
            yield whole[start : start + BLOCK]


def read(path: Path) -> dict[str, Array]:
    """The arrays of a file; a large one stays in the file, and may be written to in memory alone.

    Raises ValueError, KeyError, TypeError or OSError for what is no such file.
    """
    kinds = {name: dtype for dtype, name in DTYPES.items()}
    arrays: dict[str, Array] = {}
    with open(path, "rb") as file:
        (length,) = struct.unpack("<Q", file.read(8).ljust(8, b"\xff"))
        if length > path.stat().st_size:
            raise ValueError("the header is cut short")
        header = json.loads(file.read(length))
        for name, entry in header.items():
            if name == "__metadata__":
                continue
            dtype, shape = kinds[entry["dtype"]], tuple(map(int, entry["shape"]))
            begin, end = map(int, entry["data_offsets"])
            count = math.prod(shape)
            if min(begin, *shape, 0) < 0 or end - begin != count * dtype.itemsize:
                raise ValueError(f"'{name}' does not fit its place")
            at = 8 + length + begin
            if end - begin >= LARGE:
                arrays[name] = np.memmap(path, dtype, "c", at, shape)
                continue
            file.seek(at)
            arrays[name] = np.fromfile(file, dtype, count).reshape(shape)  # refuses where numbers are missing
    return arrays


def copy_blocks(source: Array, target: Array) -> None:
    """Copy the rows (K, ...) into the first K of `target`, and let go of each block that came from a file."""
    rows = max(1, BLOCK // max(1, source[:1].nbytes))
    for start in range(0, len(source), rows):
        block = source[start : start + rows]
        target[start : start + len(block)] = block
        if isinstance(source, np.memmap):
            source._mmap.madvise(mmap.MADV_DONTNEED)  # type: ignore[attr-defined] # no public way leads there
