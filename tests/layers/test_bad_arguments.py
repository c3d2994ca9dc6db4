# SPDX-License-Identifier: Apache-2.0
"""Wrong arguments of the layers: type and message."""

from __future__ import annotations

import re
from typing import Any

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor, nn

from sknet_ops.layers import ConvBnAct, ConvBnActOp, SelectiveKernel


class OtherConstruct(nn.BatchNorm2d):
    def construct(self, x: Tensor) -> Tensor:
        return x


NORMS = "nn.BatchNorm2d, a subclass that keeps its construct, or a functools.partial of either"
INT = "an int in 1..4096"
CHANNELS = "an int in 1..2147483647"
UNIT = [
    (dict(in_channels="8"), TypeError, f"in_channels: got str '8', expected {CHANNELS}"),
    (dict(in_channels=0), ValueError, f"in_channels: got 0, expected {CHANNELS}"),
    (dict(out_channels=8.0), TypeError, f"out_channels: got float 8.0, expected {CHANNELS}"),
    (dict(out_channels=-1), ValueError, f"out_channels: got -1, expected {CHANNELS}"),
    (dict(kernel_size=4), ValueError, "kernel_size: got 4, expected an odd number"),
    (dict(kernel_size=[3, 6]), ValueError, "kernel_size: got 6, expected an odd number"),
    (dict(kernel_size=[1, 3]), ValueError, "kernel_size: got 1, expected an int in 3..4096"),
    (dict(kernel_size="3"), TypeError, "kernel_size: got str '3', expected an int in 3..4096"),
    (dict(kernel_size=[]), ValueError, "kernel_size: got 0 values, expected 1..4, one a branch"),
    (dict(kernel_size=[3] * 5), ValueError, "kernel_size: got 5 values, expected 1..4, one a branch"),
    (dict(stride=0), ValueError, f"stride: got 0, expected {INT}"),
    (dict(stride=(2, 2)), TypeError, f"stride: got tuple (2, 2), expected {INT}"),
    (dict(dilation=0), ValueError, f"dilation: got 0, expected {INT}"),
    (dict(groups=None), TypeError, f"groups: got NoneType None, expected {CHANNELS}"),
    (dict(groups=3), ValueError,
     "groups: got 3, expected a number that divides a branch's input channels (4) and 8, its output"),
    (dict(in_channels=9), ValueError,
     "in_channels: got 9, expected a multiple of 2, as split_input shares them among the branches"),
    (dict(rd_ratio="a"), TypeError, "rd_ratio: got str 'a', expected a finite number >= 0"),
    (dict(rd_ratio=-1.0), ValueError, "rd_ratio: got -1.0, expected a finite number >= 0"),
    (dict(rd_channels=0), ValueError, f"rd_channels: got 0, expected {CHANNELS}"),
    (dict(rd_divisor=0), ValueError, f"rd_divisor: got 0, expected {CHANNELS}"),
    (dict(keep_3x3=1), TypeError, "keep_3x3: got int 1, expected a bool"),
    (dict(split_input="no"), TypeError, "split_input: got str 'no', expected a bool"),
    (dict(activation=nn.GELU), TypeError,
     "activation: got nn.GELU, expected nn.ReLU or a subclass that keeps its construct (supported: nn.ReLU or None)"),
    (dict(activation="relu"), TypeError, "activation: got 'relu', expected nn.ReLU or None"),
    (dict(norm=nn.InstanceNorm2d), TypeError,
     "norm: got nn.InstanceNorm2d, expected nn.BatchNorm2d or a subclass that keeps its construct "
     f"(supported: {NORMS})"),
    (dict(norm=OtherConstruct), TypeError, "norm: got tests.layers.test_bad_arguments.OtherConstruct, expected nn."),
    (dict(norm=None), TypeError, f"norm: got None, expected {NORMS}"),
    (dict(norm=lambda channels: nn.BatchNorm2d(channels, dtype=ms.float16)), TypeError,
     f"norm: got gamma of dtype float16, expected float32 (supported: {NORMS})"),
]  # fmt: skip


@pytest.mark.parametrize("change, error, message", UNIT, ids=[message[:40] for _, _, message in UNIT])
def test_selective_kernel(change: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=re.escape(f"SelectiveKernel: {message}")):
        SelectiveKernel(**{"in_channels": 8, **change})


def conv(**config: Any) -> nn.Conv2d:
    return nn.Conv2d(4, 8, **{"kernel_size": 3, **config})


