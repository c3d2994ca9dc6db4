# SPDX-License-Identifier: Apache-2.0
"""Global average pooling."""

from __future__ import annotations

from mindspore import Tensor, nn, ops


class GlobalAvgPool(nn.Cell):
    """The mean of each map, by MindSpore's operators; frozen as constants, one op with the dense layer after it.

    Inputs:
        x: (n, c, h, w).

    Outputs:
        (n, c), of the input's type.
    """

    def construct(self, x: Tensor) -> Tensor:
        # As rows: MindSpore's kernel for the mean over two axes takes several times as long.
        rows = ops.reshape(x, (-1, x.shape[2] * x.shape[3]))
        return ops.reshape(ops.mean(rows, 1), (-1, x.shape[1]))
