"""Arrays in a file: as the safetensors package reads and writes them, without copies, and never trusted."""

import json
import struct
import tracemalloc

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from rltrain import array_file

ARRAYS = {
    "b": np.arange(5, dtype=np.uint8),
    "a/long": np.arange(12).reshape(3, 4),
    "turned": np.arange(12, dtype=np.float32).reshape(3, 4).T,
    "scalar": np.array(3.5),
    "flags": np.array([True, False, True]),
    "none": np.zeros((0, 3), np.float32),
    "half": np.arange(3, dtype=np.float16),
    "é": np.arange(2, dtype=np.int16),
}


def write(path, arrays):
    path.write_bytes(b"".join(array_file.blocks(arrays)))
    return path


def same(found, expected):
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        assert found[name].dtype == array.dtype
        np.testing.assert_array_equal(found[name], array)


def test_the_safetensors_package_reads_what_is_written_and_writes_what_is_read(tmp_path):
    same(load_file(write(tmp_path / "mine", ARRAYS)), ARRAYS)
    save_file({name: np.ascontiguousarray(array) for name, array in ARRAYS.items()}, tmp_path / "its")
    same(array_file.read(tmp_path / "its"), ARRAYS | {"scalar": np.array(3.5)})


def test_a_large_array_stays_in_the_file_and_is_copied_out_block_by_block(tmp_path, monkeypatch):
    monkeypatch.setattr(array_file, "LARGE", 20_000)
    monkeypatch.setattr(array_file, "BLOCK", 1_000)
    rows = np.random.default_rng(0).integers(0, 256, (333, 7, 9), np.uint8)
    found = array_file.read(write(tmp_path / "large", {"small": np.arange(3), "rows": rows}))
    assert isinstance(found["rows"], np.memmap)
    assert not isinstance(found["small"], np.memmap)
    target = np.full((400, 7, 9), 7, np.uint8)
    array_file.copy_blocks(found["rows"], target)
    np.testing.assert_array_equal(target[:333], rows)
    assert (target[333:] == 7).all()
    found["rows"][0] = 1  # in memory
    assert (array_file.read(tmp_path / "large")["rows"] == rows).all()


def test_writing_copies_nothing():
    rows = np.zeros((64, 1 << 20), np.uint8)
    tracemalloc.start()
    assert sum(map(len, array_file.blocks({"rows": rows}))) > rows.nbytes
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1 << 20


def test_what_cannot_be_held_is_refused():
    with pytest.raises(TypeError, match="complex128 cannot be saved"):
        list(array_file.blocks({"x": np.zeros(3, complex)}))


@pytest.mark.parametrize(
    "entry",
    [
        {"dtype": "F32", "shape": [4], "data_offsets": [0, 8]},
        {"dtype": "F32", "shape": [-4], "data_offsets": [16, 0]},
        {"dtype": "F32", "shape": [4], "data_offsets": [8, 24]},
        {"dtype": "F32", "shape": [4], "data_offsets": [-16, 0]},
        {"dtype": "O", "shape": [4], "data_offsets": [0, 16]},
        {"dtype": "F32", "shape": [1 << 40], "data_offsets": [0, 4 << 40]},
        {"dtype": "F32", "data_offsets": [0, 16]},
        7,
    ],
)
def test_a_header_that_does_not_fit_the_file_is_refused(tmp_path, entry):
    text = json.dumps({"x": entry}).encode()
    path = tmp_path / "bad"
    path.write_bytes(struct.pack("<Q", len(text)) + text + bytes(16))
    with pytest.raises((ValueError, KeyError, TypeError)):
        array_file.read(path)


@pytest.mark.parametrize("content", [b"", b"\x01", struct.pack("<Q", 1 << 60), struct.pack("<Q", 3) + b"{}}"])
def test_what_is_no_such_file_is_refused(tmp_path, content):
    (tmp_path / "bad").write_bytes(content)
    with pytest.raises(ValueError):  # noqa: PT011 (whichever part says it)
        array_file.read(tmp_path / "bad")
