# SPDX-License-Identifier: Apache-2.0
"""Residual blocks and stems. Parameter names follow MindCV's SKNet (conv1, conv2, conv3, down_sample, ...)."""

from typing import Any, NamedTuple

from mindspore import Tensor, nn

from sknet_ops.layers import ConvBnAct, SelectiveKernel


def conv_bn_act(in_channels: int, out_channels: int, kernel: int, stride: int = 1, relu: bool = False) -> ConvBnAct:
    """Dense convolution that keeps the size (divided by stride), batch norm, optional ReLU."""
    conv = nn.Conv2d(in_channels, out_channels, kernel, stride, pad_mode="pad", padding=kernel // 2)
    return ConvBnAct(conv, nn.BatchNorm2d(out_channels), nn.ReLU if relu else None)


class Shortcut(NamedTuple):
    """What a block's input passes through before it is added: 2x2 averages, then a 1x1 convolution and norm."""

    pool: nn.Cell | None = None
    project: nn.Cell | None = None


def make_shortcut(in_channels: int, out_channels: int, stride: int, avg_down: bool) -> Shortcut:
    """The identity where it fits, else a projection that strides, or (ResNet-D) one of averages, skipping nothing."""
    if stride == 1 and in_channels == out_channels:
        return Shortcut()
    if not avg_down:
        return Shortcut(None, conv_bn_act(in_channels, out_channels, 1, stride))
    pool = nn.AvgPool2d(2, stride, pad_mode="same") if stride > 1 else None
    return Shortcut(pool, conv_bn_act(in_channels, out_channels, 1))


class ResidualBlock(nn.Cell):
    """The shortcut that both kinds of block share."""

    def __init__(self, shortcut: Shortcut) -> None:
        super().__init__()
        self.down_pool = shortcut.pool
        self.down_sample = shortcut.project

    def identity(self, x: Tensor) -> Tensor:
        if self.down_pool is not None:
            x = self.down_pool(x)
        if self.down_sample is not None:
            x = self.down_sample(x)
        return x


class SKBasicBlock(ResidualBlock):
    """relu(norm(conv3x3(SK(x))) + shortcut(x)); (n, c_in, h, w) -> (n, width, h / stride, w / stride)."""

    expansion = 1

    def __init__(self, in_channels: int, width: int, stride: int, shortcut: Shortcut, sk: dict[str, Any]) -> None:
        super().__init__(shortcut)
        self.conv1 = SelectiveKernel(in_channels, width, stride=stride, **sk)
        self.conv2 = conv_bn_act(width, width, 3, relu=True)

    def construct(self, x: Tensor) -> Tensor:
        return self.conv2(self.conv1(x), self.identity(x))


class PlainBasicBlock(ResidualBlock):
    """relu(norm(conv3x3(relu(norm(conv3x3(x))))) + shortcut(x)): the basic block without selection, to compare with."""

    expansion = 1

    def __init__(self, in_channels: int, width: int, stride: int, shortcut: Shortcut) -> None:
        super().__init__(shortcut)
        self.conv1 = conv_bn_act(in_channels, width, 3, stride, relu=True)
        self.conv2 = conv_bn_act(width, width, 3, relu=True)

    def construct(self, x: Tensor) -> Tensor:
        return self.conv2(self.conv1(x), self.identity(x))


class SKBottleneck(ResidualBlock):
    """relu(norm(conv1x1(SK(norm(conv1x1(x))))) + shortcut(x)); (n, c_in, h, w) -> (n, 4 width, h / stride, ...)."""

    expansion = 4

    def __init__(
        self,
        in_channels: int,
        width: int,
        stride: int,
        shortcut: Shortcut,
        sk: dict[str, Any],
        groups: int,
        base_width: int,
        relu_after_conv1: bool,
    ) -> None:
        super().__init__(shortcut)
        inner = int(width * (base_width / 64)) * groups
        self.conv1 = conv_bn_act(in_channels, inner, 1, relu=relu_after_conv1)
        self.conv2 = SelectiveKernel(inner, inner, stride=stride, groups=groups, **sk)
        self.conv3 = conv_bn_act(inner, width * self.expansion, 1, relu=True)

    def construct(self, x: Tensor) -> Tensor:
        return self.conv3(self.conv2(self.conv1(x)), self.identity(x))
