# SPDX-License-Identifier: Apache-2.0
"""Run by test_wheel.py in an environment of its own: one layer, forward and backward; prints what came out.

Usage: layer_program.py GRAPH_MODE|PYNATIVE_MODE
"""

import sys

import mindspore as ms
import numpy as np

import sknet_ops

assert sknet_ops.__file__.startswith(sys.prefix), sknet_ops.__file__
ms.set_seed(1)
ms.set_context(mode=getattr(ms, sys.argv[1]))
layer = sknet_ops.SelectiveKernel(16, 16)
layer.set_train()


def loss(x: ms.Tensor) -> ms.Tensor:
    return (layer(x) ** 2).sum()


x = ms.Tensor(np.random.default_rng(0).standard_normal((2, 16, 9, 9)), ms.float32)
value, (dx, gradients) = ms.value_and_grad(loss, 0, layer.trainable_params())(x)
results = [value, *(gradient.abs().sum() for gradient in (dx, *gradients))]
print("results", sknet_ops.active_isa(), *(float(result) for result in results))
