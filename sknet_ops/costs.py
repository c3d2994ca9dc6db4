# SPDX-License-Identifier: Apache-2.0
"""What an op has to do at the least: arithmetic and memory traffic, from the shapes of its tensors alone."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import NamedTuple

Shape = tuple[int, ...]


class Cost(NamedTuple):
    """`flops`: of convolutions, dense layers and the weighted sum, two a multiply-add; norms and pooling not counted.
    `bytes`: every tensor of the op read or written once, float32."""

    flops: int
    bytes: int


def cost(op: str, shapes: Sequence[Shape]) -> Cost:
    """The cost of one call.

    Args:
        op: Name of the op; a gradient's (``..._grad``) counts twice the forward op's arithmetic.
        shapes: Of all its inputs, then all its outputs, in the order of the C entry.

    Raises:
        ValueError: An op that is not known.
    """
    forward = op.removesuffix("_grad")
    gradient = forward != op
    if forward not in _FLOPS:
        raise ValueError(f"cost: op: got {op!r}, expected one of {', '.join(_FLOPS)}, each with or without _grad")
    # A gradient's first input is shaped as the forward op's output, then follow the forward op's inputs.
    flops = _FLOPS[forward](shapes[0] if gradient else None, shapes[1:] if gradient else shapes)
    return Cost(2 * flops if gradient else flops, 4 * sum(prod(shape) for shape in shapes))


def _conv_flops(y: Shape, weight: Shape) -> int:
    """`y` is (n, c_out, h, w)."""
    return 2 * prod(y) * prod(weight[1:])


def _weights(shapes: Sequence[Shape]) -> list[Shape]:
    """The branches' weights, the rank-4 tensors that follow x."""
    found = []
    for shape in shapes[1:]:
        if len(shape) != 4:
            break
        found.append(shape)
    return found


def _conv_bn_act(out: Shape | None, shapes: Sequence[Shape]) -> int:
    y = out or next(shape for shape in shapes[6:] if len(shape) == 4)
    return _conv_flops(y, shapes[1])


def _sk_conv(out: Shape | None, shapes: Sequence[Shape]) -> int:
    n, _, c, h, w = out or next(shape for shape in shapes if len(shape) == 5)
    return sum(_conv_flops((n, c, h, w), weight) for weight in _weights(shapes))


def _dense_flops(n: int, fc_reduce: Shape, branches: int) -> int:
    return 2 * n * prod(fc_reduce) * (1 + branches)


def _sk_attention(out: Shape | None, shapes: Sequence[Shape]) -> int:
    n, branches = shapes[0][:2]
    return _dense_flops(n, shapes[1], branches)


def _sk_select(out: Shape | None, shapes: Sequence[Shape]) -> int:
    return 2 * prod(shapes[0])


def _selective_kernel(out: Shape | None, shapes: Sequence[Shape]) -> int:
    weights = _weights(shapes)
    branches = len(weights)
    conv_inputs = 1 + 5 * branches
    y = out or shapes[conv_inputs + 6]
    conv = sum(_conv_flops(y, weight) for weight in weights)
    return conv + _dense_flops(y[0], shapes[conv_inputs], branches) + 2 * branches * prod(y)


def _max_pool(out: Shape | None, shapes: Sequence[Shape]) -> int:
    return 0


def _pool_dense(out: Shape | None, shapes: Sequence[Shape]) -> int:
    return 2 * shapes[0][0] * prod(shapes[1])


_FLOPS = {
    "conv_bn_act": _conv_bn_act,
    "sk_conv": _sk_conv,
    "sk_attention": _sk_attention,
    "sk_select": _sk_select,
    "selective_kernel": _selective_kernel,
    "max_pool": _max_pool,
    "pool_dense": _pool_dense,
}
