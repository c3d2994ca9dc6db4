# SPDX-License-Identifier: Apache-2.0
"""SelectiveKernel beside MindCV's own layer."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import mindspore as ms
import numpy as np
import pytest
from mindspore import nn

import sknet_ops
from sknet_ops import SelectiveKernel
from tests.mindspore_tools import WithGradients, both_passes, randomise, relative, tensor

mindcv = pytest.importorskip("mindcv.models.layers.selective_kernel")


class OwnNorm(nn.BatchNorm2d):
    """A subclass that changes settings only."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, eps=1e-3, momentum=0.8)


CONFIGS: dict[str, dict[str, Any]] = {
    "defaults": dict(in_channels=8),
    "skresnet18 stride 2": dict(in_channels=8, out_channels=16, stride=2, rd_ratio=1 / 8, rd_divisor=16),
    "paper, grouped": dict(in_channels=16, groups=4, rd_divisor=32, split_input=False),
    "one branch": dict(in_channels=6, out_channels=10, kernel_size=[3]),
    "three branches, split": dict(in_channels=12, kernel_size=[3, 5, 7]),
    "four branches, grouped, stride 2": dict(in_channels=16, kernel_size=[3, 5, 3, 7], groups=2, stride=2),
    "true 5x5 and 7x7": dict(in_channels=8, kernel_size=[5, 7], keep_3x3=False, split_input=False),
    "int kernel, dilation": dict(in_channels=8, kernel_size=5, dilation=2),
    "true dilated kernels": dict(in_channels=8, kernel_size=[3, 5], keep_3x3=False, dilation=3),
    "rd_channels": dict(in_channels=8, rd_channels=5),
    "groups above out_channels": dict(in_channels=16, out_channels=8, groups=64, split_input=False),
    "stride 3": dict(in_channels=8, stride=3),
    "stride 4": dict(in_channels=8, stride=4, keep_3x3=False, kernel_size=[7, 3]),
    "depthwise, odd sizes": dict(in_channels=7, groups=7, split_input=False),
    "no activation": dict(in_channels=8, activation=None, norm=nn.BatchNorm2d),
    "norm settings": dict(in_channels=8, norm=functools.partial(nn.BatchNorm2d, eps=1e-3, momentum=0.7)),
    "own norm class": dict(in_channels=8, norm=OwnNorm),
}
# Compiling takes seconds each: one of every kind.
COMPILED = ["skresnet18 stride 2", "paper, grouped", "one branch", "three branches, split", "four branches, grouped, "
            "stride 2", "no activation"]  # fmt: skip


def pair(seed: int = 1, **config: Any) -> tuple[SelectiveKernel, nn.Cell]:
    ours, theirs = SelectiveKernel(**config), mindcv.SelectiveKernel(**config)
    randomise(ours, seed)
    randomise(theirs, seed)
    return ours, theirs


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_parameters(config: dict[str, Any]) -> None:
    """Same names, shapes, order, trainability, and the same values from the same seed."""
    layers = []
    for cls in (SelectiveKernel, mindcv.SelectiveKernel):
        ms.set_seed(5)
        layers.append(cls(**config))
    ours, theirs = (list(layer.get_parameters()) for layer in layers)
    assert [(p.name, p.shape, p.requires_grad) for p in ours] == [(p.name, p.shape, p.requires_grad) for p in theirs]
    for ours_p, theirs_p in zip(ours, theirs, strict=True):
        assert np.array_equal(ours_p.asnumpy(), theirs_p.asnumpy()), ours_p.name


@pytest.mark.parametrize("training", [False, True], ids=["inference", "training"])
@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_parity(config: dict[str, Any], training: bool, pynative_mode: None, rng: np.random.Generator) -> None:
    """Same outputs, gradients and running statistics."""
    compare(config, training, rng)


@pytest.mark.parametrize("training", [False, True], ids=["inference", "training"])
@pytest.mark.parametrize("config", COMPILED)
def test_parity_in_graph_mode(config: str, training: bool, graph_mode: None, rng: np.random.Generator) -> None:
    compare(CONFIGS[config], training, rng)


def compare(config: dict[str, Any], training: bool, rng: np.random.Generator) -> None:
    ours, theirs = pair(**config)
    x = rng.standard_normal((4, config["in_channels"], 9, 11))
    cotangent = rng.standard_normal(ours(tensor(x)).shape)
    got = both_passes(ours.set_train(training), x, cotangent)
    expected = both_passes(theirs.set_train(training), x, cotangent)
    assert list(got) == list(expected)
    for name, value in expected.items():
        if name == "attn.bn.moving_mean" and config.get("activation", nn.ReLU) is None:
            continue  # zero but for rounding: the mean of what the branches' norms centred
        assert relative(got[name], value) < (2e-5 if name == "y" else 5e-4), name


def test_several_steps(mode: str, rng: np.random.Generator) -> None:
    """Twenty steps of momentum: the same parameters and statistics."""
    layers = pair(in_channels=8, out_channels=12, stride=2)
    x, cotangent = tensor(rng.standard_normal((4, 8, 8, 8))), tensor(rng.standard_normal((4, 12, 4, 4)))
    for layer in layers:
        step = WithGradients(layer.set_train())
        optimizer = nn.Momentum(layer.trainable_params(), 1e-3, 0.9)
        for _ in range(20):
            optimizer(step(x, cotangent)[2])
    for ours, theirs in zip(*(layer.get_parameters() for layer in layers), strict=True):
        assert relative(ours.asnumpy(), theirs.asnumpy()) < 1e-4, ours.name


