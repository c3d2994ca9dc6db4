# SPDX-License-Identifier: Apache-2.0
"""The attention across branches."""

from __future__ import annotations

from functools import cache

from mindspore import ops

from sknet_ops.primitives.arity import with_arity
from sknet_ops.primitives.custom import make_custom


@cache
def sk_attention(*, training: bool, eps: float, momentum: float) -> ops.Custom:
    """Inputs: u, fc_reduce, gamma, beta, moving_mean, moving_variance, fc_select.

    Outputs in training: attention, pooled, hidden, mean, inv_std, and the moving statistics are updated in place;
    otherwise attention.
    """
    attrs = dict(training=training, eps=eps, momentum=momentum)
    grad_op = make_custom("sk_attention_grad", ["du", "dfc_reduce", "dgamma", "dbeta", "dfc_select"], attrs)

    def grad(inputs, out, dout):
        grads = grad_op(dout[0], *inputs, *out)
        return grads[:4] + (ops.zeros_like(inputs[4]), ops.zeros_like(inputs[5]), grads[4])

    outputs = ["attention", "pooled", "hidden", "mean", "inv_std"] if training else ["attention"]
    return make_custom("sk_attention", outputs, attrs, with_arity(7, grad), writes_inputs=training)
