# SPDX-License-Identifier: Apache-2.0
"""fuse on nn.MaxPool2d: what is taken, what is left, and that nothing else changes."""

from __future__ import annotations

import copy
from typing import Any

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor, nn

import sknet_ops
from sknet_ops import backends, functional
from tests.mindspore_tools import both_passes, tensor

TAKEN = [
    dict(kernel_size=3, stride=2, pad_mode="pad", padding=1),
    dict(kernel_size=3, stride=2, pad_mode="same"),
    dict(kernel_size=(2, 2), stride=2),
    dict(kernel_size=5, pad_mode="pad", padding=(2, 2)),
]
LEFT = [
    (dict(kernel_size=(3, 2)), "kernel_size: got (3, 2), expected an int, the same in both directions"),
    (dict(kernel_size=3, pad_mode="pad", padding=(1, 0)), "padding: got (1, 0), expected an int, the same in"),
    (dict(kernel_size=3, pad_mode="pad", ceil_mode=True), "ceil_mode: got True, expected False"),
    (dict(kernel_size=3, pad_mode="pad", dilation=2), "dilation: got 2, expected 1"),
    (dict(kernel_size=3, pad_mode="pad", return_indices=True), "return_indices: got True, expected False"),
]


class Pooled(nn.Cell):
    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__()
        self.pool = nn.MaxPool2d(**config)

    def construct(self, x: Tensor) -> Tensor:
        return self.pool(x) * 2


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """Shapes of the inputs that the op gets, in PyNative mode."""
    seen: list[tuple[int, ...]] = []
    original = functional.max_pool
    monkeypatch.setattr(functional, "max_pool", lambda x, **attrs: seen.append(x.shape) or original(x, **attrs))
    return seen


@pytest.mark.parametrize("config", TAKEN)
def test_taken(config: dict[str, Any], pynative_mode: None, calls: list, rng: np.random.Generator) -> None:
    plain, net = Pooled(config), Pooled(config)
    pool = net.pool
    returned, report = sknet_ops.fuse(net, return_report=True)
    assert returned.pool is pool and isinstance(pool, nn.MaxPool2d)
    assert [str(entry) for entry in report.swapped] == ["pool: max_pool for the nn.MaxPool2d"]
    assert report.left == []
    x = rng.integers(-3, 4, (2, 3, 9, 12))
    cotangent = rng.integers(-3, 4, plain(tensor(x)).shape)
    assert calls == []
    expected, got = (both_passes(cell, x, cotangent) for cell in (plain, copy.deepcopy(net)))
    assert calls == [(2, 3, 9, 12)]
    for name, value in expected.items():
        assert np.array_equal(got[name], value), name


def test_in_graph_mode_and_twice(graph_mode: None, rng: np.random.Generator) -> None:
    plain, net = Pooled(TAKEN[0]), sknet_ops.fuse(Pooled(TAKEN[0]))
    _, report = sknet_ops.fuse(net, return_report=True)
    assert [entry.replaces for entry in report.swapped] == ["an nn.MaxPool2d that was fused already"]
    x, cotangent = rng.integers(-3, 4, (2, 3, 9, 12)), rng.integers(-3, 4, (2, 3, 5, 6))
    expected, got = (both_passes(cell, x, cotangent) for cell in (plain, net))
    for name, value in expected.items():
        assert np.array_equal(got[name], value), name


@pytest.mark.parametrize("config, reason", LEFT, ids=[reason[:20] for _, reason in LEFT])
def test_left(config: dict[str, Any], reason: str) -> None:
    net = Pooled(config)
    _, report = sknet_ops.fuse(net, return_report=True)
    assert report.swapped == []
    assert [(entry.name, entry.cell) for entry in report.left] == [("pool", "nn.MaxPool2d")]
    assert report.left[0].reason.startswith(reason)
    assert type(net.pool) is nn.MaxPool2d


def test_subclasses_and_half_precision_are_left() -> None:
    class Other(nn.MaxPool2d):
        pass

    net = nn.SequentialCell([Other(3, 2), nn.MaxPool2d(3, 2).to_float(ms.float16)])
    _, report = sknet_ops.fuse(net, return_report=True)
    assert [entry.reason.partition(", expected")[0].split(".")[-1] for entry in report.left] == [
        "Other",
        "MaxPool2d set to a half precision by to_float",
    ]


@pytest.mark.parametrize("shape, dtype", [((2, 3, 9, 9), np.float16), ((3, 9, 9), np.float32)])
def test_what_the_op_does_not_take_goes_the_old_way(shape: tuple, dtype: Any, mode: str, calls: list) -> None:
    x = Tensor(np.arange(np.prod(shape)).reshape(shape).astype(dtype) % 7)
    y = sknet_ops.fuse(Pooled(TAKEN[0]))(x)
    assert y.dtype == x.dtype
    assert np.array_equal(y.asnumpy(), Pooled(TAKEN[0])(x).asnumpy())
    assert calls == []


def test_other_backends_have_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backends, "active_backend", lambda: "cuda")
    _, report = sknet_ops.fuse(Pooled(TAKEN[0]), return_report=True)
    assert [entry.reason for entry in report.left] == ["backend cuda has no max_pool of its own"]
