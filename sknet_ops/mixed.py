# SPDX-License-Identifier: Apache-2.0
"""Mixed precision: maps and convolution weights in half precision, parameters and statistics in float32."""

from __future__ import annotations

import mindspore as ms
from mindspore import nn

from sknet_ops import backends
from sknet_ops.layers import ConvBnAct, SelectiveKernel


def set_map_dtype(net: nn.Cell, dtype: ms.Type) -> nn.Cell:
    """Lets the layers ``ConvBnAct`` and ``SelectiveKernel`` of a network compute on maps of `dtype`.

    Each takes its input and its convolution weights to that type and gives its output in it. Parameters stay float32,
    and so do their gradients, the norms, their statistics and the attention. MindSpore's ``auto_mixed_precision`` is no
    substitute: it would hand the ops copies of the moving statistics, which they update in place.

    Call it before the network is first compiled. The last layer's output is to be cast by whoever takes it.

    Args:
        net: A network with such layers.
        dtype: A type that the chosen backend takes: ``mindspore.float16`` with backend ascend; ``mindspore.float32``.

    Returns:
        `net` itself.

    Raises:
        ValueError: The backend does not take `dtype`, or `net` has no such layers.
    """
    taken = backends.map_dtypes()
    if dtype not in taken:
        names = " or ".join(str(kind).lower() for kind in taken)
        raise ValueError(
            f"set_map_dtype: dtype: got {str(dtype).lower()}, expected {names} with backend {backends.active_backend()}"
        )
    layers = [cell for _, cell in net.cells_and_names() if isinstance(cell, (ConvBnAct, SelectiveKernel))]
    if not layers:
        raise ValueError(f"set_map_dtype: net: got {type(net).__name__} without layers of sknet_ops, expected some")
    for layer in layers:
        # Past Cell.__setattr__, which takes a type for nothing it knows.
        object.__setattr__(layer, "map_dtype", dtype)
    return net
