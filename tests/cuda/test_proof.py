# SPDX-License-Identifier: Apache-2.0
"""What the proof on a GPU takes its shapes from. It checks all SK units of the networks, as they are made."""

from __future__ import annotations

import mindspore as ms
import numpy as np
import pytest
import sknet

from sknet_ops import SelectiveKernel
from tests.cuda import proof

# skresnet34, skresnet50d, sknet26 and sknet101 are made of the same units, as are timm's twins of MindCV's.
MODELS = ("skresnet18", "skresnet50", "skresnext50_32x4d", "skresnext50_32x4d.timm", "sknet50")
Key = tuple[int, int, int, int, int, bool, int]


def units_of(name: str, monkeypatch: pytest.MonkeyPatch) -> set[Key]:
    """Channels in and out, size, stride, groups, split input, reduced channels of each SK layer at 224 x 224."""
    found: set[Key] = set()

    def construct(layer: SelectiveKernel, x: ms.Tensor) -> ms.Tensor:
        n, c_in, size, _ = x.shape
        reduced = layer.attn.fc_reduce.weight.shape[0]
        assert list(layer.dilation) == [1, 2]
        found.add((c_in, layer.out_channels, size, layer.stride, layer.groups, layer.split_input, reduced))
        out = (size - 1) // layer.stride + 1
        return ms.Tensor(np.zeros((n, layer.out_channels, out, out), np.float32))

    monkeypatch.setattr(SelectiveKernel, "construct", construct)
    sknet.create_model(name).set_train(False)(ms.Tensor(np.zeros((1, 3, 224, 224), np.float32)))
    return found


def test_all_units_of_the_networks_are_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    ms.set_context(mode=ms.PYNATIVE_MODE)
    shapes = proof.module("shapes")
    checked = {
        (c.c_in, c.c_out, c.hw[0], c.stride, c.groups, c.split_input, c.c_reduced)
        for c in (*shapes.paper_cases(1), *shapes.dense_cases(1))
    }
    assert checked == set().union(*(units_of(name, monkeypatch) for name in MODELS))
