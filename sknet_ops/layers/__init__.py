# SPDX-License-Identifier: Apache-2.0
"""Layers over the ops."""

from sknet_ops.layers.conv_bn_act import ConvBnAct, ConvBnActOp
from sknet_ops.layers.max_pool import MaxPool2d
from sknet_ops.layers.phase import PhaseOnChange
from sknet_ops.layers.selective_kernel import SelectiveKernel

__all__ = ["ConvBnAct", "ConvBnActOp", "MaxPool2d", "PhaseOnChange", "SelectiveKernel"]
