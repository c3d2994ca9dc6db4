# SPDX-License-Identifier: Apache-2.0
"""MindSpore primitives of the ops, one file an op.

Each function returns the primitive for one set of attributes, made at the first call and kept: it is called with
tensors and returns the tuple of all outputs that csrc/bindings/mindspore_<op>.cc lists. Nothing is checked here but in
C++: use :mod:`sknet_ops.functional` unless the arguments are known to be right.

Where the chosen backend is not in the native library, its module makes the op instead (:func:`backends.primitive`).
"""

from collections.abc import Callable
from functools import wraps

from sknet_ops import backends
from sknet_ops.primitives import conv_bn_act as _conv_bn_act
from sknet_ops.primitives import max_pool as _max_pool
from sknet_ops.primitives import selective_kernel as _selective_kernel
from sknet_ops.primitives import sk_attention as _sk_attention
from sknet_ops.primitives import sk_conv as _sk_conv
from sknet_ops.primitives import sk_select as _sk_select
from sknet_ops.primitives.op_sequence import op_sequence

__all__ = ["conv_bn_act", "max_pool", "op_sequence", "selective_kernel", "sk_attention", "sk_conv", "sk_select"]


def _chosen(native: Callable) -> Callable:
    @wraps(native)
    def make(**attrs):
        # What a frozen layer keeps, and which of its ops makes a gradient, is the native library's own affair.
        others = {name: value for name, value in attrs.items() if name not in ("frozen", "dx_apart")}
        return backends.primitive(native.__name__, others) or native(**attrs)

    return make


conv_bn_act = _chosen(_conv_bn_act.conv_bn_act)
max_pool = _chosen(_max_pool.max_pool)
selective_kernel = _chosen(_selective_kernel.selective_kernel)
sk_attention = _chosen(_sk_attention.sk_attention)
sk_conv = _chosen(_sk_conv.sk_conv)
sk_select = _chosen(_sk_select.sk_select)
