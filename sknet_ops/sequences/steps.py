# SPDX-License-Identifier: Apache-2.0
"""Each layer as a step of a sequence, in inference form."""

from __future__ import annotations

from functools import singledispatch
from typing import Any, NamedTuple

from mindspore import Parameter, dtype, nn

from sknet_ops import checks
from sknet_ops.fusion.pool import FusedMaxPool2d
from sknet_ops.layers import ConvBnAct, GlobalAvgPool, MaxPool2d, SelectiveKernel
from sknet_ops.layers.holders import set_to_half
from sknet_ops.primitives.op_sequence import Step

Dims = tuple[int | None, ...]  # None: not known when compiling


class LayerStep(NamedTuple):
    """`operands`: what the op takes after x and, if it takes one, before the residual; all but the first `large` are
    small, and may be kept by value."""

    op: str
    attrs: dict[str, Any]
    operands: tuple[Parameter, ...]
    large: int


@singledispatch
def layer_step(cell: nn.Cell, residual: bool) -> LayerStep | None:
    """The step that the layer is, with a residual or without; None if it is none."""
    return None


@layer_step.register
def _conv_bn_act(cell: ConvBnAct, residual: bool) -> LayerStep | None:
    norm = cell.norm_holder
    attrs = dict(
        training=False,
        residual=residual,
        relu=cell.relu,
        stride=cell.stride,
        padding=cell.padding,
        dilation=cell.dilation,
        groups=cell.groups,
        eps=float(cell.eps),
        momentum=float(cell.momentum),
        frozen=True,
    )
    held = (cell.conv_holder.weight, norm.gamma, norm.beta, norm.moving_mean, norm.moving_variance)
    return None if cell.map_dtype is not None else LayerStep("conv_bn_act", attrs, held, 1)


@layer_step.register
def _selective_kernel(cell: SelectiveKernel, residual: bool) -> LayerStep | None:
    if residual or cell.map_dtype is not None:
        return None
    attrs = dict(
        training=False,
        relu=cell.relu,
        stride=cell.stride,
        padding=cell.padding,
        dilation=cell.dilation,
        groups=cell.groups,
        split_input=cell.split_input,
        eps=float(cell.eps),
        momentum=float(cell.momentum),
        attn_eps=float(cell.attn_eps),
        attn_momentum=float(cell.attn_momentum),
        frozen=True,
    )
    norms, attn = cell.norm_holders, cell.attn
    held = [conv.weight for conv in cell.conv_holders]
    for name in ("gamma", "beta", "moving_mean", "moving_variance"):
        held += [getattr(norm, name) for norm in norms]
    held += [attn.fc_reduce.weight, attn.bn.gamma, attn.bn.beta, attn.bn.moving_mean, attn.bn.moving_variance]
    return LayerStep("selective_kernel", attrs, (*held, attn.fc_select.weight), len(cell.conv_holders))


@layer_step.register
def _max_pool(cell: MaxPool2d, residual: bool) -> LayerStep | None:
    return _pool_step(residual, cell.kernel_size, cell.stride, cell.padding, cell.same)


@layer_step.register
def _fused_max_pool(cell: FusedMaxPool2d, residual: bool) -> LayerStep | None:
    return _pool_step(residual, cell.op_kernel, cell.op_stride, cell.op_padding, cell.op_same)


def _pool_step(residual: bool, kernel: int, stride: int, padding: int, same: bool) -> LayerStep | None:
    attrs = dict(kernel=kernel, stride=stride, padding=padding, same=same)
    return None if residual else LayerStep("max_pool", attrs, (), 0)


def pools_globally(cell: nn.Cell) -> bool:
    """Whether the cell computes the mean of each map, (n, c, h, w) -> (n, c): ours, or MindCV's."""
    kind = type(cell)
    from_mindcv = kind.__module__.startswith("mindcv.") and kind.__name__ == "GlobalAvgPooling"
    return (kind is GlobalAvgPool or (from_mindcv and cell.keep_dims is False)) and not _is_half(cell)


def dense_step(cell: nn.Cell) -> LayerStep | None:
    """The dense layer together with the global pooling before it; None if it is something else."""
    if type(cell) is not nn.Dense or cell.activation_flag or _is_half(cell):
        return None
    held = (cell.weight, cell.bias) if cell.has_bias else (cell.weight,)
    return LayerStep("pool_dense", dict(bias=cell.has_bias), held, 0)


def _is_half(cell: nn.Cell) -> bool:
    """By to_float, or by its parameters."""
    return set_to_half(cell) or any(parameter.dtype != dtype.float32 for parameter in cell.get_parameters())


def output_shape(step: Step, shapes: list[Dims]) -> Dims | None:
    """Of the step's output for operands of these shapes; None if it does not take them."""
    x, attrs = shapes[0], dict(step.attrs)
    if len(x) != 4:
        return None
    if step.op == "max_pool":
        sizes = [_pooled(size, **attrs) for size in x[2:]]
        return None if any(size is not None and size < 1 for size in sizes) else (*x[:2], *sizes)
    weight = shapes[1]
    if step.op == "pool_dense":
        return (x[0], weight[0]) if checks.same(x[1], weight[1]) else None
    first = {name: _first(attrs[name]) for name in ("padding", "dilation")}  # branches have outputs of one size
    branches = len(attrs["dilation"]) if attrs.get("split_input") else 1
    if not checks.same(x[1], weight[1] * attrs["groups"] * branches):
        return None
    sizes = [_convolved(size, weight[2], attrs["stride"], **first) for size in x[2:]]
    shape = (x[0], weight[0], *sizes)
    if any(size is not None and size < 1 for size in sizes):
        return None
    if attrs.get("residual") and not (len(shapes[6]) == 4 and all(map(checks.same, shapes[6], shape))):
        return None
    return shape


def _first(value: Any) -> int:
    return value[0] if isinstance(value, tuple) else value


def _convolved(size: int | None, kernel: int, stride: int, padding: int, dilation: int) -> int | None:
    return None if size is None else checks.conv_out_size(size, kernel, stride, padding, dilation)


def _pooled(size: int | None, kernel: int, stride: int, padding: int, same: bool) -> int | None:
    if size is None:
        return None
    return -(-size // stride) if same else (size + 2 * padding - kernel) // stride + 1
