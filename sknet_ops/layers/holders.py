# SPDX-License-Identifier: Apache-2.0
"""Reading nn.Conv2d, nn.BatchNorm2d and nn.ReLU, which hold the parameters and settings of the fused layers.

Keeping MindSpore's own cells as holders keeps parameter names, initialisation and whatever else looks for them
(weight-decay filters, freezing of norms, ``set_train`` on one cell).
"""

from __future__ import annotations

from typing import NamedTuple

from mindspore import dtype, nn


class UnsupportedCellError(ValueError):
    """A cell that the fused ops cannot stand in for; the message says why."""


class ConvSettings(NamedTuple):
    stride: int
    padding: int
    dilation: int
    groups: int


class NormSettings(NamedTuple):
    eps: float
    momentum: float  # weight of the new batch


def describe(cell: object) -> str:
    """The class of a cell, as a user knows it."""
    cls = cell if isinstance(cell, type) else type(cell)
    return f"nn.{cls.__name__}" if cls.__module__.startswith("mindspore.nn") else f"{cls.__module__}.{cls.__name__}"


def conv_settings(conv: object) -> ConvSettings:
    """Settings of a convolution that the ops can compute.

    Raises:
        UnsupportedCellError: Anything else, with the reason.
    """
    _plain(conv, nn.Conv2d, "nn.Conv2d")
    if conv.data_format != "NCHW":
        raise UnsupportedCellError(f"data_format {conv.data_format}, expected NCHW")
    if conv.has_bias:
        raise UnsupportedCellError("has_bias=True, expected a convolution without bias")
    kernel, stride, dilation = (_square(name, getattr(conv, name)) for name in ("kernel_size", "stride", "dilation"))
    _float32("weight", conv.weight)
    return ConvSettings(stride, _padding(conv, kernel, stride, dilation), dilation, conv.group)


def norm_settings(norm: object) -> NormSettings:
    """Settings of a batch norm that the ops can compute.

    Raises:
        UnsupportedCellError: Anything else, with the reason.
    """
    _plain(norm, nn.BatchNorm2d, "nn.BatchNorm2d")
    for name in ("gamma", "beta", "moving_mean", "moving_variance"):
        _float32(name, getattr(norm, name))
    return NormSettings(float(norm.eps), float(norm.momentum))


def is_relu(activation: object) -> bool:
    """True for nn.ReLU, False for None.

    Raises:
        UnsupportedCellError: Any other activation.
    """
    if activation is None:
        return False
    _plain(activation, nn.ReLU, "nn.ReLU")
    return True


def has_hook(cell: nn.Cell) -> bool:
    """Whether somebody listens in on the cell."""
    hooks = ("_forward_pre_hook", "_forward_hook", "_backward_pre_hook", "_backward_hook")
    return any(getattr(cell, name, None) for name in hooks)


def refuse_hooks(cell: nn.Cell) -> None:
    """Raises UnsupportedCellError if somebody registered a hook on the cell: a fused op would not call it."""
    if has_hook(cell):
        raise UnsupportedCellError(f"{describe(cell)} has a hook, which a fused op could not call")


def set_to_half(cell: object) -> bool:
    """Whether to_float has set the cell to a half precision."""
    return any(getattr(cell, flag, False) for flag in ("fp16", "bf16"))


def _plain(cell: object, cls: type[nn.Cell], name: str) -> None:
    """`cell` computes what `cls` computes, in float32 and with nobody listening in."""
    if not isinstance(cell, cls) or type(cell).construct is not cls.construct:
        raise UnsupportedCellError(f"{describe(cell)}, expected {name} or a subclass that keeps its construct")
    if set_to_half(cell):
        raise UnsupportedCellError(f"{describe(cell)} set to a half precision by to_float, expected float32")
    refuse_hooks(cell)


def _square(name: str, value: int | tuple[int, ...], where: str = "in both directions") -> int:
    values = value if isinstance(value, tuple) else (value,)
    if len(set(values)) != 1:
        raise UnsupportedCellError(f"{name} {value}, expected the same {where}")
    return values[0]


def _padding(conv: nn.Conv2d, kernel: int, stride: int, dilation: int) -> int:
    if conv.pad_mode == "valid":
        return 0
    if conv.pad_mode == "same":
        if stride > 1 and kernel > 1:
            # It depends on the input's size then, and is not the same on both sides.
            raise UnsupportedCellError(f"pad_mode 'same' with stride {stride}, expected pad_mode 'pad' or 'valid'")
        if dilation * (kernel - 1) % 2:
            raise UnsupportedCellError(f"pad_mode 'same' with kernel_size {kernel}, which pads one side more")
        return dilation * (kernel - 1) // 2
    return _square("padding", conv.padding, "on all sides")


def _float32(name: str, parameter) -> None:
    if parameter.dtype != dtype.float32:
        raise UnsupportedCellError(f"{name} of dtype {str(parameter.dtype).lower()}, expected float32")


def uses_batch_statistics(norm: nn.BatchNorm2d) -> bool:
    """Whether the norm, as it is set now, normalises by the batch and updates its moving statistics."""
    if norm.use_batch_statistics is None:
        return norm.training
    return norm.use_batch_statistics


def may_freeze(conv: nn.Conv2d) -> None:
    """Gives a holder the mark that freeze sets: it is the convolution, always a child of the network, that knows."""
    if not hasattr(conv, "weights_frozen"):
        object.__setattr__(conv, "weights_frozen", False)
