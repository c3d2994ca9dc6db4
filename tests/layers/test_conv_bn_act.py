# SPDX-License-Identifier: Apache-2.0
"""ConvBnAct and ConvBnActOp beside the cells that they replace."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor, nn, ops

from sknet_ops.layers import ConvBnAct, ConvBnActOp
from tests.mindspore_tools import both_passes, randomise, relative, tensor

CONVS: dict[str, dict[str, Any]] = {
    "1x1 same": dict(kernel_size=1),
    "1x1 same, stride 2": dict(kernel_size=1, stride=2),
    "3x3 same": dict(kernel_size=3),
    "3x3 same, dilated": dict(kernel_size=3, dilation=2),
    "3x3 valid": dict(kernel_size=3, pad_mode="valid"),
    "5x5 valid, stride 2": dict(kernel_size=5, stride=2, pad_mode="valid"),
    "3x3 pad, stride 2": dict(kernel_size=3, stride=2, pad_mode="pad", padding=1),
    "7x7 stem": dict(kernel_size=7, stride=2, pad_mode="pad", padding=3),
    "padding of four equal numbers": dict(kernel_size=3, pad_mode="pad", padding=(2, 2, 2, 2)),
    "even kernel": dict(kernel_size=4, stride=2, pad_mode="pad", padding=1),
    "even kernel, valid": dict(kernel_size=2, pad_mode="valid"),
    "even kernel, same, dilated": dict(kernel_size=2, dilation=2),
    "depthwise": dict(kernel_size=3, group=8, pad_mode="pad", padding=1),
    "settings as pairs": dict(kernel_size=(3, 3), stride=(2, 2), dilation=(1, 1), pad_mode="valid"),
}


class Composed(nn.Cell):
    """MindSpore's own cells, with the parameter names of ConvBnAct."""

    def __init__(self, conv: nn.Conv2d, norm: nn.BatchNorm2d, relu: bool) -> None:
        super().__init__()
        cells = nn.SequentialCell([conv, norm])
        self.insert_child_to_cell("0", cells[0])
        self.insert_child_to_cell("1", cells[1])
        self.cells_in_order = (conv, norm)
        self.relu = relu

    def construct(self, x: Tensor, residual: Tensor | None = None) -> Tensor:
        y = self.cells_in_order[1](self.cells_in_order[0](x))
        if residual is not None:
            y = y + residual
        return ops.relu(y) if self.relu else y


class WithResidual(nn.Cell):
    """The same residual at every call, trained, so that its gradient is compared too."""

    def __init__(self, net: nn.Cell, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.net = net
        self.residual = ms.Parameter(tensor(np.zeros(shape)), name="residual")

    def construct(self, x: Tensor) -> Tensor:
        return self.net(x, self.residual)


def pair(config: dict[str, Any], relu: bool) -> tuple[nn.Cell, nn.Cell]:
    def cells() -> tuple[nn.Conv2d, nn.BatchNorm2d]:
        return nn.Conv2d(8, 16, **config), nn.BatchNorm2d(16, eps=1e-3, momentum=0.8)

    return ConvBnAct(*cells(), nn.ReLU if relu else None), Composed(*cells(), relu)


@pytest.mark.parametrize("training", [False, True], ids=["inference", "training"])
@pytest.mark.parametrize("residual", [False, True], ids=["plain", "residual"])
@pytest.mark.parametrize("relu", [False, True], ids=["linear", "relu"])
@pytest.mark.parametrize("config", ["3x3 same", "3x3 pad, stride 2"])
def test_forms(config: str, relu: bool, residual: bool, training: bool, mode: str, rng: np.random.Generator) -> None:
    compare(CONVS[config], relu, residual, training, rng)


@pytest.mark.parametrize("config", CONVS)
def test_geometry(config: str, pynative_mode: None, rng: np.random.Generator) -> None:
    compare(CONVS[config], True, False, True, rng)


def compare(config: dict[str, Any], relu: bool, residual: bool, training: bool, rng: np.random.Generator) -> None:
    x, found, cotangent = rng.standard_normal((3, 8, 10, 9)), [], None
    for net in pair(config, relu):
        shape = net(tensor(x)).shape
        cotangent = rng.standard_normal(shape) if cotangent is None else cotangent
        net = WithResidual(net, shape) if residual else net
        randomise(net, 4)
        found.append(both_passes(net.set_train(training), x, cotangent))
    assert list(found[0]) == list(found[1])
    for name, value in found[1].items():
        assert relative(found[0][name], value) < (2e-5 if name == "y" else 5e-4), name


def test_names_are_those_of_a_sequence(tmp_path: Path) -> None:
    class Holder(nn.Cell):
        def __init__(self, block: nn.Cell) -> None:
            super().__init__()
            self.conv2 = block

    conv, norm = nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4)
    fused = Holder(ConvBnAct(conv, norm))
    plain = Holder(nn.SequentialCell([nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4)]))
    assert [p.name for p in fused.get_parameters()] == [p.name for p in plain.get_parameters()]
    assert fused.conv2[0] is conv if hasattr(fused.conv2, "__getitem__") else fused.conv2.conv_holder is conv
    file = str(tmp_path / "net.ckpt")
    ms.save_checkpoint(plain, file)
    assert ms.load_param_into_net(fused, ms.load_checkpoint(file), strict_load=True) == ([], [])


@pytest.mark.parametrize("training", [False, True], ids=["inference", "training"])
def test_op_cell(training: bool, mode: str, rng: np.random.Generator) -> None:
    """ConvBnActOp on somebody else's parameters does what ConvBnAct does on its own."""

    class Split(nn.Cell):
        def __init__(self) -> None:
            super().__init__()
            self.conv1 = nn.Conv2d(8, 16, 3, 2, pad_mode="pad", padding=1)
            self.bn1 = nn.BatchNorm2d(16)
            self.fused = ConvBnActOp(stride=2, relu=False)

        def construct(self, x: Tensor) -> Tensor:
            bn = self.bn1
            return self.fused(x, self.conv1.weight, bn.gamma, bn.beta, bn.moving_mean, bn.moving_variance)

    split = Split()
    whole = ConvBnAct(nn.Conv2d(8, 16, 3, 2, pad_mode="pad", padding=1), nn.BatchNorm2d(16))
    x, cotangent = rng.standard_normal((3, 8, 7, 6)), rng.standard_normal((3, 16, 4, 3))
    for net in (split, whole):
        randomise(net, 8)
    got, expected = (list(both_passes(net.set_train(training), x, cotangent).values()) for net in (split, whole))
    for got_value, value in zip(got, expected, strict=True):
        assert np.array_equal(got_value, value)
