"""Checkpoints: whole or refused, never lost, never code."""

import errno
import os
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rltrain import checkpoint
from rltrain.checkpoint import ARRAYS, MANIFEST, CheckpointError

STATE = {
    "agent": {
        "weights": np.arange(12, dtype=np.float32).reshape(3, 4),
        "view": np.arange(12).reshape(3, 4).T,
        "scalar": np.array(3.5),
        "flags": np.array([True, False]),
        "bytes": np.arange(5, dtype=np.uint8),
        "empty": np.zeros((0, 3), np.float32),
        "rng": {"state": 2**127 + 3, "name": "PCG64"},
        "odd": [float("inf"), float("-inf"), None, True, "x"],
    }
}


def save(folder, step, score=None, state=STATE):
    return checkpoint.save(folder, step, state, config={"seed": 1}, score=score)


def newest(folder):
    reports = []
    return checkpoint.newest(folder, on_corrupt=lambda path, why: reports.append((path.name, why))), reports


def same(a, b):
    if isinstance(a, np.ndarray):
        return a.dtype == b.dtype and a.shape == b.shape and np.array_equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, list):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b and type(a) is type(b)


def test_what_is_saved_comes_back(tmp_path):
    path = save(tmp_path, 7, score=1.5)
    found = checkpoint.load(path)
    assert (found.step, found.score, found.config) == (7, 1.5, {"seed": 1})
    assert same(found.state, STATE)
    found.state["agent"]["weights"][0] = 1  # arrays can be written to


@pytest.mark.parametrize("bad", [{"a": (1, 2)}, {"a": object()}, {"$array": 1}, {1: 2}])
def test_what_cannot_be_saved_is_an_error_and_leaves_nothing(tmp_path, bad):
    with pytest.raises(TypeError):
        save(tmp_path, 1, state=bad)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", [ARRAYS, MANIFEST])
def test_a_file_cut_short_anywhere_is_detected(tmp_path, name):
    path = save(tmp_path, 1)
    whole = (path / name).read_bytes()
    for part in range(50):
        (path / name).write_bytes(whole[: len(whole) * part // 50])
        with pytest.raises(CheckpointError):
            checkpoint.load(path)


@pytest.mark.parametrize("name", [ARRAYS, MANIFEST])
def test_a_flipped_byte_anywhere_is_detected(tmp_path, name):
    rng = random.Random(0)
    path = save(tmp_path, 1)
    whole = (path / name).read_bytes()
    for _ in range(200):
        place = rng.randrange(len(whole))
        damaged = bytearray(whole)
        damaged[place] ^= rng.randrange(1, 256)
        (path / name).write_bytes(bytes(damaged))
        with pytest.raises(CheckpointError):
            checkpoint.load(path)


def test_the_newest_whole_one_is_used_and_a_damaged_one_set_aside(tmp_path):
    save(tmp_path, 1)
    save(tmp_path, 2)
    bad = save(tmp_path, 10)
    (bad / ARRAYS).write_bytes(b"")
    found, reports = newest(tmp_path)
    assert found.step == 2
    assert [name for name, _ in reports] == ["step-000000000010"]
    assert (tmp_path / "step-000000000010.corrupt").exists()


def test_a_file_of_another_size_is_told_both_sizes_in_one_way(tmp_path):
    path = save(tmp_path, 1, state={"agent": {"weights": np.zeros(2_000)}})
    size = (path / ARRAYS).stat().st_size
    assert size > 16_000
    (path / ARRAYS).write_bytes(b"x" * 1_000)
    with pytest.raises(CheckpointError, match=f"has 1,000 bytes, expected {size:,}$"):
        checkpoint.load(path)


def test_nothing_is_fine_but_nothing_whole_is_an_error(tmp_path):
    assert newest(tmp_path) == (None, [])
    (save(tmp_path, 1) / MANIFEST).unlink()
    with pytest.raises(CheckpointError, match="every checkpoint is damaged"):
        newest(tmp_path)


def test_a_link_and_a_newer_format_are_refused(tmp_path, monkeypatch):
    path = save(tmp_path, 1)
    secret = tmp_path / "secret"
    (path / ARRAYS).rename(secret)
    (path / ARRAYS).symlink_to(secret)
    with pytest.raises(CheckpointError, match="missing"):
        checkpoint.load(path)
    monkeypatch.setattr(checkpoint, "FORMAT", 2)
    newer = save(tmp_path, 2)
    monkeypatch.setattr(checkpoint, "FORMAT", 1)
    with pytest.raises(CheckpointError, match="newer rltrain"):
        checkpoint.load(newer)


@pytest.mark.parametrize(
    ("call", "nth", "step"),
    [
        *(("open", nth, 1) for nth in range(3)),
        *(("fsync", nth, 1) for nth in range(3)),
        ("replace", 0, 1),
        ("fsync", 3, 2),  # of the folder: the checkpoint has its name
    ],
)
def test_a_failed_save_leaves_the_one_before_untouched(tmp_path, monkeypatch, call, nth, step):
    save(tmp_path, 1)
    real, count = getattr(os, call), [0]

    def failing(*args, **kwargs):
        count[0] += 1
        if count[0] == nth + 1:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(*args, **kwargs)

    monkeypatch.setattr(os, call, failing)
    with pytest.raises(OSError, match="No space left"):
        save(tmp_path, 2)
    monkeypatch.setattr(os, call, real)
    found, reports = newest(tmp_path)
    assert (found.step, reports) == (step, [])


def test_files_reach_the_disk_before_the_name_does(tmp_path, monkeypatch):
    order = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda fd: (order.append(os.readlink(f"/proc/self/fd/{fd}")), fsync(fd))[1])
    monkeypatch.setattr(os, "replace", lambda a, b: (order.append(f"rename {b}"), replace(a, b))[1])
    path = save(tmp_path, 1)
    temporary = tmp_path / ".tmp-step-000000000001"
    assert order == [
        str(temporary / ARRAYS), str(temporary / MANIFEST), str(temporary), f"rename {path}", str(tmp_path),
    ]  # fmt: skip


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 999), st.none() | st.integers(0, 5)), max_size=10),
    st.integers(1, 4),
    st.integers(0, 3),
)
def test_the_last_and_the_best_are_kept_whatever_the_files_times_are(tmp_path_factory, saved, last, best):
    folder = tmp_path_factory.mktemp("c")
    steps = {}
    for step, score in saved:
        path = save(folder, step, score, {})
        os.utime(path, (random.random() * 1e9,) * 2)
        steps[step] = score
    checkpoint.prune(folder, last, best)
    ordered = sorted(steps, reverse=True)
    scored = sorted(((score, step) for step, score in steps.items() if score is not None), reverse=True)
    expected = {*ordered[:last], *(step for _, step in scored[:best])}
    assert {int(path.name[5:]) for path in folder.iterdir()} == expected
    if scored and best:
        assert int(checkpoint.find(folder, "best").name[5:]) == scored[0][1]


def test_no_code_of_rltrain_can_unpickle():
    from pathlib import Path

    import rltrain

    for path in Path(rltrain.__file__).parent.rglob("*.py"):
        text = path.read_text()
        for forbidden in ("import pickle", "cloudpickle", "torch.load", "yaml.load(", "unsafe_load", "eval(", "exec("):
            assert forbidden not in text.replace("eval: ", ""), f"{path}: {forbidden}"
