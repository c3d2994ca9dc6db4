# SPDX-License-Identifier: Apache-2.0
"""ONNX with standard operators only, from a network's own structure."""

from __future__ import annotations

import numpy as np
from mindspore import nn

from sknet.deploy.onnx_graph import GraphWriter, Value, folded
from sknet.models.blocks import SKBottleneck
from sknet.models.network import SKNet
from sknet_ops.layers import ConvBnAct, SelectiveKernel


def _conv_bn_act(graph: GraphWriter, name: str, cell: ConvBnAct, x: Value, residual: Value | None = None) -> Value:
    return graph.conv(
        name,
        x,
        *folded(cell.conv_holder, cell.norm_holder),
        stride=cell.stride,
        padding=cell.padding,
        dilation=cell.dilation,
        groups=cell.groups,
        relu=cell.relu,
        residual=residual,
    )


def _selective_kernel(graph: GraphWriter, name: str, cell: SelectiveKernel, x: Value) -> Value:
    """Branches; the mean of their sum through two 1x1 convolutions; softmax over the branches; their weighted sum."""
    count = cell.num_paths
    inputs = [x] * count
    if cell.split_input and count > 1:
        share = x.channels // count
        sizes = graph.constant(f"{name}.shares", np.full(count, share, np.int64))
        parts = graph.node("Split", f"{name}.split", [x.name, sizes], count, axis=1)
        inputs = [Value(part, share, x.height, x.width) for part in parts]
    branches = [
        graph.conv(
            f"{name}.paths.{m}",
            inputs[m],
            *folded(cell.conv_holders[m], cell.norm_holders[m]),
            stride=cell.stride,
            padding=cell.padding[m],
            dilation=cell.dilation[m],
            groups=cell.groups,
            relu=cell.relu,
        )
        for m in range(count)
    ]
    channels = branches[0].channels
    names = [branch.name for branch in branches]
    total = graph.node("Sum", f"{name}.sum", names)
    pooled = Value(*graph.node("GlobalAveragePool", f"{name}.mean", total), channels, 1, 1)
    attn = cell.attn
    hidden = graph.conv(f"{name}.attn.fc_reduce", pooled, *folded(attn.fc_reduce, attn.bn), relu=True)
    weight = attn.fc_select.weight.asnumpy()
    scores = graph.conv(f"{name}.attn.fc_select", hidden, weight, np.zeros(len(weight), np.float32))
    # 0 keeps the batch's size.
    shape = graph.constant(f"{name}.attn.shape", np.array([0, count, channels, 1, 1], np.int64))
    attention = graph.node("Reshape", f"{name}.attn.reshape", [scores.name, shape])
    attention = graph.node("Softmax", f"{name}.attn.softmax", attention, axis=1)
    axis = graph.constant(f"{name}.attn.axis", np.array([1], np.int64))
    ones = graph.constant(f"{name}.attn.ones", np.ones(count, np.int64))
    weighted = []
    for m, part in enumerate(graph.node("Split", f"{name}.attn.split", [*attention, ones], count, axis=1) if count > 1
                             else attention):  # fmt: skip
        squeezed = graph.node("Squeeze", f"{name}.attn.squeeze.{m}", [part, axis])
        weighted += graph.node("Mul", f"{name}.weighted.{m}", [names[m], *squeezed])
    (y,) = graph.node("Sum", f"{name}.select", weighted)
    return Value(y, channels, branches[0].height, branches[0].width)


def _block(graph: GraphWriter, name: str, block: nn.Cell, x: Value) -> Value:
    identity = x
    if block.down_pool is not None:
        # Averages over what is there: the padding of odd sizes does not count.
        identity = graph.pool("AveragePool", f"{name}.down_pool", x, 2, 2, None, count_include_pad=0)
    if block.down_sample is not None:
        identity = _conv_bn_act(graph, f"{name}.down_sample", block.down_sample, identity)
    if isinstance(block, SKBottleneck):
        y = _conv_bn_act(graph, f"{name}.conv1", block.conv1, x)
        y = _selective_kernel(graph, f"{name}.conv2", block.conv2, y)
        return _conv_bn_act(graph, f"{name}.conv3", block.conv3, y, identity)
    y = _selective_kernel(graph, f"{name}.conv1", block.conv1, x)
    return _conv_bn_act(graph, f"{name}.conv2", block.conv2, y, identity)


def to_onnx(net: SKNet, size: tuple[int, int], about: dict[str, str] | None = None):
    """The network as it is in inference, as an ONNX model: "images" (batch, c, h, w) -> "logits" (batch, classes).

    Opset 17; the batch's size is free, the image's fixed. The model has passed ONNX's checker.

    Args:
        net: a network of ``create_model``.
        size: height and width of the images.
        about: written into the model's metadata.

    Raises:
        MissingPackageError: the package onnx is not installed.
        TypeError: another network; its structure is not known.
    """
    if not isinstance(net, SKNet):
        raise TypeError(f"net: expected a network of sknet.create_model, got {type(net).__name__}")
    graph = GraphWriter()
    stem = list(net.conv1) if net.deep_stem else [net.stem]
    channels = (stem[0].conv_holder).in_channels
    images = x = Value("images", channels, *size)
    for i, cell in enumerate(stem):
        x = _conv_bn_act(graph, f"conv1.{i}" if net.deep_stem else "conv1", cell, x)
    if net.spec.pool != "none":
        x = graph.pool("MaxPool", "max_pool", x, 3, 2, None if net.spec.pool == "same" else 1)
    for stage in net.stages:
        for j, block in enumerate(getattr(net, stage)):
            x = _block(graph, f"{stage}.{j}", block, x)
    pooled = graph.node("GlobalAveragePool", "mean", [x.name])
    flat = graph.node("Flatten", "flatten", pooled)
    weight = graph.constant("classifier.weight", net.classifier.weight.asnumpy())
    bias = graph.constant("classifier.bias", net.classifier.bias.asnumpy())
    (logits,) = graph.node("Gemm", "logits", [*flat, weight, bias], transB=1)
    return graph.model(images, logits, net.num_classes, about or {})
