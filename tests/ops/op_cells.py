# SPDX-License-Identifier: Apache-2.0
"""Each op as a cell whose inputs are all parameters, so that one call of autodiff gives every gradient."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np
from mindspore import Parameter, ParameterTuple, Tensor, nn, ops

from sknet_ops import functional
from tests.cases import OPS, assert_close, both_passes, make_example
from tests.mindspore_tools import tensor


def _parameter(name: str, array: np.ndarray) -> Parameter:
    return Parameter(tensor(array), name=name, requires_grad="moving" not in name)


class OpCell(nn.Cell):
    """Holds the tensors of a case under their names; lists, one a branch, as tuples."""

    def __init__(self, tensors: dict[str, Any], attrs: dict[str, Any]) -> None:
        super().__init__()
        for name, value in tensors.items():
            if isinstance(value, list):
                entries = [_parameter(f"{name}[{m}]", array) for m, array in enumerate(value)]
                setattr(self, name, ParameterTuple(entries))
            else:
                setattr(self, name, _parameter(name, value))
        if "residual" not in tensors:
            self.residual = None
        self.attrs = attrs

    def construct(self) -> Tensor:
        raise NotImplementedError


class ConvBnActCell(OpCell):
    def construct(self) -> Tensor:
        return functional.conv_bn_act(
            self.x, self.weight, self.gamma, self.beta, self.moving_mean, self.moving_variance, self.residual,
            **self.attrs,
        )  # fmt: skip


class SkConvCell(OpCell):
    def construct(self) -> Tensor:
        return functional.sk_conv(
            self.x, self.weight, self.gamma, self.beta, self.moving_mean, self.moving_variance, **self.attrs
        )


class SkAttentionCell(OpCell):
    def construct(self) -> Tensor:
        return functional.sk_attention(
            self.u, self.fc_reduce, self.gamma, self.beta, self.moving_mean, self.moving_variance, self.fc_select,
            **self.attrs,
        )  # fmt: skip


class SkSelectCell(OpCell):
    def construct(self) -> Tensor:
        return functional.sk_select(self.u, self.attention)


class SelectiveKernelCell(OpCell):
    def construct(self) -> Tensor:
        return functional.selective_kernel(
            self.x, self.weight, self.gamma, self.beta, self.moving_mean, self.moving_variance, self.fc_reduce,
            self.attn_gamma, self.attn_beta, self.attn_moving_mean, self.attn_moving_variance, self.fc_select,
            **self.attrs,
        )  # fmt: skip


class MaxPoolCell(OpCell):
    def construct(self) -> Tensor:
        return functional.max_pool(self.x, **self.attrs)


CELLS = {
    "conv_bn_act": ConvBnActCell,
    "sk_conv": SkConvCell,
    "sk_attention": SkAttentionCell,
    "sk_select": SkSelectCell,
    "selective_kernel": SelectiveKernelCell,
    "max_pool": MaxPoolCell,
}


class Gradients(nn.Cell):
    """cotangent -> (output, gradients of all trainable parameters)."""

    def __init__(self, cell: OpCell) -> None:
        super().__init__(auto_prefix=False)
        self.cell = cell
        self.backward = ops.value_and_grad(self.weighted, None, cell.trainable_params(), has_aux=True)

    def weighted(self, cotangent: Tensor) -> tuple[Tensor, Tensor]:
        y = self.cell()
        return (y * cotangent).sum(), y

    def construct(self, cotangent: Tensor):
        (_, y), grads = self.backward(cotangent)
        return y, grads


def check_op(case: Any, training: bool, native: ModuleType, output: float, gradient: float) -> None:
    """One op through MindSpore against the float64 reference: output, statistics, all gradients."""
    example = make_example(case, native, training)
    op = OPS[case.op]
    attrs = {**case.attrs(), **({"training": training} if op.has_modes else {})}
    cell = CELLS[case.op](example.tensors, attrs)
    y, grads = Gradients(cell)(tensor(example.cotangent))

    expected, expected_gradients = both_passes(native, example, training, np.float64, backend="reference")
    got = {op.output: y.asnumpy()}
    got |= {p.name: p.asnumpy() for p in cell.untrainable_params()}
    assert_close(got, {name: expected[name] for name in got}, output)
    got_gradients = {f"d{p.name}": g.asnumpy() for p, g in zip(cell.trainable_params(), grads, strict=True)}
    assert_close(got_gradients, expected_gradients, gradient, floor=1e-2)
