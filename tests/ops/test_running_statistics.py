# SPDX-License-Identifier: Apache-2.0
"""Running statistics move in place, exactly once for each training call, and at no other time."""

from __future__ import annotations

import mindspore as ms
import numpy as np
import pytest
from mindspore import Model, Tensor, nn

from sknet_ops.layers import ConvBnAct, SelectiveKernel
from tests.mindspore_tools import WithGradients, relative, tensor

MOMENTUM = 0.1


def conv_bn_act() -> ConvBnAct:
    return ConvBnAct(nn.Conv2d(4, 6, 1, weight_init="normal"), nn.BatchNorm2d(6), nn.ReLU)


def after_steps(net: ConvBnAct, x: np.ndarray, steps: int) -> tuple[np.ndarray, np.ndarray]:
    """The moving statistics that so many steps on the same batch must leave."""
    weight = net.conv_holder.weight.asnumpy()[:, :, 0, 0].astype(np.float64)
    z = np.einsum("oc,nchw->nohw", weight, x.astype(np.float64))
    keep = (1 - MOMENTUM) ** steps
    mean, variance = z.mean((0, 2, 3)), z.var((0, 2, 3), ddof=1)
    return (1 - keep) * mean, keep + (1 - keep) * variance


@pytest.fixture
def x(rng: np.random.Generator) -> np.ndarray:
    return rng.standard_normal((3, 4, 5, 3)).astype(np.float32) + 0.5


def assert_moved(net: ConvBnAct, x: np.ndarray, steps: int) -> None:
    mean, variance = after_steps(net, x, steps)
    assert relative(net.norm_holder.moving_mean.asnumpy(), mean) < 1e-5
    assert relative(net.norm_holder.moving_variance.asnumpy(), variance) < 1e-5


def test_once_a_forward_call(mode: str, x: np.ndarray) -> None:
    net = conv_bn_act().set_train()
    for step in range(1, 4):
        net(tensor(x))
        assert_moved(net, x, step)


def test_once_a_step_with_gradients(mode: str, x: np.ndarray) -> None:
    net = conv_bn_act().set_train()
    step = WithGradients(net)
    cotangent = tensor(np.ones((3, 6, 5, 3)))
    for steps in range(1, 4):
        step(tensor(x), cotangent)
        assert_moved(net, x, steps)


class Twice(nn.Cell):
    """Equal calls, which a graph must not merge, one with an unused result, which it must not drop."""

    def __init__(self, net: nn.Cell) -> None:
        super().__init__(auto_prefix=False)
        self.net = net

    def construct(self, x: Tensor) -> Tensor:
        self.net(x)
        return self.net(x) + self.net(x)


def test_equal_and_unused_calls_all_count(mode: str, x: np.ndarray) -> None:
    net = conv_bn_act().set_train()
    Twice(net).set_train()(tensor(x))
    assert_moved(net, x, 3)


def test_inference_leaves_them(mode: str, x: np.ndarray) -> None:
    net = conv_bn_act().set_train(False)
    WithGradients(net)(tensor(x), tensor(np.ones((3, 6, 5, 3))))
    assert_moved(net, x, 0)


@pytest.mark.parametrize("by", ["set_train", "use_batch_statistics"])
def test_frozen_norm_in_training(by: str, mode: str, x: np.ndarray) -> None:
    net = conv_bn_act().set_train()
    if by == "set_train":
        net.norm_holder.set_train(False)
    else:
        net.norm_holder.use_batch_statistics = False
    frozen = net(tensor(x)).asnumpy()
    assert_moved(net, x, 0)
    assert np.array_equal(net.set_train(False)(tensor(x)).asnumpy(), frozen)


def test_switching_back_and_forth(mode: str, x: np.ndarray) -> None:
    net = conv_bn_act()
    for steps in range(1, 3):
        net.set_train()(tensor(x))
        assert_moved(net, x, steps)
        net.set_train(False)(tensor(x))
        assert_moved(net, x, steps)


class Head(nn.Cell):
    """A classifier small enough for a test."""

    def __init__(self) -> None:
        super().__init__()
        self.unit = SelectiveKernel(4, 8)
        self.dense = nn.Dense(8, 3)

    def construct(self, x: Tensor) -> Tensor:
        return self.dense(self.unit(x).mean((2, 3)))


def test_model_train(mode: str, rng: np.random.Generator) -> None:
    """Model.train: the loss falls, and every running statistic moves."""
    ms.set_seed(1)
    labels = rng.integers(0, 3, 24).astype(np.int32)
    images = (rng.standard_normal((24, 4, 6, 6)) + labels[:, None, None, None]).astype(np.float32)
    data = ms.dataset.NumpySlicesDataset({"x": images, "label": labels}, shuffle=False).batch(8)
    net = Head()
    before = {p.name: p.asnumpy().copy() for p in net.untrainable_params()}
    loss = nn.CrossEntropyLoss()
    start = loss(net.set_train(False)(tensor(images)), Tensor(labels)).asnumpy()
    optimizer = nn.Momentum(net.trainable_params(), 0.1, 0.9)
    Model(net, loss, optimizer).train(10, data, dataset_sink_mode=False)
    end = loss(net.set_train(False)(tensor(images)), Tensor(labels)).asnumpy()
    assert end < 0.5 * start
    for p in net.untrainable_params():
        assert not np.array_equal(p.asnumpy(), before[p.name]), p.name
