# SPDX-License-Identifier: Apache-2.0
"""sknet_ops.profile."""

from __future__ import annotations

import pytest
from mindspore import nn

import sknet_ops
from sknet_ops import binary
from sknet_ops.profiling import roofline
from tests.mindspore_tools import WithGradients, tensor


@pytest.fixture
def x(rng):
    return tensor(rng.standard_normal((2, 8, 9, 9)))


@pytest.fixture
def net() -> nn.Cell:
    layer = sknet_ops.SelectiveKernel(8, 8, groups=2, split_input=False)
    return nn.SequentialCell([layer, nn.ReLU(), layer])


def test_forward(mode: str, net: nn.Cell, x) -> None:
    found = sknet_ops.profile(net.set_train(False), x, runs=3)
    (op,) = found.ops
    assert (op.op, op.calls) == ("selective_kernel", 2)
    assert op.shapes[0] == (2, 8, 9, 9) and op.shapes[1] == (8, 4, 3, 3)
    assert op.flops == 2 * (2 * 2 * 2 * 8 * 81 * 4 * 9 + 2 * 2 * (8 * 8 + 16 * 8) + 2 * 2 * 2 * 8 * 81)
    assert 0 < op.seconds < found.seconds
    assert found.outside == pytest.approx(found.seconds - op.seconds)
    assert "selective_kernel" in str(found) and "2x8x9x9 * 8x4x3x3" in str(found)


def test_training(mode: str, net: nn.Cell, x) -> None:
    found = sknet_ops.profile(WithGradients(net.set_train()), x, x, runs=2)
    assert {op.op: op.calls for op in found.ops} == {"selective_kernel": 2, "selective_kernel_grad": 2}
    forward, backward = sorted(found.ops, key=lambda op: op.op)
    assert backward.flops == 2 * forward.flops


def test_nothing_is_noted_when_off(net: nn.Cell, x) -> None:
    sknet_ops.profile(net.set_train(False), x, runs=1)
    before = binary.library().sknet_ops_profile_count()
    net(x).asnumpy()
    assert binary.library().sknet_ops_profile_count() == before == 2


def test_roofline_is_measured_once() -> None:
    found = roofline()
    assert found.flops > 1e8 and found.bandwidth > 1e8
    assert roofline() is found
    assert found.seconds(int(2 * found.flops), 1) == pytest.approx(2)
    assert found.seconds(1, int(3 * found.bandwidth)) == pytest.approx(3)


def test_bad_arguments(net: nn.Cell, x) -> None:
    with pytest.raises(TypeError, match="profile: net: got int"):
        sknet_ops.profile(3, x)
    with pytest.raises(ValueError, match="profile: runs: got 0"):
        sknet_ops.profile(net, x, runs=0)
    with pytest.raises(ValueError, match="profile: net: .*no op of sknet_ops"):
        sknet_ops.profile(nn.ReLU(), x, runs=1)
