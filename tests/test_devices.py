"""Where and how an update runs: which device `auto` takes, and which calls a CUDA graph is recorded of."""

import numpy as np
import pytest
import torch

from rltrain.compilable import FUNCTIONS
from rltrain.core import ConfigError
from rltrain.jit import _makes_arrays, compiled
from rltrain.nn import arrays, graphs


@pytest.mark.parametrize(
    ("name", "sizes", "gpu", "expected"),
    [
        ("auto", (64, 64), True, "cpu"),
        ("auto", (64, 300), True, "cuda"),
        ("auto", (512,), False, "cpu"),
        ("auto", (), True, "cpu"),
        ("cuda", (8,), True, "cuda"),
        ("cpu", (512,), True, "cpu"),
    ],
)
def test_auto_takes_a_gpu_only_for_a_layer_that_is_worth_it(name, sizes, gpu, expected, monkeypatch):
    monkeypatch.setattr(arrays.sys, "platform", "elsewhere")  # no device files to look for
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
    assert arrays.resolve_device(name, sizes) == expected


def test_a_gpu_that_is_asked_for_and_is_not_there_is_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ConfigError, match="torch finds no GPU on this machine"):
        arrays.resolve_device("cuda", (8,))


def test_a_gpu_that_is_asked_for_is_taken_whatever_its_device_file_is(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(arrays, "GPU_FILES", ("/nowhere",))
    monkeypatch.setattr(arrays.sys, "platform", "linux")
    assert [arrays.resolve_device(name, (512,)) for name in ("cuda", "auto")] == ["cuda", "cpu"]


def test_shapes_that_come_again_are_recorded_and_ever_new_ones_are_not(monkeypatch):
    recorded = []

    class Recording:
        def __init__(self, function, arguments):
            recorded.append(len(arguments[0]))

        def __call__(self, arguments):
            return "replayed"

    monkeypatch.setattr(graphs, "_Recording", Recording)
    call = graphs.Graphed(lambda x, limit: "called")
    assert [call(torch.zeros(4), None) for _ in range(4)] == ["called", "called", "replayed", "replayed"]
    assert [call(torch.zeros(length), None) for length in range(5, 9)] == ["called"] * 4
    assert call(torch.zeros(4), 2) == "called"  # another value of what is no tensor
    assert recorded == [4]


def test_a_part_of_ones_own_may_make_arrays_and_those_shipped_say_so():
    pytest.importorskip("numba")

    def spread(value):
        return np.full(3, value).sum()

    assert compiled(spread, [spread])(2.0) == 6.0
    assert _makes_arrays([spread])
    shipped = [function for function, makes in FUNCTIONS.items() if not makes and function.__module__ != __name__]
    assert not _makes_arrays(shipped[:1])
