# SPDX-License-Identifier: Apache-2.0
"""Convolution, batch norm, residual and ReLU in one op."""

from __future__ import annotations

from functools import cache

from mindspore import ops

from sknet_ops.primitives.arity import with_arity
from sknet_ops.primitives.custom import make_custom


@cache
def conv_bn_act(
    *,
    training: bool,
    residual: bool,
    relu: bool,
    stride: int,
    padding: int,
    dilation: int,
    groups: int,
    eps: float,
    momentum: float,
    frozen: bool = False,
    dx_apart: bool = False,
) -> ops.Custom:
    """Inputs: x, weight, gamma, beta, moving_mean, moving_variance[, residual].

    Outputs in training: y, z, mean, inv_std, and the moving statistics are updated in place; otherwise y.

    dx_apart: the gradient by x comes from an op of its own, which graph mode drops where nobody wants it, as of images;
    where somebody does, all gradients are computed twice.
    """
    attrs = dict(
        training=training,
        residual=residual,
        relu=relu,
        stride=stride,
        padding=padding,
        dilation=dilation,
        groups=groups,
        eps=eps,
        momentum=momentum,
        frozen=frozen,
    )
    names = ["dweight", "dgamma", "dbeta"] + ["dresidual"] * residual
    grad_op = make_custom("conv_bn_act_grad", ["dx", *names], attrs)
    others_op = make_custom("conv_bn_act_grad", names, dict(attrs, input_gradient=False)) if dx_apart else None

    def grad(inputs, out, dout):
        grads = grad_op(dout[0], *inputs[:6], *out)
        if dx_apart:
            grads = grads[:1] + others_op(dout[0], *inputs[:6], *out)
        zeros = (ops.zeros_like(inputs[4]), ops.zeros_like(inputs[5]))
        return grads[:4] + zeros + grads[4:]

    outputs = ["y", "z", "mean", "inv_std"] if training else ["y"]
    return make_custom("conv_bn_act", outputs, attrs, with_arity(7 if residual else 6, grad), writes_inputs=training)
