# SPDX-License-Identifier: Apache-2.0
"""Shapes that are unknown when a network is compiled: no recompilation, right results, errors when it runs."""

from __future__ import annotations

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor, nn, ops

from sknet_ops import functional
from sknet_ops.layers import SelectiveKernel
from tests.mindspore_tools import both_passes, randomise, relative, tensor

SHAPES = [(1, 8, 5, 5), (3, 8, 6, 4), (2, 8, 7, 9)]
UNKNOWN = {
    "batch": Tensor(shape=[None, 8, 6, 4], dtype=ms.float32),
    "batch-height-width": Tensor(shape=[None, 8, None, None], dtype=ms.float32),
    "all": Tensor(shape=[None, None, None, None], dtype=ms.float32),
    "rank": Tensor(shape=None, dtype=ms.float32),
}


def shapes_for(unknown: str) -> list[tuple[int, ...]]:
    return [(n, 8, 6, 4) for n in (1, 3, 2)] if unknown == "batch" else SHAPES


def layer(seed: int, training: bool) -> SelectiveKernel:
    net = SelectiveKernel(8, 12, stride=2, groups=2)
    randomise(net, seed)
    return net.set_train(training)


class Parts(nn.Cell):
    """The unit as three ops, on the parameters of a layer."""

    def __init__(self, owner: SelectiveKernel, training: bool) -> None:
        super().__init__()
        self.owner = owner
        self.with_statistics = training

    def construct(self, x: Tensor) -> Tensor:
        paths, attn = self.owner.paths, self.owner.attn
        norms = [path.features[1] for path in paths]
        u = functional.sk_conv(
            x,
            [path.features[0].weight for path in paths],
            [norm.gamma for norm in norms],
            [norm.beta for norm in norms],
            [norm.moving_mean for norm in norms],
            [norm.moving_variance for norm in norms],
            stride=2,
            dilation=[1, 2],
            padding=[1, 2],
            groups=2,
            split_input=True,
            training=self.with_statistics,
        )
        attention = functional.sk_attention(
            u,
            attn.fc_reduce.weight,
            attn.bn.gamma,
            attn.bn.beta,
            attn.bn.moving_mean,
            attn.bn.moving_variance,
            attn.fc_select.weight,
            training=self.with_statistics,
        )
        return functional.sk_select(u, attention)


@pytest.mark.parametrize(
    "unknown, training",
    [("batch", False), ("batch", True), ("batch-height-width", True), ("all", False), ("rank", True)],
)
def test_unit(unknown: str, training: bool, mode: str, rng: np.random.Generator) -> None:
    static, dynamic = layer(3, training), layer(3, training)
    dynamic.set_inputs(UNKNOWN[unknown])
    for shape in shapes_for(unknown):
        x = tensor(rng.standard_normal(shape))
        assert np.array_equal(dynamic(x).asnumpy(), static(x).asnumpy())


@pytest.mark.parametrize("unknown, training", [("batch", True), ("all", False), ("rank", True)])
def test_parts(unknown: str, training: bool, graph_mode: None, rng: np.random.Generator) -> None:
    whole, parts = layer(5, training), Parts(layer(5, training), training)
    parts.set_inputs(UNKNOWN[unknown])
    for shape in shapes_for(unknown):
        x = tensor(rng.standard_normal(shape))
        assert relative(parts(x).asnumpy(), whole(x).asnumpy()) < 1e-6


class Loss(nn.Cell):
    def __init__(self, net: nn.Cell) -> None:
        super().__init__(auto_prefix=False)
        self.net = net

    def construct(self, x: Tensor) -> Tensor:
        return (self.net(x) ** 2).sum()


class Gradients(nn.Cell):
    def __init__(self, net: nn.Cell) -> None:
        super().__init__(auto_prefix=False)
        self.backward = ops.value_and_grad(Loss(net), 0, net.trainable_params())

    def construct(self, x: Tensor):
        return self.backward(x)


@pytest.mark.parametrize("unknown", ["batch", "batch-height-width", "rank"])
def test_gradients(unknown: str, mode: str, rng: np.random.Generator) -> None:
    static, dynamic = Gradients(layer(7, True)), Gradients(layer(7, True))
    dynamic.set_inputs(UNKNOWN[unknown])
    for shape in shapes_for(unknown):
        if shape[0] == 1:
            continue  # batch norm over one pooled vector: zero gradients
        x = tensor(rng.standard_normal(shape))
        value, (dx, grads) = dynamic(x)
        expected, (expected_dx, expected_grads) = static(x)
        assert value.asnumpy() == expected.asnumpy()
        for got, want in zip([dx, *grads], [expected_dx, *expected_grads], strict=True):
            assert np.array_equal(got.asnumpy(), want.asnumpy())


def test_channels_are_checked_when_it_runs(graph_mode: None, rng: np.random.Generator) -> None:
    """What is unknown when compiling is refused by the call itself, by name."""
    net = layer(9, False)
    net.set_inputs(UNKNOWN["all"])
    net(tensor(rng.standard_normal((1, 8, 5, 5))))
    with pytest.raises(RuntimeError, match=r"selective_kernel: weight\[0\]: got shape \(12, 2, 3, 3\), expected 1"):
        net(tensor(rng.standard_normal((1, 4, 5, 5))))


def test_rank_is_checked_when_it_runs(graph_mode: None, rng: np.random.Generator) -> None:
    net = layer(9, False)
    net.set_inputs(UNKNOWN["rank"])
    net(tensor(rng.standard_normal((1, 8, 5, 5))))
    with pytest.raises(RuntimeError, match=r"selective_kernel: x: got shape \(8, 5, 5\), expected rank 4"):
        net(tensor(rng.standard_normal((8, 5, 5))))


@pytest.mark.parametrize("training", [False, True], ids=["inference", "training"])
def test_empty_batch(training: bool, mode: str) -> None:
    """Nothing in, nothing out; zero gradients; the running statistics stay."""
    net = layer(11, training)
    before = {p.name: p.asnumpy().copy() for p in net.untrainable_params()}
    found = both_passes(net, np.zeros((0, 8, 6, 6)), np.zeros((0, 12, 3, 3)))
    assert found["y"].shape == (0, 12, 3, 3)
    assert found["grad.x"].shape == (0, 8, 6, 6)
    for name, value in found.items():
        if name.startswith("grad.") and name != "grad.x":
            assert not value.any(), name
    for name, value in before.items():
        assert np.array_equal(found[name], value), name
