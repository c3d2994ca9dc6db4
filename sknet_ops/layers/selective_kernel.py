# SPDX-License-Identifier: Apache-2.0
"""The selective-kernel unit as a drop-in for MindCV's layer."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from mindspore import Tensor, nn, ops

from sknet_ops import checks, functional
from sknet_ops.layers.holders import (
    ConvSettings,
    NormSettings,
    UnsupportedCellError,
    conv_settings,
    describe,
    is_relu,
    may_freeze,
    norm_settings,
    uses_batch_statistics,
)
from sknet_ops.layers.phase import PhaseOnChange

_OP = "SelectiveKernel"
_NORMS = "nn.BatchNorm2d, a subclass that keeps its construct, or a functools.partial of either"


class SelectiveKernel(PhaseOnChange, nn.Cell):
    """Selective-kernel convolution (arXiv 1903.06586, section 3.1) in one op.

    Signature, defaults, parameter names, shapes and initialisation are those of MindCV 0.3.0's
    ``mindcv.models.layers.selective_kernel.SelectiveKernel``: a checkpoint of the one loads into the other.

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the output. Default: `in_channels`.
        kernel_size: Kernel sizes of 1 to 4 branches, odd and at least 3; an int stands for two equal branches.
            Default: [3, 5].
        stride: Of every branch.
        dilation: Of every branch; with `keep_3x3` multiplied by what makes a 3x3 kernel span `kernel_size`.
        groups: Of every branch, at most `out_channels`.
        rd_ratio: Width of the attention's hidden layer, as a share of `out_channels`.
        rd_channels: That width itself. Default: `rd_ratio` decides.
        rd_divisor: The width that `rd_ratio` gives is rounded to a multiple of it.
        keep_3x3: Larger kernels are 3x3 ones with dilation.
        split_input: Each branch reads its share of the input channels, not all of them.
        activation: nn.ReLU, or None for no activation in the branches. (The attention always has ReLU.)
        norm: nn.BatchNorm2d, a subclass that keeps its ``construct``, or a functools.partial of either, for the
            branches. (The attention always has nn.BatchNorm2d.)

    Inputs:
        x: (n, in_channels, h, w), float32.

    Outputs:
        (n, out_channels, ceil(h / stride), ceil(w / stride)) for stride 1 and 2, float32.

    Raises:
        TypeError: An argument of another type; an activation or a norm that is not supported.
        ValueError: A value out of range; channels that do not divide.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int | None = None,
        kernel_size: int | Sequence[int] | None = None,
        stride: int = 1,
        dilation: int = 1,
        groups: int = 1,
        rd_ratio: float = 1.0 / 16,
        rd_channels: int | None = None,
        rd_divisor: int = 8,
        keep_3x3: bool = True,
        split_input: bool = True,
        activation: Callable[[], nn.ReLU] | None = nn.ReLU,
        norm: Callable[[int], nn.BatchNorm2d] = nn.BatchNorm2d,
    ) -> None:
        super().__init__()
        widest = 2**31 - 1
        checks.integer(_OP, "in_channels", in_channels, 1, widest)
        out_channels = in_channels if out_channels is None else out_channels
        checks.integer(_OP, "out_channels", out_channels, 1, widest)
        kernels = _kernel_sizes(kernel_size)
        checks.integer(_OP, "stride", stride, 1)
        checks.integer(_OP, "dilation", dilation, 1)
        checks.integer(_OP, "groups", groups, 1, widest)
        checks.number(_OP, "rd_ratio", rd_ratio)
        if rd_channels is not None:
            checks.integer(_OP, "rd_channels", rd_channels, 1, widest)
        checks.integer(_OP, "rd_divisor", rd_divisor, 1, widest)
        checks.boolean(_OP, "keep_3x3", keep_3x3)
        checks.boolean(_OP, "split_input", split_input)

        branches = len(kernels)
        dilations = [dilation * (k - 1) // 2 for k in kernels] if keep_3x3 else [dilation] * branches
        kernels = [3] * branches if keep_3x3 else kernels
        groups = min(out_channels, groups)
        if split_input and in_channels % branches:
            expected = f"a multiple of {branches}, as split_input shares them among the branches"
            checks.fail(ValueError, _OP, "in_channels", in_channels, expected)
        branch_in = in_channels // branches if split_input else in_channels
        if branch_in % groups or out_channels % groups:
            expected = f"a number that divides a branch's input channels ({branch_in}) and {out_channels}, its output"
            checks.fail(ValueError, _OP, "groups", groups, expected)

        self.num_paths = branches
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.split_input = split_input
        self.paths = nn.CellList(
            [
                _Branch(branch_in, out_channels, k, stride, d, groups, activation, norm)
                for k, d in zip(kernels, dilations, strict=True)
            ]
        )
        reduced = rd_channels or _make_divisible(out_channels * rd_ratio, rd_divisor)
        self.attn = _Attention(out_channels, branches, reduced)

        self._bind(_settings(self))

    @classmethod
    def adopt(cls, cell: nn.Cell) -> nn.Cell:
        """Turns MindCV's layer, in place, into this one: same cell, same children, same parameters.

        Raises:
            UnsupportedCellError: The reason why it cannot; the cell is untouched then.
        """
        settings = _settings(cell)
        cell.__class__ = cls
        cell._bind(settings)
        return cell

    def _bind(self, settings: dict) -> None:
        for name, value in settings.items():
            object.__setattr__(self, name, value)  # past Cell.__setattr__, which would make the holders children
        for conv in self.conv_holders:
            may_freeze(conv)

    map_dtype = None  # see set_map_dtype

    def _as_map(self, x: Tensor) -> Tensor:
        return x if self.map_dtype is None else ops.cast(x, self.map_dtype)

    def construct(self, x: Tensor) -> Tensor:
        training = uses_batch_statistics(self.attn.bn)
        for norm in self.norm_holders:
            if uses_batch_statistics(norm) != training:  # some norms are frozen: no single op does that
                return functional.sk_select(*self._parts(x))
        attn = self.attn
        return functional.selective_kernel(
            self._as_map(x),
            [self._as_map(conv.weight) for conv in self.conv_holders],
            [norm.gamma for norm in self.norm_holders],
            [norm.beta for norm in self.norm_holders],
            [norm.moving_mean for norm in self.norm_holders],
            [norm.moving_variance for norm in self.norm_holders],
            attn.fc_reduce.weight,
            attn.bn.gamma,
            attn.bn.beta,
            attn.bn.moving_mean,
            attn.bn.moving_variance,
            attn.fc_select.weight,
            stride=self.stride,
            padding=self.padding,
            dilation=self.dilation,
            groups=self.groups,
            split_input=self.split_input,
            relu=self.relu,
            training=training,
            eps=self.eps,
            momentum=self.momentum,
            attn_eps=self.attn_eps,
            attn_momentum=self.attn_momentum,
            frozen=self.conv_holders[0].weights_frozen,
        )

    def attention(self, x: Tensor) -> Tensor:
        """The attention that the layer pays in inference form, whatever mode it is in: (n, branches, out_channels).

        Raises:
            TypeError, ValueError: `x` is not what the layer takes.
        """
        return self._attention(self._branches(x, False), False)

    def _parts(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Branches and attention, each norm by itself in training or not."""
        training = uses_batch_statistics(self.norm_holders[0])
        equal = True
        for norm in self.norm_holders:
            equal = equal and uses_batch_statistics(norm) == training
        u = self._branches(x, training) if equal else self._separate_branches(x)
        return u, self._attention(u, uses_batch_statistics(self.attn.bn))

    def _branches(self, x: Tensor, training: bool) -> Tensor:
        return functional.sk_conv(
            self._as_map(x),
            [self._as_map(conv.weight) for conv in self.conv_holders],
            [norm.gamma for norm in self.norm_holders],
            [norm.beta for norm in self.norm_holders],
            [norm.moving_mean for norm in self.norm_holders],
            [norm.moving_variance for norm in self.norm_holders],
            stride=self.stride,
            padding=self.padding,
            dilation=self.dilation,
            groups=self.groups,
            split_input=self.split_input,
            relu=self.relu,
            training=training,
            eps=self.eps,
            momentum=self.momentum,
        )

    def _separate_branches(self, x: Tensor) -> Tensor:
        outputs = []
        width = self.in_channels // self.num_paths
        for m in range(self.num_paths):
            norm = self.norm_holders[m]
            outputs.append(
                functional.conv_bn_act(
                    self._as_map(x[:, m * width : (m + 1) * width] if self.split_input else x),
                    self._as_map(self.conv_holders[m].weight),
                    norm.gamma,
                    norm.beta,
                    norm.moving_mean,
                    norm.moving_variance,
                    stride=self.stride,
                    padding=self.padding[m],
                    dilation=self.dilation[m],
                    groups=self.groups,
                    relu=self.relu,
                    training=uses_batch_statistics(norm),
                    eps=self.eps,
                    momentum=self.momentum,
                )
            )
        return ops.stack(outputs, axis=1)

    def _attention(self, u: Tensor, training: bool) -> Tensor:
        attn = self.attn
        return functional.sk_attention(
            u,
            attn.fc_reduce.weight,
            attn.bn.gamma,
            attn.bn.beta,
            attn.bn.moving_mean,
            attn.bn.moving_variance,
            attn.fc_select.weight,
            training=training,
            eps=self.attn_eps,
            momentum=self.attn_momentum,
        )


class _Branch(nn.Cell):
    """Holds one branch's cells under MindCV's names."""

    def __init__(self, c_in, c_out, kernel, stride, dilation, groups, activation, norm) -> None:
        super().__init__()
        padding = checks.mindcv_padding(kernel, stride, dilation)
        cells = [
            nn.Conv2d(c_in, c_out, kernel, stride, pad_mode="pad", padding=padding, dilation=dilation, group=groups),
            _made("norm", norm, (c_out,), norm_settings, _NORMS),
        ]
        if activation is not None:
            cells.append(_made("activation", activation, (), is_relu, "nn.ReLU or None"))
        self.features = nn.SequentialCell(cells)


class _Attention(nn.Cell):
    """Holds the attention's cells under MindCV's names."""

    def __init__(self, channels: int, branches: int, reduced: int) -> None:
        super().__init__()
        self.fc_reduce = nn.Conv2d(channels, reduced, kernel_size=1, has_bias=False)
        self.bn = nn.BatchNorm2d(reduced)
        self.act = nn.ReLU()
        self.fc_select = nn.Conv2d(reduced, channels * branches, kernel_size=1)


def _made(arg: str, factory: Callable, args: tuple, check: Callable, expected: str) -> nn.Cell:
    """The cell that `factory` makes, if the ops can stand in for it."""
    if not callable(factory):
        checks.fail(TypeError, _OP, arg, describe(factory) if isinstance(factory, nn.Cell) else repr(factory), expected)
    cell = factory(*args)
    try:
        check(cell)
    except UnsupportedCellError as error:
        raise TypeError(f"{_OP}: {arg}: got {error} (supported: {expected})") from error
    return cell


def _kernel_sizes(value: int | Sequence[int] | None) -> list[int]:
    if value is None:
        return [3, 5]
    sizes = list(value) if isinstance(value, (list, tuple)) else [value] * 2
    if not 1 <= len(sizes) <= checks.MAX_BRANCHES:
        checks.fail(ValueError, _OP, "kernel_size", f"{len(sizes)} values", f"1..{checks.MAX_BRANCHES}, one a branch")
    for size in sizes:
        checks.integer(_OP, "kernel_size", size, 3)
        if size % 2 == 0:
            checks.fail(ValueError, _OP, "kernel_size", size, "an odd number")
    return sizes


def _make_divisible(value: float, divisor: int) -> int:
    """MindCV's rounding: to the nearest multiple, at least one, never down by more than a tenth."""
    rounded = max(divisor, int(value + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < 0.9 * value else rounded


def _settings(cell: nn.Cell) -> dict:
    """All that ``construct`` reads, gathered from MindCV's cells or our own.

    Raises:
        UnsupportedCellError: The reason why the ops cannot stand in for the cell.
    """
    branches = [list(path.features) for path in cell.paths]
    if not 1 <= len(branches) <= checks.MAX_BRANCHES:
        raise UnsupportedCellError(f"{len(branches)} branches, expected 1..{checks.MAX_BRANCHES}")
    convs, norms, relus = [], [], []
    for cells in branches:
        if len(cells) not in (2, 3):
            raise UnsupportedCellError(f"a branch of {len(cells)} cells, expected convolution, norm[, activation]")
        convs.append(conv_settings(cells[0]))
        norms.append(norm_settings(cells[1]))
        relus.append(is_relu(cells[2] if len(cells) == 3 else None))
    stride, groups = _one("stride", [c.stride for c in convs]), _one("groups", [c.groups for c in convs])
    norm: NormSettings = _one("norm settings", norms)
    attn = cell.attn
    for name in ("fc_reduce", "fc_select"):
        if conv_settings(getattr(attn, name)) != ConvSettings(1, 0, 1, 1):
            raise UnsupportedCellError(f"attn.{name} with stride, padding or groups, expected a plain 1x1 convolution")
    attn_norm = norm_settings(attn.bn)
    if not is_relu(attn.act):
        raise UnsupportedCellError("attn.act None, expected nn.ReLU")
    return dict(
        conv_holders=tuple(cells[0] for cells in branches),
        norm_holders=tuple(cells[1] for cells in branches),
        stride=stride,
        padding=tuple(c.padding for c in convs),
        dilation=tuple(c.dilation for c in convs),
        groups=groups,
        relu=_one("activation", relus),
        eps=norm.eps,
        momentum=norm.momentum,
        attn_eps=attn_norm.eps,
        attn_momentum=attn_norm.momentum,
    )


def _one(what: str, values: list):
    if len(set(values)) != 1:
        raise UnsupportedCellError(f"{what} {values} of the branches, expected the same in all")
    return values[0]
