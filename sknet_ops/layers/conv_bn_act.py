# SPDX-License-Identifier: Apache-2.0
"""Convolution, batch norm, residual and ReLU as one cell."""

from __future__ import annotations

from mindspore import Tensor, nn, ops

from sknet_ops import checks, functional
from sknet_ops.layers.holders import (
    UnsupportedCellError,
    conv_settings,
    describe,
    is_relu,
    may_freeze,
    norm_settings,
    uses_batch_statistics,
)
from sknet_ops.layers.phase import PhaseOnChange


class ConvBnAct(PhaseOnChange, nn.Cell):
    """``activation(norm(conv(x)) + residual)`` in one op.

    The two cells hold the parameters and the settings; the children are named "0" and "1", so parameter names are those
    of ``nn.SequentialCell([conv, norm])``. Whether the norm takes statistics from the batch is asked at every call, of
    the norm itself: ``norm.set_train(False)`` freezes it.

    Args:
        conv: nn.Conv2d without bias, with a square kernel and the same padding on all sides.
        norm: nn.BatchNorm2d over the convolution's output channels.
        activation: None or the class nn.ReLU.

    Inputs:
        x: (n, c_in, h, w), float32.
        residual: (n, c_out, h_out, w_out), float32, or None.

    Outputs:
        (n, c_out, h_out, w_out), float32.

    Raises:
        TypeError: `conv`, `norm` or `activation` is of another type.
        ValueError: A setting of theirs that the op does not have; the message names it.
    """

    def __init__(self, conv: nn.Conv2d, norm: nn.BatchNorm2d, activation: type[nn.ReLU] | None = None) -> None:
        super().__init__()
        op = "ConvBnAct"
        if not isinstance(conv, nn.Conv2d):
            checks.fail(TypeError, op, "conv", describe(conv), "nn.Conv2d")
        if not isinstance(norm, nn.BatchNorm2d):
            checks.fail(TypeError, op, "norm", describe(norm), "nn.BatchNorm2d")
        if activation is not None and not (isinstance(activation, type) and issubclass(activation, nn.ReLU)):
            checks.fail(TypeError, op, "activation", describe(activation), "None or the class nn.ReLU")
        try:
            self._bind(conv, norm, activation and activation())
        except UnsupportedCellError as error:
            raise ValueError(f"{op}: {error}") from error
        for name, cell in (("0", conv), ("1", norm)):
            self.insert_child_to_cell(name, cell)
            cell.update_parameters_name(f"{name}.")

    @classmethod
    def over(cls, conv: nn.Conv2d, norm: nn.BatchNorm2d, activation: nn.ReLU | None = None) -> ConvBnAct:
        """The same over cells that stay children of another cell: no parameter is renamed or owned twice.

        Raises:
            UnsupportedCellError: A cell that the op cannot stand in for.
        """
        cell = cls.__new__(cls)
        nn.Cell.__init__(cell)
        cell._bind(conv, norm, activation)
        return cell

    map_dtype = None  # see set_map_dtype

    def _bind(self, conv: nn.Conv2d, norm: nn.BatchNorm2d, activation: nn.ReLU | None) -> None:
        settings = conv_settings(conv)
        self.stride, self.padding, self.dilation, self.groups = settings
        self.eps, self.momentum = norm_settings(norm)
        self.relu = is_relu(activation)
        if norm.num_features != conv.out_channels:
            raise UnsupportedCellError(
                f"norm over {norm.num_features} channels, expected the {conv.out_channels} of the convolution"
            )
        # Past Cell.__setattr__, which would make them children.
        object.__setattr__(self, "conv_holder", conv)
        may_freeze(conv)
        object.__setattr__(self, "norm_holder", norm)

    def construct(self, x: Tensor, residual: Tensor | None = None) -> Tensor:
        return self.run(x, residual, self.relu)

    def run(self, x: Tensor, residual: Tensor | None, relu: bool) -> Tensor:
        """The op on the held parameters, with or without ReLU."""
        norm = self.norm_holder
        weight = self.conv_holder.weight
        if self.map_dtype is not None:
            x, weight = ops.cast(x, self.map_dtype), ops.cast(weight, self.map_dtype)
            if residual is not None:
                residual = ops.cast(residual, self.map_dtype)
        return functional.conv_bn_act(
            x,
            weight,
            norm.gamma,
            norm.beta,
            norm.moving_mean,
            norm.moving_variance,
            residual,
            stride=self.stride,
            padding=self.padding,
            dilation=self.dilation,
            groups=self.groups,
            relu=relu,
            training=uses_batch_statistics(norm),
            eps=self.eps,
            momentum=self.momentum,
            frozen=self.conv_holder.weights_frozen,
        )


class ConvBnActOp(nn.Cell):
    """:func:`sknet_ops.functional.conv_bn_act` as a cell without parameters, for networks that hold them elsewhere.

    In training (``set_train``) it takes the batch's statistics and updates the moving ones in place.

    Args:
        stride, padding, dilation, groups: Of the convolution; ``padding=None`` is MindCV's rule.
        eps: Of the norm.
        momentum: Weight of the new batch in the moving statistics.
        relu: Whether a ReLU follows.

    Inputs:
        x, weight, gamma, beta, moving_mean, moving_variance, residual: As in the function.

    Outputs:
        (n, c_out, h_out, w_out), float32.

    Raises:
        TypeError, ValueError: As the function, for attributes when made, for tensors when called.
    """

    def __init__(
        self,
        stride: int = 1,
        padding: int | None = None,
        dilation: int = 1,
        groups: int = 1,
        eps: float = 1e-5,
        momentum: float = 0.1,
        relu: bool = True,
    ) -> None:
        super().__init__()
        op = "ConvBnActOp"
        checks.integer(op, "stride", stride, 1)
        if padding is not None:
            checks.integer(op, "padding", padding, 0)
        checks.integer(op, "dilation", dilation, 1)
        checks.integer(op, "groups", groups, 1)
        checks.norm_attributes(op, eps, momentum)
        checks.boolean(op, "relu", relu)
        self.stride, self.padding, self.dilation, self.groups = stride, padding, dilation, groups
        self.eps, self.momentum = eps, momentum
        self.relu = relu

    def construct(
        self,
        x: Tensor,
        weight: Tensor,
        gamma: Tensor,
        beta: Tensor,
        moving_mean: Tensor,
        moving_variance: Tensor,
        residual: Tensor | None = None,
    ) -> Tensor:
        return functional.conv_bn_act(
            x,
            weight,
            gamma,
            beta,
            moving_mean,
            moving_variance,
            residual,
            stride=self.stride,
            padding=self.padding,
            dilation=self.dilation,
            groups=self.groups,
            relu=self.relu,
            training=self.training,
            eps=self.eps,
            momentum=self.momentum,
        )
