# SPDX-License-Identifier: Apache-2.0
"""MindSpore primitives of the ops, one file an op.

Each function returns the primitive for one set of attributes, made at the first call and kept: it is called with
tensors and returns the tuple of all outputs that csrc/bindings/mindspore_<op>.cc lists. Nothing is checked here but in
C++: use :mod:`sknet_ops.functional` unless the arguments are known to be right.
"""

from sknet_ops.primitives.conv_bn_act import conv_bn_act
from sknet_ops.primitives.selective_kernel import selective_kernel
from sknet_ops.primitives.sk_attention import sk_attention
from sknet_ops.primitives.sk_conv import sk_conv
from sknet_ops.primitives.sk_select import sk_select

__all__ = ["conv_bn_act", "selective_kernel", "sk_attention", "sk_conv", "sk_select"]
