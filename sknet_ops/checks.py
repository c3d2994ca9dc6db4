# SPDX-License-Identifier: Apache-2.0
"""What the ops accept, checked in Python before anything native is called.

The counterpart of csrc/common/check.h, with the same rules and the same wording:
``op: argument: got ..., expected ...``. A tensor comes as its spec ``(shape, dtype)``. In graph mode a shape may be
unknown (None) or hold unknown dimensions (None): whatever depends on them passes here and is checked in C++ when the op
runs.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NoReturn

import mindspore as ms

MAX_BRANCHES = 4
MAX_CONV_ATTR = 4096
FLOAT32 = (ms.float32,)

Spec = tuple  # (shape: tuple[int | None, ...] | None, dtype)


def fail(error: type[Exception], op: str, arg: str, got: object, expected: str) -> NoReturn:
    raise error(f"{op}: {arg}: got {got}, expected {expected}")


def same(got: int | None, expected: int | None) -> bool:
    """Equal, as far as both are known."""
    return got is None or expected is None or got == expected


def dim(spec: Spec, index: int) -> int | None:
    """Dimension `index`, None if unknown."""
    return None if spec[0] is None else spec[0][index]


def tensor(
    op: str, arg: str, spec: Spec, rank: int, layout: str, empty_batch: bool = False, dtypes: tuple = FLOAT32
) -> None:
    """Of one of the types, of that rank, no dimension empty but perhaps the first."""
    shape, dtype = spec
    if dtype not in dtypes:
        fail(TypeError, op, arg, f"dtype {str(dtype).lower()}", " or ".join(str(kind).lower() for kind in dtypes))
    if shape is None:
        return
    if len(shape) != rank:
        fail(ValueError, op, arg, f"shape {shape}", f"rank {rank}: {layout}")
    for index, size in enumerate(shape):
        least = 0 if empty_batch and index == 0 else 1
        if size is not None and size < least:
            fail(ValueError, op, arg, f"shape {shape}", f"{layout} with dimension {index} of at least {least}")


def integer(op: str, arg: str, value: Any, least: int, most: int = MAX_CONV_ATTR) -> None:
    if isinstance(value, bool) or not isinstance(value, int):
        fail(TypeError, op, arg, f"{type(value).__name__} {value!r}", f"an int in {least}..{most}")
    if not least <= value <= most:
        fail(ValueError, op, arg, value, f"an int in {least}..{most}")


def boolean(op: str, arg: str, value: Any) -> None:
    if not isinstance(value, bool):
        fail(TypeError, op, arg, f"{type(value).__name__} {value!r}", "a bool")


def number(op: str, arg: str, value: Any, most: float = math.inf) -> None:
    """A finite number in 0..most."""
    limits = "a finite number >= 0" if most == math.inf else f"a number in 0..{most:g}"
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        fail(TypeError, op, arg, f"{type(value).__name__} {value!r}", limits)
    if not (math.isfinite(value) and 0 <= value <= most):
        fail(ValueError, op, arg, value, limits)


def norm_attributes(op: str, eps: Any, momentum: Any, prefix: str = "") -> None:
    number(op, f"{prefix}eps", eps)
    number(op, f"{prefix}momentum", momentum, 1)


def pool_attributes(op: str, kernel: Any, stride: Any, padding: Any, same: Any) -> None:
    integer(op, "kernel", kernel, 1)
    integer(op, "stride", stride, 1)
    boolean(op, "same", same)
    integer(op, "padding", padding, 0)
    if same and padding:
        fail(ValueError, op, "padding", padding, "0, as same pads by itself")
    if padding > kernel // 2:  # else there would be windows of padding alone
        fail(ValueError, op, "padding", padding, f"an int in 0..{kernel // 2}, half of kernel {kernel}")


def channel_vectors(op: str, specs: Sequence[Spec], channels: int | None, prefix: str = "", suffix: str = "") -> None:
    """gamma, beta, moving_mean, moving_variance: one value a channel each."""
    for name, spec in zip(("gamma", "beta", "moving_mean", "moving_variance"), specs, strict=True):
        arg = f"{prefix}{name}{suffix}"
        tensor(op, arg, spec, 1, "(channels,)")
        if not same(dim(spec, 0), channels):
            fail(ValueError, op, arg, f"shape {spec[0]}", f"({channels},), one value a channel")


def branch_lists(op: str, lists: dict[str, Sequence[Spec]]) -> int:
    """The number of branches: every list has so many entries."""
    first, *others = lists
    branches = len(lists[first])
    if not 1 <= branches <= MAX_BRANCHES:
        fail(ValueError, op, first, f"{branches} tensors", f"1..{MAX_BRANCHES}, one a branch")
    for name in others:
        if len(lists[name]) != branches:
            fail(ValueError, op, name, f"{len(lists[name])} tensors", f"{branches}, as in {first}")
    return branches


def per_branch(op: str, arg: str, value: Any, branches: int, least: int) -> tuple[int, ...]:
    """An int for all branches or a list of one for each, as a tuple."""
    if isinstance(value, (list, tuple)):
        if len(value) != branches:
            fail(ValueError, op, arg, f"{len(value)} values", f"an int, or {branches}, one a branch")
        for branch, entry in enumerate(value):
            integer(op, f"{arg}[{branch}]", entry, least)
        return tuple(value)
    integer(op, arg, value, least)
    return (value,) * branches


def branch_count(op: str, arg: str, branches: int | None) -> None:
    if branches is not None and not 1 <= branches <= MAX_BRANCHES:
        fail(ValueError, op, arg, f"{branches} branches", f"1..{MAX_BRANCHES}")


def mindcv_padding(kernel: int, stride: int, dilation: int) -> int:
    """MindCV's rule: the output is as large as the input divided by the stride."""
    return ((stride - 1) + dilation * (kernel - 1)) // 2


