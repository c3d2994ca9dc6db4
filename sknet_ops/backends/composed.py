# SPDX-License-Identifier: Apache-2.0
"""Ops that a backend makes of several primitives.

MindSpore compiles ``construct`` and ``bprop`` of a cell in graph mode only if they name their arguments one by one; so
there is a class for each number of inputs, which packs them into a tuple.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mindspore import nn, ops


class ComposedOp(nn.Cell):
    """A subclass has ``forward(inputs)``, the tuple of outputs, and, if that is not to be MindSpore's, the gradient
    ``backward(inputs, out, dout)``.

    Of a single output PyNative mode gives ``out`` and ``dout`` bare: :func:`as_tuple` is for them.
    """

    def __init__(self) -> None:
        super().__init__(auto_prefix=False)


def as_tuple(value):
    return value if isinstance(value, tuple) else (value,)


# fmt: off
class Inputs2(ComposedOp):
    def construct(self, a0, a1):
        return self.forward((a0, a1))


class Op2(Inputs2):
    def bprop(self, a0, a1, out, dout):
        return self.backward((a0, a1), out, dout)


class Inputs6(ComposedOp):
    def construct(self, a0, a1, a2, a3, a4, a5):
        return self.forward((a0, a1, a2, a3, a4, a5))


class Op6(Inputs6):
    def bprop(self, a0, a1, a2, a3, a4, a5, out, dout):
        return self.backward((a0, a1, a2, a3, a4, a5), out, dout)


class Inputs7(ComposedOp):
    def construct(self, a0, a1, a2, a3, a4, a5, a6):
        return self.forward((a0, a1, a2, a3, a4, a5, a6))


class Op7(Inputs7):
    def bprop(self, a0, a1, a2, a3, a4, a5, a6, out, dout):
        return self.backward((a0, a1, a2, a3, a4, a5, a6), out, dout)


class Inputs11(ComposedOp):
    def construct(self, a0, a1, a2, a3, a4, a5, a6, a7, a8, a9, a10):
        return self.forward((a0, a1, a2, a3, a4, a5, a6, a7, a8, a9, a10))


class Op11(Inputs11):
    def bprop(self, a0, a1, a2, a3, a4, a5, a6, a7, a8, a9, a10, out, dout):
        return self.backward((a0, a1, a2, a3, a4, a5, a6, a7, a8, a9, a10), out, dout)


class Inputs12(ComposedOp):
    def construct(self, a0, a1, a2, a3, a4, a5, a6, a7, a8, a9, a10, a11):
        return self.forward((a0, a1, a2, a3, a4, a5, a6, a7, a8, a9, a10, a11))


class Op12(Inputs12):
    def bprop(self, a0, a1, a2, a3, a4, a5, a6, a7, a8, a9, a10, a11, out, dout):
        return self.backward((a0, a1, a2, a3, a4, a5, a6, a7, a8, a9, a10, a11), out, dout)


class Inputs16(ComposedOp):
    def construct(self, a0, a1, a2, a3, a4, a5, a6, a7, a8, a9, a10, a11, a12, a13, a14, a15):
        return self.forward((a0, a1, a2, a3, a4, a5, a6, a7, a8, a9, a10, a11, a12, a13, a14, a15))


class Op16(Inputs16):
    def bprop(self, a0, a1, a2, a3, a4, a5, a6, a7, a8, a9, a10, a11, a12, a13, a14, a15, out, dout):
        return self.backward((a0, a1, a2, a3, a4, a5, a6, a7, a8, a9, a10, a11, a12, a13, a14, a15), out, dout)


class Inputs17(ComposedOp):
    def construct(self, a0, a1, a2, a3, a4, a5, a6, a7, a8, a9, a10, a11, a12, a13, a14, a15, a16):
        return self.forward((a0, a1, a2, a3, a4, a5, a6, a7, a8, a9, a10, a11, a12, a13, a14, a15, a16))


class Op17(Inputs17):
    def bprop(self, a0, a1, a2, a3, a4, a5, a6, a7, a8, a9, a10, a11, a12, a13, a14, a15, a16, out, dout):
        return self.backward((a0, a1, a2, a3, a4, a5, a6, a7, a8, a9, a10, a11, a12, a13, a14, a15, a16), out, dout)


class Inputs21(ComposedOp):
    def construct(self, a0, a1, a2, a3, a4, a5, a6, a7, a8, a9, a10, a11, a12, a13, a14, a15, a16, a17, a18, a19,
                        a20):
        return self.forward((a0, a1, a2, a3, a4, a5, a6, a7, a8, a9, a10, a11, a12, a13, a14, a15, a16, a17, a18,
                             a19, a20))


class Op21(Inputs21):
    def bprop(self, a0, a1, a2, a3, a4, a5, a6, a7, a8, a9, a10, a11, a12, a13, a14, a15, a16, a17, a18,
                    a19, a20, out, dout):
        return self.backward((a0, a1, a2, a3, a4, a5, a6, a7, a8, a9, a10, a11, a12, a13, a14, a15, a16,
                              a17, a18, a19, a20), out, dout)


class Inputs22(ComposedOp):
    def construct(self, a0, a1, a2, a3, a4, a5, a6, a7, a8, a9, a10, a11, a12, a13, a14, a15, a16, a17, a18, a19,
                        a20, a21):
        return self.forward((a0, a1, a2, a3, a4, a5, a6, a7, a8, a9, a10, a11, a12, a13, a14, a15, a16, a17, a18,
                             a19, a20, a21))


class Op22(Inputs22):
    def bprop(self, a0, a1, a2, a3, a4, a5, a6, a7, a8, a9, a10, a11, a12, a13, a14, a15, a16, a17, a18,
                    a19, a20, a21, out, dout):
        return self.backward((a0, a1, a2, a3, a4, a5, a6, a7, a8, a9, a10, a11, a12, a13, a14, a15, a16,
                              a17, a18, a19, a20, a21), out, dout)


class Inputs27(ComposedOp):
    def construct(self, a0, a1, a2, a3, a4, a5, a6, a7, a8, a9, a10, a11, a12, a13, a14, a15, a16, a17, a18, a19,
                        a20, a21, a22, a23, a24, a25, a26):
        return self.forward((a0, a1, a2, a3, a4, a5, a6, a7, a8, a9, a10, a11, a12, a13, a14, a15, a16, a17, a18,
                             a19, a20, a21, a22, a23, a24, a25, a26))


class Op27(Inputs27):
    def bprop(self, a0, a1, a2, a3, a4, a5, a6, a7, a8, a9, a10, a11, a12, a13, a14, a15, a16, a17, a18,
                    a19, a20, a21, a22, a23, a24, a25, a26, out, dout):
        return self.backward((a0, a1, a2, a3, a4, a5, a6, a7, a8, a9, a10, a11, a12, a13, a14, a15, a16,
                              a17, a18, a19, a20, a21, a22, a23, a24, a25, a26), out, dout)
# fmt: on


_CLASSES = {cls.__name__: cls for cls in (
    Inputs2, Inputs6, Inputs7, Inputs11, Inputs12, Inputs16, Inputs17, Inputs21, Inputs22, Inputs27,
    Op2, Op6, Op7, Op11, Op12, Op16, Op17, Op21, Op22, Op27,
)}  # fmt: skip


def input_count(op: str, attrs: Mapping[str, Any]) -> int:
    """How many tensors an SK op takes."""
    branches = len(attrs.get("dilation", ()))
    return {"sk_conv": 1 + 5 * branches, "sk_attention": 7, "sk_select": 2, "selective_kernel": 7 + 5 * branches}[op]


def with_inputs(count: int, own_gradient: bool) -> type[ComposedOp]:
    """The class to derive an op with so many inputs from; MindSpore derives the gradient, or ``backward`` is it."""
    return _CLASSES[f"{'Op' if own_gradient else 'Inputs'}{count}"]


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


class MaxPool(nn.Cell):
    """max_pool as MindSpore's own layer."""

    def __init__(self, *, kernel: int, stride: int, padding: int, same: bool) -> None:
        super().__init__(auto_prefix=False)
        pad_mode = "same" if same else "pad" if padding else "valid"
        self.pool = nn.MaxPool2d(kernel, stride, pad_mode, padding)

    def construct(self, x):
        return (self.pool(x),)


# What is left to MindSpore's own operators beside our kernels.
MINDSPORES = {"conv_bn_act": conv_bn_act, "max_pool": MaxPool}
