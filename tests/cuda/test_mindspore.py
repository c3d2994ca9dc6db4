# SPDX-License-Identifier: Apache-2.0
"""The C entries through MindSpore: the emulated library stands in, which takes the host pointers of MindSpore's CPU.

Everything but the device is as it would be on one: attributes, shape inference, buffers, running statistics, autodiff.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from mindspore import nn

from sknet_ops import backends, primitives
from sknet_ops.backends import composed, cuda
from sknet_ops.layers import ConvBnAct, MaxPool2d, SelectiveKernel
from tests.cuda import build
from tests.mindspore_tools import (  # noqa: F401  mode is a fixture
    WithGradients,
    both_passes,
    mode,
    randomise,
    relative,
    tensor,
)

PRIMITIVES = (primitives.sk_conv, primitives.sk_attention, primitives.sk_select, primitives.selective_kernel)


@pytest.fixture
def emulated_entries(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """New primitives take their entries from the emulated library."""
    path = build.library("sknet_ops_cuda_emulated")
    monkeypatch.setattr(backends, "library_path", lambda op: path)
    for make in PRIMITIVES:
        make.__wrapped__.cache_clear()
    yield
    for make in PRIMITIVES:
        make.__wrapped__.cache_clear()


def layer() -> SelectiveKernel:
    net = SelectiveKernel(8, 8, groups=2, split_input=False)
    rng = np.random.default_rng(1)
    for parameter in net.get_parameters():
        shift = 1.0 if parameter.name.endswith(("gamma", "variance")) else 0.0
        parameter.set_data(tensor(shift + 0.2 * rng.uniform(-1, 1, parameter.shape)))
    return net


@pytest.mark.parametrize("inside", ["nchw", "nhwc"])
@pytest.mark.parametrize("training", [True, False], ids=["training", "inference"])
def test_layer(
    training: bool,
    inside: str,
    mode: str,  # noqa: F811
    request: pytest.FixtureRequest,
    rng: np.random.Generator,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SKNET_OPS_CUDA_INSIDE", inside)
    x, cotangent = rng.normal(0, 1, (4, 8, 6, 5)), rng.normal(0, 1, (4, 8, 6, 5))

    def run() -> tuple[list[np.ndarray], list[np.ndarray]]:
        net = layer().set_train(training)
        y, dx, grads = WithGradients(net)(tensor(x), tensor(cotangent))
        moving = [p.asnumpy() for p in net.get_parameters() if "moving" in p.name]
        return [y.asnumpy(), dx.asnumpy(), *(g.asnumpy() for g in grads)], moving

    expected, expected_moving = run()
    request.getfixturevalue("emulated_entries")
    got, got_moving = run()
    for name, values, exact in (("result", got, expected), ("moving", got_moving, expected_moving)):
        for index, (value, other) in enumerate(zip(values, exact, strict=True)):
            assert relative(value, other) < 1e-4, (name, index)
    if training:
        before = [p.asnumpy() for p in layer().get_parameters() if "moving" in p.name]
        assert all(np.abs(a - b).max() > 1e-4 for a, b in zip(got_moving, before, strict=True))


def test_errors_reach_python(emulated_entries: None, mode: str, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    """A failure in the library is an exception that names the op; so these tests run what they say they run."""
    monkeypatch.setenv("SKNET_OPS_EMU_DEVICE", "nonsense")
    with pytest.raises(RuntimeError, match="selective_kernel: SKNET_OPS_EMU_DEVICE: got nonsense, expected three"):
        layer()(tensor(np.ones((2, 8, 5, 5)))).asnumpy()


def test_what_the_library_has_not_is_mindspores(
    mode: str,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A network of the models' layers: units from the library, plain convolutions and pooling of MindSpore's."""

    def net() -> nn.Cell:
        conv = ConvBnAct(nn.Conv2d(8, 8, 1, has_bias=False), nn.BatchNorm2d(8), nn.ReLU)
        cell = nn.SequentialCell([conv, MaxPool2d(3, 1, "same"), layer()])
        randomise(cell, 3)
        return cell.set_train()

    rng = np.random.default_rng(5)
    x, dy = rng.standard_normal((2, 4, 8, 5, 6))
    monkeypatch.delenv("SKNET_OPS_BACKEND", raising=False)
    want = both_passes(net(), x, dy)
    monkeypatch.setenv("SKNET_OPS_BACKEND", "cuda")
    monkeypatch.setattr(cuda, "why_not", lambda: None)
    monkeypatch.setattr(cuda, "LIBRARY", build.library("sknet_ops_cuda_emulated"))
    for make in PRIMITIVES:
        make.__wrapped__.cache_clear()
    try:
        assert isinstance(cuda.primitive("max_pool", dict(kernel=3, stride=1, padding=0, same=True)), composed.MaxPool)
        assert cuda.primitive("sk_select", {}) is None
        got = both_passes(net(), x, dy)
    finally:
        for make in PRIMITIVES:
            make.__wrapped__.cache_clear()
    assert {name: relative(got[name], want[name]) for name in want if relative(got[name], want[name]) > 1e-3} == {}
