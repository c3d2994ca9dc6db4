# SPDX-License-Identifier: Apache-2.0
"""The largest value of each window."""

from __future__ import annotations

from functools import cache

from mindspore import ops

from sknet_ops.primitives.arity import with_arity
from sknet_ops.primitives.custom import make_custom


@cache
def max_pool(*, kernel: int, stride: int, padding: int, same: bool) -> ops.Custom:
    """Input: x. Output: y. The gradient looks for the maxima again in x: nothing is kept besides it."""
    attrs = dict(kernel=kernel, stride=stride, padding=padding, same=same)
    grad_op = make_custom("max_pool_grad", ["dx"], attrs)

    def grad(inputs, out, dout):
        return grad_op(dout[0], *inputs)

    return make_custom("max_pool", ["y"], attrs, with_arity(1, grad))
