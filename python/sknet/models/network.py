# SPDX-License-Identifier: Apache-2.0
"""The network that a ModelSpec describes. Every convolution in it, and the pooling, runs through sknet_ops."""

import mindspore as ms
import mindspore.common.initializer as init
from mindspore import Tensor, nn, ops

from sknet.models.blocks import PlainBasicBlock, SKBasicBlock, SKBottleneck, conv_bn_act, make_shortcut
from sknet.models.catalog import ModelSpec
from sknet_ops.layers import ConvBnAct, GlobalAvgPool, MaxPool2d, PhaseOnChange


class SKNet(PhaseOnChange, nn.Cell):
    """Stem, residual stages of SK blocks, global average pooling, classifier.

    Input (n, in_channels, h, w) float32, output logits (n, num_classes). Parameter names are MindCV's:
    conv1.weight, bn1.gamma, layer1.0.conv1.paths.0.features.0.weight, ..., classifier.bias.
    """

    def __init__(self, spec: ModelSpec, num_classes: int = 1000, in_channels: int = 3) -> None:
        super().__init__()
        self.spec = spec
        self.num_classes = num_classes
        self.deep_stem = spec.stem == "deep"
        channels = 64 if spec.stem in ("conv7", "deep") else spec.widths[0]
        if self.deep_stem:
            self.conv1 = nn.SequentialCell(
                [
                    conv_bn_act(in_channels, channels // 2, 3, stride=2, relu=True),
                    conv_bn_act(channels // 2, channels // 2, 3, relu=True),
                    conv_bn_act(channels // 2, channels, 3, relu=True),
                ]
            )
        else:
            kernel, stride = (7, 2) if spec.stem == "conv7" else (3, 1)
            self.conv1 = nn.Conv2d(in_channels, channels, kernel, stride, pad_mode="pad", padding=kernel // 2)
            self.bn1 = nn.BatchNorm2d(channels)
            # One op over the two cells, which stay children here and keep MindCV's names.
            self.stem = ConvBnAct.over(self.conv1, self.bn1, nn.ReLU())
        if spec.pool == "same":
            self.max_pool = MaxPool2d(3, 2, pad_mode="same")
        elif spec.pool == "centred":
            self.max_pool = MaxPool2d(3, 2, pad_mode="pad", padding=1)
        else:
            self.max_pool = nn.Identity()

        self.stages = []
        for i, (width, count) in enumerate(zip(spec.widths, spec.layers, strict=True)):
            stage = []
            for j in range(count):
                stride = 2 if i > 0 and j == 0 else 1
                stage.append(_make_block(spec, channels, width, stride))
                channels = width * spec.expansion
            setattr(self, f"layer{i + 1}", nn.SequentialCell(stage))
            self.stages.append(f"layer{i + 1}")
        self.num_features = channels
        self.pool = GlobalAvgPool()
        self.classifier = nn.Dense(channels, num_classes)
        self._initialise()

    def _initialise(self) -> None:
        """As MindCV does it: He normal (fan out) convolutions, He uniform classifier, norms at identity."""
        for name, param in self.parameters_and_names():
            if name == "classifier.weight":
                how = init.HeUniform(mode="fan_in", nonlinearity="sigmoid")
            elif param.ndim == 4:
                how = init.HeNormal(mode="fan_out", nonlinearity="relu")
            elif name.endswith(("gamma", "moving_variance")):
                how = "ones"
            else:
                how = "zeros"
            param.set_data(init.initializer(how, param.shape, param.dtype))

    def forward_features(self, x: Tensor) -> Tensor:
        """Feature map before pooling, (n, num_features, h', w')."""
        x = self.conv1(x) if self.deep_stem else self.stem(x)
        x = self.max_pool(x)
        for stage in self.stages:
            x = getattr(self, stage)(x)
        return x

    def construct(self, x: Tensor) -> Tensor:
        x = self.forward_features(x)
        if x.dtype != ms.float32:  # in mixed precision, which ends here
            x = ops.cast(x, ms.float32)
        return self.classifier(self.pool(x))


def _make_block(spec: ModelSpec, in_channels: int, width: int, stride: int) -> nn.Cell:
    shortcut = make_shortcut(in_channels, width * spec.expansion, stride, spec.avg_down)
    if spec.block == "plain":
        return PlainBasicBlock(in_channels, width, stride, shortcut)
    if spec.block == "basic":
        return SKBasicBlock(in_channels, width, stride, shortcut, dict(spec.sk))
    return SKBottleneck(
        in_channels, width, stride, shortcut, dict(spec.sk), spec.groups, spec.base_width, spec.relu_after_conv1
    )
