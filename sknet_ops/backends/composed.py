# SPDX-License-Identifier: Apache-2.0
"""Ops that a backend makes of several primitives, with a gradient of their own.

MindSpore compiles ``construct`` and ``bprop`` of a cell in graph mode only if they name their arguments one by one; so
there is a class for each number of inputs, which packs them into a tuple.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mindspore import nn, ops


class ComposedOp(nn.Cell):
    """A subclass has ``forward(inputs)``, the tuple of outputs, and ``backward(inputs, out, dout)``.

    Of a single output PyNative mode gives ``out`` and ``dout`` bare: :func:`as_tuple` is for them.
    """

    def __init__(self) -> None:
        super().__init__(auto_prefix=False)


def as_tuple(value):
    return value if isinstance(value, tuple) else (value,)


# fmt: off
class Op2(ComposedOp):
    def construct(self, a0, a1):
        return self.forward((a0, a1))

    def bprop(self, a0, a1, out, dout):
        return self.backward((a0, a1), out, dout)


class Op6(ComposedOp):
    def construct(self, a0, a1, a2, a3, a4, a5):
        return self.forward((a0, a1, a2, a3, a4, a5))

    def bprop(self, a0, a1, a2, a3, a4, a5, out, dout):
        return self.backward((a0, a1, a2, a3, a4, a5), out, dout)


class Op7(ComposedOp):
    def construct(self, a0, a1, a2, a3, a4, a5, a6):
        return self.forward((a0, a1, a2, a3, a4, a5, a6))

    def bprop(self, a0, a1, a2, a3, a4, a5, a6, out, dout):
        return self.backward((a0, a1, a2, a3, a4, a5, a6), out, dout)


class Op11(ComposedOp):
    def construct(self, a0, a1, a2, a3, a4, a5, a6, a7, a8, a9, a10):
        return self.forward((a0, a1, a2, a3, a4, a5, a6, a7, a8, a9, a10))

    def bprop(self, a0, a1, a2, a3, a4, a5, a6, a7, a8, a9, a10, out, dout):
        return self.backward((a0, a1, a2, a3, a4, a5, a6, a7, a8, a9, a10), out, dout)


class Op12(ComposedOp):
    def construct(self, a0, a1, a2, a3, a4, a5, a6, a7, a8, a9, a10, a11):
        return self.forward((a0, a1, a2, a3, a4, a5, a6, a7, a8, a9, a10, a11))

    def bprop(self, a0, a1, a2, a3, a4, a5, a6, a7, a8, a9, a10, a11, out, dout):
        return self.backward((a0, a1, a2, a3, a4, a5, a6, a7, a8, a9, a10, a11), out, dout)


class Op16(ComposedOp):
    def construct(self, a0, a1, a2, a3, a4, a5, a6, a7, a8, a9, a10, a11, a12, a13, a14, a15):
        return self.forward((a0, a1, a2, a3, a4, a5, a6, a7, a8, a9, a10, a11, a12, a13, a14, a15))

    def bprop(self, a0, a1, a2, a3, a4, a5, a6, a7, a8, a9, a10, a11, a12, a13, a14, a15, out, dout):
        return self.backward((a0, a1, a2, a3, a4, a5, a6, a7, a8, a9, a10, a11, a12, a13, a14, a15), out, dout)


class Op17(ComposedOp):
    def construct(self, a0, a1, a2, a3, a4, a5, a6, a7, a8, a9, a10, a11, a12, a13, a14, a15, a16):
        return self.forward((a0, a1, a2, a3, a4, a5, a6, a7, a8, a9, a10, a11, a12, a13, a14, a15, a16))

    def bprop(self, a0, a1, a2, a3, a4, a5, a6, a7, a8, a9, a10, a11, a12, a13, a14, a15, a16, out, dout):
        return self.backward((a0, a1, a2, a3, a4, a5, a6, a7, a8, a9, a10, a11, a12, a13, a14, a15, a16), out, dout)


class Op21(ComposedOp):
    def construct(self, a0, a1, a2, a3, a4, a5, a6, a7, a8, a9, a10, a11, a12, a13, a14, a15, a16, a17, a18, a19,
                        a20):
        return self.forward((a0, a1, a2, a3, a4, a5, a6, a7, a8, a9, a10, a11, a12, a13, a14, a15, a16, a17, a18,
                             a19, a20))

    def bprop(self, a0, a1, a2, a3, a4, a5, a6, a7, a8, a9, a10, a11, a12, a13, a14, a15, a16, a17, a18,
                    a19, a20, out, dout):
        return self.backward((a0, a1, a2, a3, a4, a5, a6, a7, a8, a9, a10, a11, a12, a13, a14, a15, a16,
                              a17, a18, a19, a20), out, dout)


class Op22(ComposedOp):
    def construct(self, a0, a1, a2, a3, a4, a5, a6, a7, a8, a9, a10, a11, a12, a13, a14, a15, a16, a17, a18, a19,
                        a20, a21):
        return self.forward((a0, a1, a2, a3, a4, a5, a6, a7, a8, a9, a10, a11, a12, a13, a14, a15, a16, a17, a18,
                             a19, a20, a21))

    def bprop(self, a0, a1, a2, a3, a4, a5, a6, a7, a8, a9, a10, a11, a12, a13, a14, a15, a16, a17, a18,
                    a19, a20, a21, out, dout):
        return self.backward((a0, a1, a2, a3, a4, a5, a6, a7, a8, a9, a10, a11, a12, a13, a14, a15, a16,
                              a17, a18, a19, a20, a21), out, dout)


class Op27(ComposedOp):
    def construct(self, a0, a1, a2, a3, a4, a5, a6, a7, a8, a9, a10, a11, a12, a13, a14, a15, a16, a17, a18, a19,
                        a20, a21, a22, a23, a24, a25, a26):
        return self.forward((a0, a1, a2, a3, a4, a5, a6, a7, a8, a9, a10, a11, a12, a13, a14, a15, a16, a17, a18,
                             a19, a20, a21, a22, a23, a24, a25, a26))

    def bprop(self, a0, a1, a2, a3, a4, a5, a6, a7, a8, a9, a10, a11, a12, a13, a14, a15, a16, a17, a18,
                    a19, a20, a21, a22, a23, a24, a25, a26, out, dout):
        return self.backward((a0, a1, a2, a3, a4, a5, a6, a7, a8, a9, a10, a11, a12, a13, a14, a15, a16,
                              a17, a18, a19, a20, a21, a22, a23, a24, a25, a26), out, dout)
# fmt: on


_CLASSES = {2: Op2, 6: Op6, 7: Op7, 11: Op11, 12: Op12, 16: Op16, 17: Op17, 21: Op21, 22: Op22, 27: Op27}


def input_count(op: str, attrs: Mapping[str, Any]) -> int:
    """How many tensors an SK op takes."""
    branches = len(attrs.get("dilation", ()))
    return {"sk_conv": 1 + 5 * branches, "sk_attention": 7, "sk_select": 2, "selective_kernel": 7 + 5 * branches}[op]


def with_inputs(count: int) -> type[ComposedOp]:
    """The class to derive an op with so many inputs from."""
    return _CLASSES[count]


class ConvBnAct(nn.Cell):
    """conv_bn_act of MindSpore's own operators, which is what plain convolutions are left to beside our kernels.

    Inputs and output as in :mod:`sknet_ops.primitives.conv_bn_act`, but that nothing is returned for the gradient:
    MindSpore derives it.
    """

    def __init__(
        self, *, training: bool, relu: bool, stride: int, padding: int, dilation: int, groups: int, eps: float,
        momentum: float,
    ) -> None:  # fmt: skip
        super().__init__(auto_prefix=False)
        self.relu = relu
        self.stride, self.padding, self.dilation, self.groups = stride, padding, dilation, groups
        self.norm = ops.BatchNorm(is_training=training, epsilon=eps, momentum=momentum)

    def normalised(self, x, weight, gamma, beta, moving_mean, moving_variance):
        z = ops.conv2d(x, weight, None, self.stride, "pad", self.padding, self.dilation, self.groups)
        return self.norm(z, gamma, beta, moving_mean, moving_variance)[0]

    def activated(self, v):
        return ops.relu(v) if self.relu else v

    def construct(self, x, weight, gamma, beta, moving_mean, moving_variance):
        return (self.activated(self.normalised(x, weight, gamma, beta, moving_mean, moving_variance)),)


class ConvBnAddAct(ConvBnAct):
    """The same with a residual."""

    def construct(self, x, weight, gamma, beta, moving_mean, moving_variance, residual):
        return (self.activated(self.normalised(x, weight, gamma, beta, moving_mean, moving_variance) + residual),)


def conv_bn_act(*, residual: bool, **attrs: Any) -> ConvBnAct:
    return (ConvBnAddAct if residual else ConvBnAct)(**attrs)
