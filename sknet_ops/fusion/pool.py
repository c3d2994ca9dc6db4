# SPDX-License-Identifier: Apache-2.0
"""nn.MaxPool2d on the op `max_pool`."""

from __future__ import annotations

from mindspore import Tensor, dtype, nn
from mindspore.ops import constexpr

from sknet_ops import backends, functional
from sknet_ops.backends import cpu, reference
from sknet_ops.layers.holders import UnsupportedCellError
from sknet_ops.layers.max_pool import pool_settings


class FusedMaxPool2d(nn.MaxPool2d):
    """MindSpore's layer, over the op where that takes the input: four dimensions, float32."""

    def construct(self, x: Tensor) -> Tensor:
        if isinstance(x, Tensor) and _takes(x.shape, x.dtype):
            return functional.max_pool(
                x, kernel=self.op_kernel, stride=self.op_stride, padding=self.op_padding, same=self.op_same
            )
        return super().construct(x)


@constexpr(check=False)
def _takes(shape, kind) -> bool:
    return kind == dtype.float32 and (shape is None or len(shape) == 4)


def adopt_pool(cell: nn.MaxPool2d) -> None:
    """Makes the cell, in place, a fused one.

    Raises:
        UnsupportedCellError: The reason why it stays as it is.
    """
    backend = backends.active_backend()
    if backend not in (cpu.NAME, reference.NAME):
        raise UnsupportedCellError(f"backend {backend} has no max_pool of its own")
    cell.op_kernel, cell.op_stride, cell.op_padding, cell.op_same = pool_settings(cell)
    cell.__class__ = FusedMaxPool2d
