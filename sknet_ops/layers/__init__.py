# SPDX-License-Identifier: Apache-2.0
"""Layers over the ops."""

from sknet_ops.layers.conv_bn_act import ConvBnAct, ConvBnActOp
from sknet_ops.layers.global_avg_pool import GlobalAvgPool
from sknet_ops.layers.max_pool import MaxPool2d
from sknet_ops.layers.phase import PhaseOnChange
from sknet_ops.layers.selective_kernel import SelectiveKernel

__all__ = ["ConvBnAct", "ConvBnActOp", "GlobalAvgPool", "MaxPool2d", "PhaseOnChange", "SelectiveKernel"]
