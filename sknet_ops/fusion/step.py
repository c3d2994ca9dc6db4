# SPDX-License-Identifier: Apache-2.0
"""The fused cell that takes the place of a run of cells."""

from __future__ import annotations

from mindspore import Tensor, ops
from mindspore.ops import constexpr

from sknet_ops import checks
from sknet_ops.layers import ConvBnAct


class FusedRun(ConvBnAct):
    """ConvBnAct over cells that stay where they are, with an addition that may broadcast as it did before."""

    def construct(self, x: Tensor, residual: Tensor | None = None) -> Tensor:
        if residual is None or self._same_shape(x, residual):
            return self.run(x, residual, self.relu)
        y = self.run(x, None, False) + residual
        return ops.relu(y) if self.relu else y

    def _same_shape(self, x: Tensor, residual: Tensor) -> bool:
        if not isinstance(residual, Tensor):
            return False
        return _is_output_shape(
            x.shape, self.conv_holder.weight.shape, residual.shape, self.stride, self.padding, self.dilation
        )


@constexpr(check=False)
def _is_output_shape(x, weight, residual, stride, padding, dilation) -> bool:
    """Whether the residual has the convolution's output shape, as far as shapes are known."""
    if x is None or residual is None or len(x) != 4:
        return True
    sizes = [None if s is None else checks.conv_out_size(s, weight[2], stride, padding, dilation) for s in x[2:]]
    return len(residual) == 4 and all(map(checks.same, residual, (x[0], weight[0], *sizes)))
