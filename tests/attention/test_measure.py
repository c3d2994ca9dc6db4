# SPDX-License-Identifier: Apache-2.0
"""Attention that is read off a network is the one that it pays."""

from __future__ import annotations

import mindspore as ms
import numpy as np
import pytest
import sknet
from mindspore import Tensor, nn, ops
from sknet.attention import AttentionProbe, measure, summarise, units_of

from tests.deploy.networks import vary


def softmax_difference(unit: nn.Cell, x: Tensor) -> np.ndarray:
    """Last minus first branch from the paper's formulas, with MindSpore's own cells; mean over the channels."""
    inputs = ops.split(x, x.shape[1] // unit.num_paths, axis=1) if unit.split_input else [x] * unit.num_paths
    u = [path.features(part) for path, part in zip(unit.paths, inputs, strict=True)]
    attn = unit.attn
    pooled = ops.mean(sum(u[1:], u[0]), (2, 3), keep_dims=True)
    scores = attn.fc_select(attn.act(attn.bn(attn.fc_reduce(pooled)))).asnumpy().astype(np.float64)
    scores = scores.reshape(len(scores), unit.num_paths, -1)
    weights = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    return (weights[:, -1] - weights[:, 0]).mean(axis=1)


def test_probe_and_measure() -> None:
    net = sknet.create_model("sknet_tiny", num_classes=3)
    vary(net, 4)
    net.set_train(True)
    mode = ms.get_context("mode")
    rng = np.random.default_rng(0)
    images = [(f"{i}.png", "ab"[i % 2], rng.standard_normal((3, 16, 16), dtype=np.float32)) for i in range(5)]
    before = {p.name: p.asnumpy() for p in net.get_parameters()}
    found = list(measure(net, images, {1.0: lambda x: x, 2.0: lambda x: 2 * x}, batch_size=4))
    assert net.training
    assert ms.get_context("mode") == mode
    assert all(np.array_equal(p.asnumpy(), before[p.name]) for p in net.get_parameters())
    assert [m.unit for m in found[:3]] == ["SK_2_1", "SK_3_1", "SK_4_1"]
    assert len(found) == 5 * 2 * 3

    net.set_train(False)
    ms.set_context(mode=ms.PYNATIVE_MODE)
    for m in found:
        if m.unit == "SK_2_1":
            image = next(x for name, _, x in images if name == m.image) * np.float32(m.scale)
            expected = softmax_difference(net.layer1[0].conv1, net.stem(Tensor(image[None])))
            assert m.difference == pytest.approx(float(expected[0]), abs=1e-5)
    assert len({round(m.difference, 6) for m in found}) > 20

    rows = summarise(found)
    assert sum(row["images"] for row in rows) == len(found)
    assert {row["label"]: row["images"] for row in rows} == {"a": 3, "b": 2}
    ms.set_context(mode=mode)


def test_networks_without_units() -> None:
    with pytest.raises(ValueError, match="no SK unit"):
        AttentionProbe(nn.SequentialCell([nn.Conv2d(3, 3, 3)]))


def test_units_of_the_paper() -> None:
    names = list(units_of(sknet.create_model("sknet26", num_classes=2)))
    assert names == [f"SK_{stage}_{block}" for stage in (2, 3, 4, 5) for block in (1, 2)]
