# SPDX-License-Identifier: Apache-2.0
"""Layers of a model with their shapes, parameters and multiply-accumulates, counted from its row in the catalog.

Convolutions, dense layers and the weighted sum of the branches are counted; norms, activations and pooling are not.
Counted so, sknet50 and sknet101 have the 4.47 and 8.46 G that the paper gives.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from sknet.models.catalog import ModelSpec


@dataclass(frozen=True)
class Layer:
    """One layer: output shape of one image, trainable parameters and multiply-accumulates an image."""

    name: str
    kind: str
    shape: tuple[int, ...]
    params: int
    macs: int


def _strided(size: int, stride: int) -> int:
    return -(-size // stride)


def _conv(name: str, c_in: int, c_out: int, kernel: int, size: tuple[int, int], groups: int = 1) -> Layer:
    """Convolution and norm; `size` is the output's."""
    weights = c_out * (c_in // groups) * kernel * kernel
    kind = f"conv {kernel}x{kernel}" + (f", {groups} groups" if groups > 1 else "") + " + norm"
    return Layer(name, kind, (c_out, *size), weights + 2 * c_out, weights * size[0] * size[1])


def _divisible(value: float, divisor: int) -> int:
    """Nearest multiple of divisor, at least one, not more than a tenth below value."""
    rounded = max(divisor, int(value + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < 0.9 * value else rounded


def _selective(name: str, c_in: int, c_out: int, size: tuple[int, int], groups: int, sk: dict) -> Layer:
    """Two branches of 3x3 and the attention over them."""
    branch_in = c_in // 2 if sk.get("split_input", True) else c_in
    conv = 2 * c_out * (branch_in // groups) * 9
    hidden = _divisible(c_out * sk.get("rd_ratio", 1 / 16), sk.get("rd_divisor", 8))
    dense = c_out * hidden + hidden * 2 * c_out
    kind = "selective kernel, 2 branches" + (f", {groups} groups" if groups > 1 else "")
    params = conv + 4 * c_out + dense + 2 * hidden
    return Layer(name, kind, (c_out, *size), params, (conv + 2 * c_out) * size[0] * size[1] + dense)


def count_layers(
    spec: ModelSpec, size: tuple[int, int] = (224, 224), num_classes: int = 1000, in_channels: int = 3
) -> list[Layer]:
    """All layers of a model, for images of size (height, width)."""
    channels = 64 if spec.stem in ("conv7", "deep") else spec.widths[0]
    if spec.stem != "conv3":
        size = _strided(size[0], 2), _strided(size[1], 2)
    if spec.stem == "deep":
        layers = [
            _conv("conv1.0", in_channels, channels // 2, 3, size),
            _conv("conv1.1", channels // 2, channels // 2, 3, size),
            _conv("conv1.2", channels // 2, channels, 3, size),
        ]
    else:
        layers = [_conv("conv1", in_channels, channels, 7 if spec.stem == "conv7" else 3, size)]
    if spec.pool != "none":
        size = _strided(size[0], 2), _strided(size[1], 2)
        layers.append(Layer("max_pool", "max pooling 3x3", (channels, *size), 0, 0))

    for i, (width, count) in enumerate(zip(spec.widths, spec.layers, strict=True)):
        for j in range(count):
            stride = 2 if i > 0 and j == 0 else 1
            full, size = size, (_strided(size[0], stride), _strided(size[1], stride))
            name, out = f"layer{i + 1}.{j}", width * spec.expansion
            if spec.block == "basic":
                layers += [
                    _selective(f"{name}.conv1", channels, width, size, 1, spec.sk),
                    _conv(f"{name}.conv2", width, out, 3, size),
                ]
            elif spec.block == "plain":
                layers += [
                    _conv(f"{name}.conv1", channels, width, 3, size),
                    _conv(f"{name}.conv2", width, out, 3, size),
                ]
            else:
                inner = int(width * (spec.base_width / 64)) * spec.groups
                layers += [
                    _conv(f"{name}.conv1", channels, inner, 1, full),
                    _selective(f"{name}.conv2", inner, inner, size, spec.groups, spec.sk),
                    _conv(f"{name}.conv3", inner, out, 1, size),
                ]
            if stride != 1 or channels != out:
                layers.append(_conv(f"{name}.down_sample", channels, out, 1, size))
            channels = out
    weights = channels * num_classes
    layers.append(Layer("classifier", "dense", (num_classes,), weights + num_classes, weights))
    return layers


_FLOAT = 4  # bytes


def activation_memory(layers: list[Layer], image: tuple[int, int, int]) -> tuple[int, int]:
    """Bytes of float32 feature maps an image, (training, inference), counted from the layers.

    Training: what is kept for the backward pass: the image, each layer's output, and the convolutions' raw outputs
    before their norms, two in a selective kernel. Inference: most at one time, which is a layer's input and output
    and, within a block, the shortcut. Weights, gradients and scratch memory come on top.
    """
    kept = largest = last = math.prod(image)
    shortcut, previous = last, ""
    for layer in layers:
        out = math.prod(layer.shape)
        raw = 2 if layer.kind.startswith("selective") else 1 if "norm" in layer.kind else 0
        kept += (1 + raw) * out
        here = layer.name.rpartition(".")[0] if layer.name.startswith("layer") else ""
        first = here != previous
        if first:  # it reads the shortcut itself
            shortcut = last
        largest = max(largest, last + out + (shortcut if here and not first else 0))
        previous, last = here, out
    return _FLOAT * kept, _FLOAT * largest
