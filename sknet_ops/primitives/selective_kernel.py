# SPDX-License-Identifier: Apache-2.0
"""The whole unit in one op: sk_conv, sk_attention and sk_select without the activated branches in memory."""

from __future__ import annotations

from functools import cache

from mindspore import ops

from sknet_ops.primitives.arity import with_arity
from sknet_ops.primitives.custom import make_custom
from sknet_ops.primitives.sk_conv import branch_names


@cache
def selective_kernel(
    *,
    training: bool,
    relu: bool,
    stride: int,
    padding: tuple[int, ...],
    dilation: tuple[int, ...],
    groups: int,
    split_input: bool,
    eps: float,
    momentum: float,
    attn_eps: float,
    attn_momentum: float,
    frozen: bool = False,
) -> ops.Custom:
    """Inputs: the 1 + 5 M of sk_conv, fc_reduce, attn_gamma, attn_beta, attn_moving_mean, attn_moving_variance,
    fc_select.

    Outputs in training: y, attention, z, mean, inv_std, pooled, hidden, attn_mean, attn_inv_std, and the moving
    statistics are updated in place; otherwise y, attention. Only y passes a gradient back.
    z is for the gradient op alone: backend cuda may keep its values with channels last.
    """
    attrs = dict(
        training=training,
        relu=relu,
        stride=stride,
        padding=padding,
        dilation=dilation,
        groups=groups,
        split_input=split_input,
        eps=eps,
        momentum=momentum,
        attn_eps=attn_eps,
        attn_momentum=attn_momentum,
        frozen=frozen,
    )
    branches = len(dilation)
    conv_inputs = 1 + 5 * branches
    conv_grads = 1 + 3 * branches
    grad_op = make_custom(
        "selective_kernel_grad",
        branch_names("d", branches) + ["dfc_reduce", "dattn_gamma", "dattn_beta", "dfc_select"],
        attrs,
    )

    def grad(inputs, out, dout):
        grads = grad_op(dout[0], *inputs, *out[1:])
        result = grads[:conv_grads]
        for moving in inputs[conv_grads:conv_inputs]:
            result = result + (ops.zeros_like(moving),)
        attn_moving = (ops.zeros_like(inputs[conv_inputs + 3]), ops.zeros_like(inputs[conv_inputs + 4]))
        return result + grads[conv_grads : conv_grads + 3] + attn_moving + grads[conv_grads + 3 :]

    outputs = ["y", "attention"]
    if training:
        outputs += ["z", "mean", "inv_std", "pooled", "hidden", "attn_mean", "attn_inv_std"]
    return make_custom("selective_kernel", outputs, attrs, with_arity(conv_inputs + 6, grad), writes_inputs=training)
