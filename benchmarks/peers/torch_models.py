# SPDX-License-Identifier: Apache-2.0
"""The layers and networks in PyTorch, composed as timm composes them (timm itself needs torchvision)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.harness.cases import Case


class ConvBnAct(nn.Module):
    """relu(norm(conv(x)) + residual)."""

    def __init__(
        self, c_in: int, c_out: int, kernel: int, stride: int = 1, dilation: int = 1, groups: int = 1, relu: bool = True
    ) -> None:
        super().__init__()
        padding = dilation * (kernel - 1) // 2
        self.conv = nn.Conv2d(c_in, c_out, kernel, stride, padding, dilation, groups, bias=False)
        self.bn = nn.BatchNorm2d(c_out)
        self.act = nn.ReLU(inplace=True) if relu else nn.Identity()

    def forward(self, x: Tensor, residual: Tensor | None = None) -> Tensor:
        x = self.bn(self.conv(x))
        if residual is not None:
            x = x + residual
        return self.act(x)


class SelectiveKernel(nn.Module):
    """Two 3x3 branches, of dilation 1 and 2, and the attention over them."""

    def __init__(self, c_in: int, c_out: int, stride: int, groups: int, split_input: bool, c_reduced: int) -> None:
        super().__init__()
        self.split_input = split_input
        self.branch_in = c_in // 2 if split_input else c_in
        self.paths = nn.ModuleList([ConvBnAct(self.branch_in, c_out, 3, stride, d, groups) for d in (1, 2)])
        self.fc_reduce = nn.Conv2d(c_out, c_reduced, 1, bias=False)
        self.bn = nn.BatchNorm2d(c_reduced)
        self.act = nn.ReLU(inplace=True)
        self.fc_select = nn.Conv2d(c_reduced, 2 * c_out, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        parts = torch.split(x, self.branch_in, 1) if self.split_input else [x, x]
        u = torch.stack([path(part) for path, part in zip(self.paths, parts, strict=True)], dim=1)
        a = u.sum(1).mean((2, 3), keepdim=True)
        a = self.fc_select(self.act(self.bn(self.fc_reduce(a))))
        n, c, h, w = a.shape
        a = torch.softmax(a.view(n, 2, c // 2, h, w), dim=1)
        return (u * a).sum(1)


class Block(nn.Module):
    """Basic: SK, 3x3. Bottleneck: 1x1, SK, 1x1 to four times the width."""

    def __init__(self, shape: dict[str, Any], c_in: int, width: int, stride: int) -> None:
        super().__init__()
        sk = {"stride": stride, "groups": shape["groups"], "split_input": shape["split_input"]}
        if shape["block"] == "basic":
            out = width
            self.first = nn.Sequential(SelectiveKernel(c_in, width, c_reduced=_reduced(width, shape), **sk))
            self.last = ConvBnAct(width, out, 3)
        else:
            out, inner = 4 * width, int(width * (shape["base_width"] / 64)) * shape["groups"]
            self.first = nn.Sequential(
                ConvBnAct(c_in, inner, 1, relu=shape["relu_after_conv1"]),
                SelectiveKernel(inner, inner, c_reduced=_reduced(inner, shape), **sk),
            )
            self.last = ConvBnAct(inner, out, 1)
        fits = stride == 1 and c_in == out
        self.shortcut = nn.Identity() if fits else ConvBnAct(c_in, out, 1, stride, relu=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.first(x), self.shortcut(x))


class Network(nn.Module):
    """7x7 stem, max-pooling, four stages, average, classifier."""

    def __init__(self, shape: dict[str, Any]) -> None:
        super().__init__()
        self.stem = ConvBnAct(3, 64, 7, 2)
        # MindCV's "same" pads below and to the right, where nothing of an even size is lost.
        pool = [nn.ZeroPad2d((0, 1, 0, 1)), nn.MaxPool2d(3, 2)] if shape["pool"] == "same" else [nn.MaxPool2d(3, 2, 1)]
        blocks, channels = [], 64
        for stage, (width, count) in enumerate(zip((64, 128, 256, 512), shape["layers"], strict=True)):
            for index in range(count):
                blocks.append(Block(shape, channels, width, 2 if stage > 0 and index == 0 else 1))
                channels = width if shape["block"] == "basic" else 4 * width
        self.body = nn.Sequential(*pool, *blocks)
        self.classifier = nn.Linear(channels, 1000)

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.body(self.stem(x)).mean((2, 3)))


def _reduced(channels: int, shape: dict[str, Any]) -> int:
    """Width of the hidden layer: to the nearest multiple, never down by more than a tenth."""
    value, divisor = channels * shape["rd_ratio"], shape["rd_divisor"]
    rounded = max(divisor, int(value + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < 0.9 * value else rounded


def build(case: Case) -> tuple[nn.Module, list[Tensor]]:
    """(module, inputs), the norms with statistics that are not those of no training at all."""
    generator = torch.manual_seed(0)
    s = case.shape
    if case.kind == "network":
        net: nn.Module = Network(s)
    elif case.kind == "conv_bn_act":
        net = ConvBnAct(s["c_in"], s["c_out"], s["kernel"], s["stride"], relu=s["relu"])
    else:
        names = ("c_in", "c_out", "stride", "groups", "split_input", "c_reduced")
        net = SelectiveKernel(**{name: s[name] for name in names})
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1, generator=generator)
            module.running_var.uniform_(0.5, 1.5, generator=generator)
    net.train(case.mode != "forward")
    inputs = [torch.randn(case.input_shape, generator=generator)]
    if case.kind == "conv_bn_act" and s["residual"]:
        inputs.append(torch.randn(case.output_shape, generator=generator))
    return net, inputs