def conv_out_size(size: int, kernel: int, stride: int, padding: int, dilation: int) -> int:
    """0 or less: the kernel does not fit."""
    return (size + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1


def conv_weight(op: str, arg: str, spec: Spec, c_in: int | None, groups: int, dtypes: tuple = FLOAT32) -> int | None:
    """Checks the weight of one convolution; returns its kernel size."""
    tensor(op, arg, spec, 4, "(c_out, c_in / groups, kernel, kernel)", dtypes=dtypes)
    if spec[0] is None:
        return None
    c_out, c_in_per_group, kernel, width = spec[0]
    if not same(kernel, width) or (kernel is not None and kernel > MAX_CONV_ATTR):
        expected = f"a square kernel of at most {MAX_CONV_ATTR} in the last two dimensions"
        fail(ValueError, op, arg, f"shape {spec[0]}", expected)
    if (c_in is not None and c_in % groups) or (c_out is not None and c_out % groups):
        expected = f"a number that divides input channels ({c_in}) and output channels ({c_out}) of {arg}"
        fail(ValueError, op, "groups", groups, expected)
    if c_in is not None and not same(c_in_per_group, c_in // groups):
        expected = f"{c_in // groups} in dimension 1: {c_in} input channels / {groups} groups"
        fail(ValueError, op, arg, f"shape {spec[0]}", expected)
    return kernel


def conv_output(
    op: str, x: Spec, kernel: int | None, stride: int, padding: int, dilation: int
) -> tuple[int | None, int | None]:
    """Height and width of the output, None where unknown."""
    sizes: list[int | None] = []
    for axis, index in (("height", 2), ("width", 3)):
        size = dim(x, index)
        if size is None or kernel is None:
            sizes.append(None)
            continue
        out = conv_out_size(size, kernel, stride, padding, dilation)
        if out < 1:
            got = f"{axis} {size} with kernel {kernel}, dilation {dilation}, padding {padding}"
            span = dilation * (kernel - 1) + 1
            expected = f"a kernel extent of at most the padded {axis} ({size + 2 * padding}, the kernel spans {span})"
            fail(ValueError, op, "x", got, expected)
        sizes.append(out)
    return sizes[0], sizes[1]


def dense_weight(op: str, arg: str, spec: Spec, rows: int | None, columns: int | None, row_name: str) -> None:
    """(rows, columns) or, as a 1x1 convolution holds it, (rows, columns, 1, 1)."""
    rank = 2 if spec[0] is None or len(spec[0]) != 4 else 4
    wanted = f"({rows or row_name}, {columns or 'c'}"
    layout = f"{wanted}) or {wanted}, 1, 1)"
    tensor(op, arg, spec, rank, layout)
    shape = spec[0]
    if shape is not None and not (same(shape[0], rows) and same(shape[1], columns) and shape[2:] in ((), (1, 1))):
        fail(ValueError, op, arg, f"shape {shape}", layout)


def same_shape(
    op: str, arg: str, spec: Spec, expected: tuple[int | None, ...], layout: str, dtypes: tuple = FLOAT32
) -> None:
    tensor(op, arg, spec, len(expected), layout, empty_batch=True, dtypes=dtypes)
    if spec[0] is not None and not all(map(same, spec[0], expected)):
        shown = ", ".join("?" if size is None else str(size) for size in expected)
        fail(ValueError, op, arg, f"shape {spec[0]}", f"shape ({shown}): {layout}")