@pytest.mark.parametrize("source, target", [(0, 1), (1, 0)], ids=["ours to MindCV", "MindCV to ours"])
def test_checkpoint(source: int, target: int, tmp_path: Path, rng: np.random.Generator) -> None:
    layers = (SelectiveKernel(8, 16, groups=2), mindcv.SelectiveKernel(8, 16, groups=2))
    randomise(layers[source], 3)
    file = str(tmp_path / "layer.ckpt")
    ms.save_checkpoint(layers[source], file)
    missing, unexpected = ms.load_param_into_net(layers[target], ms.load_checkpoint(file), strict_load=True)
    assert (missing, unexpected) == ([], [])
    x = tensor(rng.standard_normal((2, 8, 6, 6)))
    assert relative(layers[0](x).asnumpy(), layers[1](x).asnumpy()) < 2e-5


FREEZE = {
    "one branch": lambda net: net.paths[0].features[1].set_train(False),
    "all branches": lambda net: [path.features[1].set_train(False) for path in net.paths],
    "attention": lambda net: net.attn.bn.set_train(False),
    "attention, by attribute": lambda net: setattr(net.attn.bn, "use_batch_statistics", False),
    "all": lambda net: [c.set_train(False) for _, c in net.cells_and_names() if isinstance(c, nn.BatchNorm2d)],
}


@pytest.mark.parametrize("split_input", [True, False], ids=["split", "whole"])
@pytest.mark.parametrize("frozen", FREEZE)
def test_frozen_norms(frozen: str, split_input: bool, mode: str, rng: np.random.Generator) -> None:
    x, cotangent = rng.standard_normal((4, 8, 6, 5)), rng.standard_normal((4, 8, 6, 5))
    found = []
    for layer in pair(in_channels=8, split_input=split_input):
        layer.set_train()
        FREEZE[frozen](layer)
        found.append(both_passes(layer, x, cotangent))
    for name, value in found[1].items():
        assert relative(found[0][name], value) < (2e-5 if name == "y" else 5e-4), name


def test_batch_statistics_outside_training(mode: str, rng: np.random.Generator) -> None:
    x, cotangent = rng.standard_normal((4, 8, 6, 5)), rng.standard_normal((4, 8, 6, 5))
    norm = functools.partial(nn.BatchNorm2d, use_batch_statistics=True)
    found = [both_passes(layer.set_train(False), x, cotangent) for layer in pair(in_channels=8, norm=norm)]
    for name, value in found[1].items():
        assert relative(found[0][name], value) < (2e-5 if name == "y" else 5e-4), name


def test_trainable_parameters_can_be_frozen(mode: str, rng: np.random.Generator) -> None:
    ours, theirs = pair(in_channels=8)
    for layer in (ours, theirs):
        for parameter in layer.get_parameters():
            if "gamma" in parameter.name or "paths.0" in parameter.name:
                parameter.requires_grad = False
    x, cotangent = rng.standard_normal((4, 8, 6, 5)), rng.standard_normal((4, 8, 6, 5))
    got, expected = (both_passes(layer.set_train(), x, cotangent) for layer in (ours, theirs))
    assert list(got) == list(expected)
    for name, value in expected.items():
        assert relative(got[name], value) < (2e-5 if name == "y" else 5e-4), name


def test_attention(mode: str, rng: np.random.Generator) -> None:
    """The attention of MindCV's layer in inference, whatever mode ours is in; nothing moves."""
    ours, theirs = pair(in_channels=12, kernel_size=[3, 5, 7])
    x = tensor(rng.standard_normal((3, 12, 7, 6)))
    caught = []
    theirs.attn.register_forward_hook(lambda cell, args, out: caught.append(out.asnumpy()))
    ms.set_context(mode=ms.PYNATIVE_MODE)
    theirs.set_train(False)(x)
    before = {p.name: p.asnumpy().copy() for p in ours.get_parameters()}
    for training in (False, True):
        attention = ours.set_train(training).attention(x).asnumpy()
        assert attention.shape == (3, 3, 12)
        assert relative(attention, caught[0][:, :, :, 0, 0]) < 2e-5
        assert np.abs(attention.sum(1) - 1).max() < 1e-6
    for parameter in ours.get_parameters():
        assert np.array_equal(parameter.asnumpy(), before[parameter.name])


@pytest.mark.parametrize("batch, height, width", [(1, 1, 1), (1, 2, 3), (3, 7, 1), (2, 13, 17)])
def test_odd_maps(batch: int, height: int, width: int, mode: str, rng: np.random.Generator) -> None:
    ours, theirs = pair(in_channels=6, out_channels=15, dilation=3)
    x = tensor(rng.standard_normal((batch, 6, height, width)))
    assert relative(ours(x).asnumpy(), theirs(x).asnumpy()) < 2e-5


def test_reference_backend(mode: str, monkeypatch: pytest.MonkeyPatch, rng: np.random.Generator) -> None:
    ours, theirs = pair(in_channels=8)
    monkeypatch.setenv("SKNET_OPS_BACKEND", "reference")
    assert sknet_ops.active_backend() == "reference"
    x, cotangent = rng.standard_normal((3, 8, 6, 5)), rng.standard_normal((3, 8, 6, 5))
    got, expected = (both_passes(layer.set_train(), x, cotangent) for layer in (ours, theirs))
    for name, value in expected.items():
        assert relative(got[name], value) < (2e-5 if name == "y" else 5e-4), name
