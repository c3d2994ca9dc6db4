# SPDX-License-Identifier: Apache-2.0
"""fuse on MindCV's own models, as they come from create_model."""

from __future__ import annotations

from pathlib import Path

import mindspore as ms
import numpy as np
import pytest
from mindspore import nn

import sknet_ops
from sknet_ops import SelectiveKernel
from tests.mindspore_tools import MODES, randomise, relative, tensor

mindcv = pytest.importorskip("mindcv")

# model -> number of SelectiveKernel cells, of other convolutions
MODELS = {"skresnet18": (8, 12), "skresnet34": (16, 20), "skresnet50": (16, 37), "skresnext50_32x4d": (16, 37)}
LOGITS = 1e-4


def create(name: str, seed: int = 3) -> nn.Cell:
    net = mindcv.create_model(name, num_classes=10)
    randomise(net, seed)
    for parameter in net.get_parameters():
        # The last scale of each residual branch: keeps deep random networks from blowing up.
        if parameter.name.endswith(("conv2.1.gamma", "conv3.1.gamma", "bn2.gamma", "bn3.gamma")):
            parameter.set_data(parameter * 0.2)
    return net


def images(seed: int, batch: int = 2, size: int = 64) -> ms.Tensor:
    return tensor(np.random.default_rng(seed).standard_normal((batch, 3, size, size)))


@pytest.mark.parametrize("name", MODELS)
def test_logits_and_names(name: str, pynative_mode: None) -> None:
    net = create(name)
    parameters = list(net.parameters_and_names())
    trainable = [id(p) for p in net.trainable_params()]
    x = images(1)
    expected = net.set_train(False)(x).asnumpy()
    returned, report = sknet_ops.fuse(net, return_report=True)
    assert returned is net
    assert relative(net(x).asnumpy(), expected) < LOGITS
    assert report.left == []
    units, convolutions = MODELS[name]
    assert [entry.op for entry in report.swapped].count("selective_kernel") == units
    assert [entry.op for entry in report.swapped].count("conv_bn_act") == convolutions
    assert [entry.name for entry in report.swapped if entry.op == "max_pool"] == ["max_pool"]
    assert sum(isinstance(cell, SelectiveKernel) for _, cell in net.cells_and_names()) == units
    after = list(net.parameters_and_names())
    assert [(n, id(p), p.name) for n, p in after] == [(n, id(p), p.name) for n, p in parameters]
    assert [id(p) for p in net.trainable_params()] == trainable


@pytest.mark.parametrize("name", ["skresnet18"])
def test_logits_in_graph_mode(name: str, graph_mode: None) -> None:
    net = create(name).set_train(False)
    x = images(1)
    expected = net(x).asnumpy()
    assert relative(sknet_ops.fuse(net)(x).asnumpy(), expected) < LOGITS


def losses(net: nn.Cell, steps: int, size: int, learning_rate: float) -> np.ndarray:
    """Training on a batch that stays, with momentum."""
    loss = nn.CrossEntropyLoss()
    optimizer = nn.Momentum(net.trainable_params(), learning_rate, 0.9, weight_decay=1e-4)
    step = nn.TrainOneStepCell(nn.WithLossCell(net, loss), optimizer).set_train()
    x, labels = images(5, batch=8, size=size), ms.Tensor(np.arange(8) % 10, ms.int32)
    return np.array([float(step(x, labels).asnumpy()) for _ in range(steps)])


@pytest.mark.parametrize(
    "name, mode",
    [
        ("skresnet18", "graph"),
        pytest.param("skresnet34", "pynative", marks=pytest.mark.long),
        pytest.param("skresnet50", "pynative", marks=pytest.mark.long),
        pytest.param("skresnext50_32x4d", "pynative", marks=pytest.mark.long),
    ],
)
def test_training_curve(name: str, mode: str) -> None:
    """Twenty steps: the same losses, and in the end the same running statistics."""
    ms.set_context(mode=MODES[mode])
    try:
        plain, fused = create(name), sknet_ops.fuse(create(name))
        expected, got = (losses(net, 20, 32, 0.003) for net in (plain, fused))
    finally:
        ms.set_context(mode=ms.PYNATIVE_MODE)
    assert expected[-1] < 0.8 * expected[0]
    assert np.abs(got / expected - 1).max() < 1e-2
    assert np.abs(got - expected).max() < 1e-4 * expected[0]


def test_checkpoints_both_ways(tmp_path: Path, pynative_mode: None) -> None:
    plain, fused = create("skresnet18", 1), sknet_ops.fuse(create("skresnet18", 2))
    x, file = images(2), str(tmp_path / "net.ckpt")
    ms.save_checkpoint(fused, file)
    assert ms.load_param_into_net(plain, ms.load_checkpoint(file), strict_load=True) == ([], [])
    assert relative(plain.set_train(False)(x).asnumpy(), fused.set_train(False)(x).asnumpy()) < LOGITS
    plain = create("skresnet18", 4)
    ms.save_checkpoint(plain, file)
    assert ms.load_param_into_net(fused, ms.load_checkpoint(file), strict_load=True) == ([], [])
    assert relative(fused(x).asnumpy(), plain.set_train(False)(x).asnumpy()) < LOGITS


def test_resnet(pynative_mode: None) -> None:
    """No SK unit in it: the convolutions and the pooling alone."""
    net = create("resnet18").set_train(False)
    x = images(1)
    expected = net(x).asnumpy()
    _, report = sknet_ops.fuse(net, return_report=True)
    assert (len(report.swapped), report.left) == (21, [])
    assert relative(net(x).asnumpy(), expected) < LOGITS


def test_a_unit_that_is_left(pynative_mode: None) -> None:
    """A norm of another kind in one unit: that one stays, the others go."""
    net = create("skresnet18")
    odd = net.layer2[0].conv1
    odd.paths[0].features[1].register_forward_hook(lambda cell, args, out: None)
    x = images(1)
    expected = net.set_train(False)(x).asnumpy()
    _, report = sknet_ops.fuse(net, return_report=True)
    left = {entry.name: entry.reason for entry in report.left}
    assert left["layer2.0.conv1"] == "nn.BatchNorm2d has a hook, which a fused op could not call"
    assert sum(entry.op == "selective_kernel" for entry in report.swapped) == 7
    assert relative(net(x).asnumpy(), expected) < LOGITS
