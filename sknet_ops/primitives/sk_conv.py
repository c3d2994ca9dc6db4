# SPDX-License-Identifier: Apache-2.0
"""The branches: M convolutions with batch norm and ReLU in one op."""

from __future__ import annotations

from functools import cache

from mindspore import ops

from sknet_ops.primitives.arity import with_arity
from sknet_ops.primitives.custom import make_custom


def branch_names(prefix: str, branches: int) -> list[str]:
    """Names of dx and of the gradients of weight, gamma and beta of every branch."""
    return [f"{prefix}x"] + [f"{prefix}{name}_{m}" for name in ("weight", "gamma", "beta") for m in range(branches)]


@cache
def sk_conv(
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
) -> ops.Custom:
    """Inputs: x, weight * M, gamma * M, beta * M, moving_mean * M, moving_variance * M.

    Outputs in training: u, z, mean, inv_std, and the moving statistics are updated in place; otherwise u.
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
    )
    branches = len(dilation)
    inputs_count = 1 + 5 * branches
    grad_op = make_custom("sk_conv_grad", branch_names("d", branches), attrs)

    def grad(inputs, out, dout):
        grads = grad_op(dout[0], *inputs, *out[1:])
        for moving in inputs[1 + 3 * branches :]:
            grads = grads + (ops.zeros_like(moving),)
        return grads

    outputs = ["u", "z", "mean", "inv_std"] if training else ["u"]
    return make_custom("sk_conv", outputs, attrs, with_arity(inputs_count, grad), writes_inputs=training)
