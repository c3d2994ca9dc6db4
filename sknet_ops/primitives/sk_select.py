# SPDX-License-Identifier: Apache-2.0
"""The attention-weighted sum of the branches."""

from __future__ import annotations

from functools import cache

from mindspore import ops

from sknet_ops.primitives.arity import with_arity
from sknet_ops.primitives.custom import make_custom


@cache
def sk_select() -> ops.Custom:
    """Inputs: u, attention. Output: y."""
    grad_op = make_custom("sk_select_grad", ["du", "dattention"], {})

    def grad(inputs, out, dout):
        return grad_op(dout[0], *inputs)

    return make_custom("sk_select", ["y"], {}, with_arity(2, grad))
