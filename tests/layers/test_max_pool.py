# SPDX-License-Identifier: Apache-2.0
"""MaxPool2d beside mindspore.nn.MaxPool2d: the same values and gradients, bit for bit."""

from __future__ import annotations

import re
from typing import Any

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor, nn

from sknet_ops.layers import MaxPool2d
from tests.mindspore_tools import both_passes, tensor

CONFIGS: dict[str, dict[str, Any]] = {
    "stem": dict(kernel_size=3, stride=2, pad_mode="pad", padding=1),
    "same stem": dict(kernel_size=3, stride=2, pad_mode="same"),
    "stem without padding": dict(kernel_size=3, stride=2),
    "patches": dict(kernel_size=2, stride=2),
    "large": dict(kernel_size=(5, 5), stride=(1, 1), pad_mode="PAD", padding=(2, 2)),
    "same, even kernel": dict(kernel_size=2, stride=1, pad_mode="same"),
    "same, stride larger than the kernel": dict(kernel_size=(2,), stride=(3,), pad_mode="SAME"),
    "defaults": dict(),
}
VALUES = {
    "normal": lambda rng, shape: rng.standard_normal(shape),
    "after ReLU": lambda rng, shape: np.maximum(rng.integers(-3, 3, shape), 0),
    "negative": lambda rng, shape: rng.integers(-5, -2, shape),
}


def assert_same(net: nn.Cell, expected: nn.Cell, x: np.ndarray, rng: np.random.Generator) -> None:
    # Integers: sums do not depend on the order.
    cotangent = rng.integers(-4, 5, expected(tensor(x)).shape)
    got, wanted = (both_passes(cell, x, cotangent) for cell in (net, expected))
    assert list(got) == list(wanted) == ["y", "grad.x"]
    for name, value in wanted.items():
        assert np.array_equal(got[name], value), name


@pytest.mark.parametrize("values", VALUES)
@pytest.mark.parametrize("config", CONFIGS)
def test_same_as_mindspore(config: str, values: str, pynative_mode: None, rng: np.random.Generator) -> None:
    for hw in ((12, 14), (13, 35)):
        x = VALUES[values](rng, (2, 3, *hw))
        assert_same(MaxPool2d(**CONFIGS[config]), nn.MaxPool2d(**CONFIGS[config]), x, rng)


@pytest.mark.parametrize("config", ["stem", "same stem"])
def test_same_as_mindspore_in_graph_mode(config: str, graph_mode: None, rng: np.random.Generator) -> None:
    x = VALUES["after ReLU"](rng, (2, 3, 12, 17))
    assert_same(MaxPool2d(**CONFIGS[config]), nn.MaxPool2d(**CONFIGS[config]), x, rng)


UNKNOWN = {"batch": [None, 3, 9, 8], "all": [None] * 4, "rank": None}


@pytest.mark.parametrize("unknown", UNKNOWN)
@pytest.mark.parametrize("config", ["stem", "same stem"])
def test_unknown_shapes(config: str, unknown: str, mode: str, rng: np.random.Generator) -> None:
    static, dynamic = MaxPool2d(**CONFIGS[config]), MaxPool2d(**CONFIGS[config])
    dynamic.set_inputs(Tensor(shape=UNKNOWN[unknown], dtype=ms.float32))
    for n in (1, 3, 0):
        x = tensor(rng.standard_normal((n, 3, 9, 8)))
        assert np.array_equal(dynamic(x).asnumpy(), static(x).asnumpy())
    if unknown == "all":
        assert dynamic(tensor(np.ones((2, 5, 4, 7)))).shape == (2, 5, 2, 4)


def test_rank_is_checked_when_it_runs(graph_mode: None) -> None:
    net = MaxPool2d(3, 2)
    net.set_inputs(Tensor(shape=None, dtype=ms.float32))
    net(tensor(np.ones((1, 2, 5, 5))))
    with pytest.raises(RuntimeError, match=r"max_pool: x: got shape \(2, 5, 5\), expected rank 4"):
        net(tensor(np.ones((2, 5, 5))))


def test_empty_batch(mode: str) -> None:
    found = both_passes(MaxPool2d(3, 2, "pad", 1), np.zeros((0, 4, 6, 6)), np.zeros((0, 4, 3, 3)))
    assert (found["y"].shape, found["grad.x"].shape) == ((0, 4, 3, 3), (0, 4, 6, 6))


INT = "an int in 1..4096"
BAD = [
    (dict(kernel_size="3"), TypeError, f"kernel_size: got str '3', expected {INT}"),
    (dict(kernel_size=0), ValueError, f"kernel_size: got 0, expected {INT}"),
    (dict(kernel_size=(3, 2)), ValueError, "kernel_size: got (3, 2), expected an int, the same in both directions"),
    (dict(stride=1.0), TypeError, f"stride: got float 1.0, expected {INT}"),
    (dict(stride=(2, 1)), ValueError, "stride: got (2, 1), expected an int, the same in both directions"),
    (dict(stride=(2, 2, 2)), ValueError, "stride: got (2, 2, 2), expected an int, the same in both directions"),
    (dict(pad_mode=1), TypeError, "pad_mode: got int 1, expected a str"),
    (dict(pad_mode="full"), ValueError, "pad_mode: got 'full', expected 'same', 'valid' or 'pad'"),
    (dict(padding=1), ValueError, "padding: got 1, expected 0, as pad_mode is 'valid'"),
    (dict(pad_mode="same", padding=1), ValueError, "padding: got 1, expected 0, as pad_mode is 'same'"),
    (dict(pad_mode="pad", padding=-1), ValueError, "padding: got -1, expected an int in 0..4096"),
    (dict(pad_mode="pad", padding=2), ValueError, "padding: got 2, expected an int in 0..1, half of kernel 3"),
    (dict(pad_mode="pad", padding=(1, 0)), ValueError,
     "padding: got (1, 0), expected an int, the same in both directions"),
    (dict(pad_mode="pad", dilation=2), ValueError, "dilation: got 2, expected 1"),
    (dict(pad_mode="pad", return_indices=True), ValueError, "return_indices: got True, expected False"),
    (dict(pad_mode="pad", return_indices=1), TypeError, "return_indices: got int 1, expected a bool"),
    (dict(pad_mode="pad", ceil_mode=True), ValueError, "ceil_mode: got True, expected False"),
    (dict(data_format="NHWC"), ValueError, "data_format: got 'NHWC', expected 'NCHW'"),
]  # fmt: skip


@pytest.mark.parametrize("change, error, message", BAD, ids=[message[:40] for _, _, message in BAD])
def test_bad_arguments(change: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=f"^MaxPool2d: {re.escape(message)}$"):
        MaxPool2d(**{"kernel_size": 3, "stride": 2, **change})


@pytest.mark.parametrize(
    "x, error, message",
    [
        (np.ones((2, 3, 6, 6), np.float16), TypeError, "x: got dtype float16, expected float32"),
        (np.ones((3, 6, 6), np.float32), ValueError, "x: got shape (3, 6, 6), expected rank 4: (n, c, h, w)"),
        (np.ones((2, 3, 2, 6), np.float32), ValueError, "x: got height 2 with kernel 3"),
    ],
)
def test_bad_input(x: np.ndarray, error: type[Exception], message: str, mode: str) -> None:
    with pytest.raises(error, match=re.escape(f"max_pool: {message}")):
        MaxPool2d(3, 2)(Tensor(x))
