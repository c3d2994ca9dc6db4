# SPDX-License-Identifier: Apache-2.0
"""sknet_ops.freeze: same results, in both modes, and what it refuses."""

from __future__ import annotations

import mindspore as ms
import numpy as np
import pytest
from mindspore import nn

import sknet_ops
from sknet_ops.layers import ConvBnAct, SelectiveKernel


class Net(nn.Cell):
    def __init__(self) -> None:
        super().__init__()
        self.stem = ConvBnAct(nn.Conv2d(3, 32, 3, pad_mode="pad", padding=1), nn.BatchNorm2d(32), nn.ReLU)
        # Two layers with equal settings: what the one keeps must not serve the other.
        self.first, self.second = SelectiveKernel(32, 32), SelectiveKernel(32, 32)

    def construct(self, x):
        return self.second(self.first(self.stem(x)))


@pytest.fixture(params=[ms.GRAPH_MODE, ms.PYNATIVE_MODE], ids=["graph", "pynative"])
def mode(request):
    ms.set_context(mode=request.param)
    return request.param


def _net() -> Net:
    ms.set_seed(5)
    np.random.seed(5)
    return Net().set_train(False)


def _image(seed: int, n: int = 2) -> ms.Tensor:
    return ms.Tensor(np.random.default_rng(seed).standard_normal((n, 3, 13, 13)).astype(np.float32))


def test_same_bits(mode) -> None:
    plain, frozen = _net(), _net()
    assert sknet_ops.freeze(frozen) is frozen
    for seed, n in ((0, 2), (1, 2), (2, 1)):
        assert np.array_equal(frozen(_image(seed, n)).asnumpy(), plain(_image(seed, n)).asnumpy())


def test_training_goes_on(mode) -> None:
    def step(net: Net) -> list[np.ndarray]:
        net.set_train()
        weights = ms.ParameterTuple(net.trainable_params())
        grads = ms.ops.GradOperation(get_by_list=True)(net, weights)(_image(3))
        return [g.asnumpy() for g in grads]

    for got, expected in zip(step(sknet_ops.freeze(_net())), step(_net()), strict=True):
        assert np.array_equal(got, expected)


def test_changed_weights() -> None:
    ms.set_context(mode=ms.PYNATIVE_MODE)
    frozen, plain = sknet_ops.freeze(_net()), _net()
    frozen(_image(0))
    for net in (frozen, plain):
        weight = net.first.paths[1].features[0].weight
        changed = weight.asnumpy().copy()
        changed[3, 4, 1, 1] += 1
        weight.set_data(ms.Tensor(changed))
    sknet_ops.freeze(frozen)
    assert np.array_equal(frozen(_image(0)).asnumpy(), plain(_image(0)).asnumpy())
    sknet_ops.unfreeze(frozen)
    assert np.array_equal(frozen(_image(1)).asnumpy(), plain(_image(1)).asnumpy())


def test_fused_network() -> None:
    mindcv = pytest.importorskip("mindcv", reason="MindCV is missing: pip install mindcv==0.3.0")
    ms.set_context(mode=ms.GRAPH_MODE)
    net = sknet_ops.freeze(sknet_ops.fuse(mindcv.create_model("skresnet18"))).set_train(False)
    convolutions = [cell for _, cell in net.cells_and_names() if isinstance(cell, nn.Conv2d)]
    # All but the attentions' dense layers.
    assert sum(getattr(conv, "weights_frozen", False) for conv in convolutions) == len(convolutions) - 2 * 8
    assert net(ms.Tensor(np.ones((1, 3, 64, 64), np.float32))).shape == (1, 1000)


@pytest.mark.parametrize("change", [sknet_ops.freeze, sknet_ops.unfreeze])
def test_refusals(change) -> None:
    with pytest.raises(TypeError, match=f"{change.__name__}: net: got int, expected nn.Cell"):
        change(3)
    with pytest.raises(ValueError, match=f"{change.__name__}: net: got Dense without layers of sknet_ops"):
        change(nn.Dense(2, 2))
    with pytest.raises(TypeError, match="conv_bn_act: frozen: got int 1, expected a bool"):
        ones = ms.Tensor(np.ones(2, np.float32))
        x, weight = ms.Tensor(np.ones((1, 2, 3, 3), np.float32)), ms.Tensor(np.ones((2, 2, 1, 1), np.float32))
        sknet_ops.functional.conv_bn_act(x, weight, ones, ones, ones, ones, frozen=1)
