# SPDX-License-Identifier: Apache-2.0
"""Max pooling as a drop-in for MindSpore's layer."""

from __future__ import annotations

from typing import Any, NamedTuple

from mindspore import Tensor, nn

from sknet_ops import checks, functional
from sknet_ops.layers.holders import UnsupportedCellError, describe, set_to_half

_OP = "MaxPool2d"


class PoolSettings(NamedTuple):
    kernel: int
    stride: int
    padding: int
    same: bool


class MaxPool2d(nn.Cell):
    """Max pooling by the op `max_pool`: values and gradients are those of ``mindspore.nn.MaxPool2d``.

    Args:
        kernel_size: An int, or a tuple of one or of two equal ones.
        stride: As `kernel_size`.
        pad_mode: "valid": no padding. "same": an output of h / stride and w / stride, rounded up; of an odd number the
            larger part of the padding goes below and on the right. "pad": `padding` on every side.
        padding: An int, or a tuple or list of one or of two equal ones: at most half of `kernel_size`, and 0 unless
            `pad_mode` is "pad".
        dilation, return_indices, ceil_mode, data_format: At their defaults only.

    Inputs:
        x: (n, c, h, w), float32.

    Outputs:
        (n, c, h_out, w_out), float32.

    Raises:
        TypeError: An argument of another type, an input that is not float32.
        ValueError: A setting that the op does not have, or an input that does not fit; the message names it.
    """

    def __init__(
        self,
        kernel_size: int | tuple[int, ...] = 1,
        stride: int | tuple[int, ...] = 1,
        pad_mode: str = "valid",
        padding: int | tuple[int, ...] | list[int] = 0,
        dilation: int | tuple[int, ...] = 1,
        return_indices: bool = False,
        ceil_mode: bool = False,
        data_format: str = "NCHW",
    ) -> None:
        super().__init__()
        if not isinstance(pad_mode, str):
            checks.fail(TypeError, _OP, "pad_mode", f"{type(pad_mode).__name__} {pad_mode!r}", "a str")
        checks.boolean(_OP, "return_indices", return_indices)
        checks.boolean(_OP, "ceil_mode", ceil_mode)
        refused = [("return_indices", return_indices, False), ("ceil_mode", ceil_mode, False)]
        refused += [("dilation", _one("dilation", dilation), 1), ("data_format", data_format, "NCHW")]
        for name, value, expected in refused:
            if value != expected:
                checks.fail(ValueError, _OP, name, repr(value), f"{expected!r}")
        self.pad_mode = pad_mode.upper()
        if self.pad_mode not in ("SAME", "VALID", "PAD"):
            checks.fail(ValueError, _OP, "pad_mode", repr(pad_mode), "'same', 'valid' or 'pad'")
        self.kernel_size, self.stride = _one("kernel_size", kernel_size), _one("stride", stride)
        self.padding, self.same = _one("padding", padding), self.pad_mode == "SAME"
        if self.pad_mode != "PAD" and self.padding != 0:
            checks.fail(ValueError, _OP, "padding", repr(padding), f"0, as pad_mode is {pad_mode!r}")
        checks.pool_attributes(_OP, self.kernel_size, self.stride, self.padding, self.same)

    def construct(self, x: Tensor) -> Tensor:
        return functional.max_pool(x, kernel=self.kernel_size, stride=self.stride, padding=self.padding, same=self.same)

    def extend_repr(self) -> str:
        return f"kernel_size={self.kernel_size}, stride={self.stride}, pad_mode={self.pad_mode}, padding={self.padding}"


def pool_settings(cell: nn.MaxPool2d) -> PoolSettings:
    """Settings of MindSpore's layer, if the op can compute it.

    Raises:
        UnsupportedCellError: Anything else, with the reason.
    """
    if type(cell) is not nn.MaxPool2d:
        raise UnsupportedCellError(f"{describe(cell)}, expected nn.MaxPool2d itself")
    if set_to_half(cell):
        raise UnsupportedCellError(f"{describe(cell)} set to a half precision by to_float, expected float32")
    pool = cell.max_pool
    config: dict[str, Any] = dict(kernel_size=cell.kernel_size, stride=cell.stride, pad_mode=cell.pad_mode)
    if cell.use_pad:
        # The three-dimensional primitive behind it has the depth in front.
        config.update(padding=tuple(pool.pads[1:]), dilation=tuple(pool.dilation[-2:]), ceil_mode=pool.ceil_mode)
    try:
        config.update(return_indices=cell.return_indices, data_format=cell.format)
        pool = MaxPool2d(**config)
    except (TypeError, ValueError) as error:
        raise UnsupportedCellError(str(error).removeprefix(f"{_OP}: ")) from error
    return PoolSettings(pool.kernel_size, pool.stride, pool.padding, pool.same)


def _one(name: str, value: Any) -> int:
    """The one number of an int or of a tuple of equal ints."""
    values = tuple(value) if isinstance(value, (tuple, list)) else (value,)
    if len(values) not in (1, 2) or len(set(values)) != 1:
        checks.fail(ValueError, _OP, name, repr(value), "an int, the same in both directions")
    least = 0 if name == "padding" else 1
    checks.integer(_OP, name, values[0], least)
    return values[0]