BLOCK = [
    (lambda: ConvBnAct(nn.Dense(4, 8), nn.BatchNorm2d(8)), TypeError,
     "ConvBnAct: conv: got nn.Dense, expected nn.Conv2d"),
    (lambda: ConvBnAct(conv(), nn.GroupNorm(2, 8)), TypeError,
     "ConvBnAct: norm: got nn.GroupNorm, expected nn.BatchNorm2d"),
    (lambda: ConvBnAct(conv(), nn.BatchNorm2d(8), nn.ReLU6), TypeError,
     "ConvBnAct: activation: got nn.ReLU6, expected None or the class nn.ReLU"),
    (lambda: ConvBnAct(conv(), nn.BatchNorm2d(8), nn.ReLU()), TypeError,
     "ConvBnAct: activation: got nn.ReLU, expected None or the class nn.ReLU"),
    (lambda: ConvBnAct(conv(), nn.BatchNorm2d(4)), ValueError,
     "norm over 4 channels, expected the 8 of the convolution"),
    (lambda: ConvBnAct(conv(), OtherConstruct(8)), ValueError, "expected nn.BatchNorm2d or a subclass that keeps"),
    (lambda: ConvBnAct(conv(has_bias=True), nn.BatchNorm2d(8)), ValueError,
     "has_bias=True, expected a convolution without bias"),
    (lambda: ConvBnAct(conv(kernel_size=(3, 5)), nn.BatchNorm2d(8)), ValueError,
     "kernel_size (3, 5), expected the same in both directions"),
    (lambda: ConvBnAct(conv(stride=(1, 2)), nn.BatchNorm2d(8)), ValueError,
     "stride (1, 2), expected the same in both directions"),
    (lambda: ConvBnAct(conv(dilation=(2, 1)), nn.BatchNorm2d(8)), ValueError,
     "dilation (2, 1), expected the same in both directions"),
    (lambda: ConvBnAct(conv(pad_mode="pad", padding=(1, 0, 1, 0)), nn.BatchNorm2d(8)), ValueError,
     "ConvBnAct: padding (1, 0, 1, 0), expected the same on all sides"),
    (lambda: ConvBnAct(conv(stride=2), nn.BatchNorm2d(8)), ValueError,
     "pad_mode 'same' with stride 2, expected pad_mode 'pad' or 'valid'"),
    (lambda: ConvBnAct(conv(kernel_size=2), nn.BatchNorm2d(8)), ValueError,
     "ConvBnAct: pad_mode 'same' with kernel_size 2, which pads one side more"),
    (lambda: ConvBnAct(conv(dtype=ms.float16), nn.BatchNorm2d(8)), ValueError,
     "weight of dtype float16, expected float32"),
    (lambda: ConvBnAct(conv().to_float(ms.float16), nn.BatchNorm2d(8)), ValueError,
     "nn.Conv2d set to a half precision by to_float, expected float32"),
    (lambda: ConvBnActOp(stride=0), ValueError, "ConvBnActOp: stride: got 0, expected an int in 1..4096"),
    (lambda: ConvBnActOp(padding="same"), TypeError,
     "ConvBnActOp: padding: got str 'same', expected an int in 0..4096"),
    (lambda: ConvBnActOp(momentum=2), ValueError, "ConvBnActOp: momentum: got 2, expected a number in 0..1"),
    (lambda: ConvBnActOp(relu=None), TypeError, "ConvBnActOp: relu: got NoneType None, expected a bool"),
]  # fmt: skip


@pytest.mark.parametrize("make, error, message", BLOCK, ids=[message[:40] for _, _, message in BLOCK])
def test_conv_bn_act(make: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=re.escape(message)):
        make()


@pytest.mark.parametrize(
    "shape, dtype, error, message",
    [
        ((2, 8, 6, 6), np.float16, TypeError, "x: got dtype float16, expected float32"),
        ((2, 8, 6, 6), np.float64, TypeError, "x: got dtype float64, expected float32"),
        ((2, 6, 6, 6), np.float32, ValueError, "weights[0]: got shape (8, 4, 3, 3), expected 3 in dimension 1"),
        ((2, 7, 6, 6), np.float32, ValueError, "x: got 7 channels, expected a multiple of 2"),
        ((8, 6, 6), np.float32, ValueError, "x: got shape (8, 6, 6), expected rank 4: (n, c_in, h, w)"),
        ((2, 8, 0, 6), np.float32, ValueError, "x: got shape (2, 8, 0, 6), expected (n, c_in, h, w) with dimension 2"),
    ],
)
def test_input_of_the_layer(shape: tuple, dtype: Any, error: type[Exception], message: str, mode: str) -> None:
    with pytest.raises(error, match=re.escape(f"selective_kernel: {message}")):
        SelectiveKernel(8)(Tensor(np.ones(shape, dtype)))


def test_bfloat16(mode: str) -> None:
    with pytest.raises(TypeError, match="selective_kernel: x: got dtype bfloat16, expected float32"):
        SelectiveKernel(8)(Tensor(np.ones((1, 8, 4, 4), np.float32)).astype(ms.bfloat16))
