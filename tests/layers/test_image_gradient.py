# SPDX-License-Identifier: Apache-2.0
"""A convolution of images: their gradient is right where it is wanted, and not computed by a graph where it is not."""

from __future__ import annotations

import mindspore as ms
import numpy as np
import pytest
from mindspore import nn, ops

import sknet_ops
from sknet_ops.layers import ConvBnAct


class Gradients(nn.Cell):
    """(x, dy) -> gradients of the parameters, and of x too if asked for."""

    def __init__(self, net: nn.Cell, of_x: bool) -> None:
        super().__init__(auto_prefix=False)
        self.net = net
        self.weights = ms.ParameterTuple(net.trainable_params())
        self.gradient = ops.GradOperation(get_all=of_x, get_by_list=True, sens_param=True)

    def construct(self, x, dy):
        return self.gradient(self.net, self.weights)(x, dy)


def stem(channels: int) -> ConvBnAct:
    ms.set_seed(1)
    np.random.seed(1)
    conv = nn.Conv2d(channels, 16, 7, 2, pad_mode="pad", padding=3)
    return ConvBnAct(conv, nn.BatchNorm2d(16), nn.ReLU).set_train()


def data(channels: int) -> tuple[ms.Tensor, ms.Tensor]:
    rng = np.random.default_rng(2)
    shapes = (3, channels, 20, 22), (3, 16, 10, 11)
    return tuple(ms.Tensor(rng.standard_normal(shape, np.float32)) for shape in shapes)


def gradients_of(mode: int, channels: int, of_x: bool) -> list[np.ndarray]:
    ms.set_context(mode=mode)
    made = Gradients(stem(channels), of_x)(*data(channels))
    if of_x:
        made = (*made[0], *made[1])
    return [g.asnumpy() for g in made]


@pytest.mark.parametrize("channels", [1, 3, 4, 5])
@pytest.mark.parametrize("of_x", [True, False])
def test_same_in_both_modes(channels: int, of_x: bool) -> None:
    graph, pynative = (gradients_of(mode, channels, of_x) for mode in (ms.GRAPH_MODE, ms.PYNATIVE_MODE))
    assert len(graph) == 3 + of_x
    for mine, theirs in zip(graph, pynative, strict=True):
        assert np.array_equal(mine, theirs)


@pytest.mark.parametrize("channels, of_x, calls", [(3, False, 1), (3, True, 2), (5, False, 1), (5, True, 1)])
def test_what_is_called(channels: int, of_x: bool, calls: int) -> None:
    ms.set_context(mode=ms.GRAPH_MODE)
    found = sknet_ops.profile(Gradients(stem(channels), of_x), *data(channels), runs=2)
    made = [op for op in found.ops if op.op == "conv_bn_act_grad"]
    assert sum(op.calls for op in made) == calls
    # dx, shaped as x, is the second tensor of that shape.
    with_dx = [op for op in made if op.shapes.count((3, channels, 20, 22)) == 2]
    assert len(with_dx) == (of_x or channels == 5)
