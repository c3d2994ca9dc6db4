# SPDX-License-Identifier: Apache-2.0
"""The ops as functions: checked arguments in, tensors out.

They run in PyNative and in graph mode, with gradients of every input but the moving statistics, and with dynamic
shapes. In graph mode the attributes (everything after ``*``) have to be constants.

Conventions of all of them:

- Tensors are float32 and of layout NCHW. M is the number of branches, 1 to 4. Backend ``ascend`` also takes float16
  for x, u, residual and convolution weights, and returns maps (all results but the attention) of the type of x or u.
- ``training=True`` normalises by the statistics of the batch and updates ``moving_mean`` and ``moving_variance`` **in
  place** (pass Parameters): ``moving <- (1 - momentum) * moving + momentum * batch``, the batch variance unbiased, as
  MindSpore does. An empty batch leaves them as they are. ``training=False`` normalises by the moving statistics.
- ``momentum`` is the weight of the new batch: MindSpore's ``nn.BatchNorm2d(momentum=0.9)`` has 0.1 here.
- A wrong argument raises, before native code runs, a TypeError or ValueError that names the op, the argument, what came
  and what was expected.
- ``BinaryMissingError`` (an ImportError) if the native library has not been built, ``BackendUnavailableError`` if the
  chosen backend cannot run here.

Source: Selective Kernel Networks, arXiv 1903.06586, section 3.1; the variant with split input and 3x3 kernels is timm's
and MindCV's.
"""

from __future__ import annotations

from collections.abc import Sequence

import mindspore as ms
from mindspore import Tensor, ops
from mindspore.ops import constexpr

from sknet_ops import backends, checks, primitives
from sknet_ops.checks import Spec, dim, fail, tensor

__all__ = ["conv_bn_act", "max_pool", "selective_kernel", "sk_attention", "sk_conv", "sk_select"]

_X = "(n, c_in, h, w)"
_U = "(n, branches, c, h, w)"
_MAPS = "(n, c, h, w)"


def conv_bn_act(
    x: Tensor,
    weight: Tensor,
    gamma: Tensor,
    beta: Tensor,
    moving_mean: Tensor,
    moving_variance: Tensor,
    residual: Tensor | None = None,
    *,
    stride: int = 1,
    padding: int | None = None,
    dilation: int = 1,
    groups: int = 1,
    relu: bool = True,
    training: bool = False,
    eps: float = 1e-5,
    momentum: float = 0.1,
    frozen: bool = False,
) -> Tensor:
    """Convolution, batch norm, optional residual, optional ReLU: ``relu(norm(conv(x)) + residual)``.

    Args:
        x: (n, c_in, h, w).
        weight: (c_out, c_in / groups, k, k).
        gamma, beta, moving_mean, moving_variance: (c_out,).
        residual: (n, c_out, h_out, w_out) or None.
        stride, padding, dilation, groups: Of the convolution, the same in both directions. ``padding=None`` is MindCV's
            ``((stride - 1) + dilation * (k - 1)) // 2``.
        relu: False leaves the ReLU out.
        training, eps, momentum: Of the norm, see the module.
        frozen: The weight does not change any more: outside of training its packed form is kept between calls, see
            :func:`sknet_ops.freeze`.

    Returns:
        (n, c_out, h_out, w_out), h_out = (h + 2 padding - dilation (k - 1) - 1) // stride + 1.

    Raises:
        TypeError: An argument of a wrong type, a tensor that is not float32.
        ValueError: A shape or an attribute that does not fit.
    """
    name = "conv_bn_act"
    specs = (
        _spec(name, "x", x),
        _spec(name, "weight", weight),
        _spec(name, "gamma", gamma),
        _spec(name, "beta", beta),
        _spec(name, "moving_mean", moving_mean),
        _spec(name, "moving_variance", moving_variance),
    )
    inputs = (x, weight, gamma, beta, moving_mean, moving_variance)
    if residual is not None:
        specs = specs + (_spec(name, "residual", residual),)
        inputs = inputs + (residual,)
    op = _conv_bn_act_op(specs, stride, padding, dilation, groups, relu, training, eps, momentum, frozen)
    return op(*inputs)[0]


def sk_conv(
    x: Tensor,
    weights: Sequence[Tensor],
    gammas: Sequence[Tensor],
    betas: Sequence[Tensor],
    moving_means: Sequence[Tensor],
    moving_variances: Sequence[Tensor],
    *,
    stride: int = 1,
    padding: int | Sequence[int] | None = None,
    dilation: int | Sequence[int] = 1,
    groups: int = 1,
    split_input: bool = False,
    relu: bool = True,
    training: bool = False,
    eps: float = 1e-5,
    momentum: float = 0.1,
) -> Tensor:
    """The split: M branches of convolution, batch norm and ReLU over one input.

    Args:
        x: (n, c_in, h, w).
        weights: M of (c_out, b / groups, k_m, k_m); b = c_in / M if `split_input`, else c_in.
        gammas, betas, moving_means, moving_variances: M of (c_out,) each.
        stride, groups: Of every branch.
        padding, dilation: An int for all branches or a list of M. ``padding=None`` is MindCV's rule, see
            :func:`conv_bn_act`. All branches must have the same output size.
        split_input: Branch m reads channels [m c_in / M, (m + 1) c_in / M) instead of all.
        relu: False leaves the ReLU out.
        training, eps, momentum: Of the norms, see the module.

    Returns:
        u: (n, M, c_out, h_out, w_out).

    Raises:
        TypeError: An argument of a wrong type, a tensor that is not float32.
        ValueError: A shape or an attribute that does not fit.
    """
    specs = _branch_specs("sk_conv", x, weights, gammas, betas, moving_means, moving_variances)
    op = _sk_conv_op(specs, stride, padding, dilation, groups, split_input, relu, training, eps, momentum)
    return op(x, *weights, *gammas, *betas, *moving_means, *moving_variances)[0]


def sk_attention(
    u: Tensor,
    fc_reduce: Tensor,
    gamma: Tensor,
    beta: Tensor,
    moving_mean: Tensor,
    moving_variance: Tensor,
    fc_select: Tensor,
    *,
    training: bool = False,
    eps: float = 1e-5,
    momentum: float = 0.1,
) -> Tensor:
    """The fuse: sum of branches, global average, dense, batch norm, ReLU, dense, softmax across branches.

    Args:
        u: (n, M, c, h, w).
        fc_reduce: (d, c) or (d, c, 1, 1).
        gamma, beta, moving_mean, moving_variance: (d,).
        fc_select: (M c, d) or (M c, d, 1, 1), branch-major.
        training, eps, momentum: Of the norm, see the module.

    Returns:
        attention: (n, M, c), a softmax over M.

    Raises:
        TypeError: An argument of a wrong type, a tensor that is not float32.
        ValueError: A shape or an attribute that does not fit.
    """
    specs = (
        _spec("sk_attention", "u", u),
        _spec("sk_attention", "fc_reduce", fc_reduce),
        _spec("sk_attention", "gamma", gamma),
        _spec("sk_attention", "beta", beta),
        _spec("sk_attention", "moving_mean", moving_mean),
        _spec("sk_attention", "moving_variance", moving_variance),
        _spec("sk_attention", "fc_select", fc_select),
    )
    op = _sk_attention_op(specs, training, eps, momentum)
    return op(u, fc_reduce, gamma, beta, moving_mean, moving_variance, fc_select)[0]


def sk_select(u: Tensor, attention: Tensor) -> Tensor:
    """The select: ``y[n, c] = sum over m of attention[n, m, c] * u[n, m, c]``.

    Args:
        u: (n, M, c, h, w).
        attention: (n, M, c).

    Returns:
        y: (n, c, h, w).

    Raises:
        TypeError: An argument of a wrong type, a tensor that is not float32.
        ValueError: Shapes that do not fit.
    """
    op = _sk_select_op(_spec("sk_select", "u", u), _spec("sk_select", "attention", attention))
    return op(u, attention)[0]


def max_pool(x: Tensor, *, kernel: int, stride: int = 1, padding: int = 0, same: bool = False) -> Tensor:
    """The largest value of each square window.

    Padding is smaller than any value. A window that holds a NaN gives NaN. The gradient of a window goes to the first
    of its largest values, row by row, as in MindSpore (to the last NaN, if it holds one).

    Args:
        x: (n, c, h, w).
        kernel, stride: Of the windows, the same in both directions.
        padding: On every side, at most half of `kernel`.
        same: Pad to an output of h / stride and w / stride, rounded up; of an odd number the larger part goes below and
            on the right. `padding` is 0 then.

    Returns:
        (n, c, h_out, w_out), h_out = (h + 2 padding - kernel) // stride + 1 without `same`.

    Raises:
        TypeError: An argument of a wrong type, a tensor that is not float32.
        ValueError: A shape or an attribute that does not fit.
    """
    return _max_pool_op(_spec("max_pool", "x", x), kernel, stride, padding, same)(x)[0]


def selective_kernel(
    x: Tensor,
    weights: Sequence[Tensor],
    gammas: Sequence[Tensor],
    betas: Sequence[Tensor],
    moving_means: Sequence[Tensor],
    moving_variances: Sequence[Tensor],
    fc_reduce: Tensor,
    attn_gamma: Tensor,
    attn_beta: Tensor,
    attn_moving_mean: Tensor,
    attn_moving_variance: Tensor,
    fc_select: Tensor,
    *,
    stride: int = 1,
    padding: int | Sequence[int] | None = None,
    dilation: int | Sequence[int] = 1,
    groups: int = 1,
    split_input: bool = False,
    relu: bool = True,
    training: bool = False,
    eps: float = 1e-5,
    momentum: float = 0.1,
    attn_eps: float = 1e-5,
    attn_momentum: float = 0.1,
    frozen: bool = False,
) -> Tensor:
    """The whole unit in one op: ``sk_select(u, sk_attention(u))`` of ``u = sk_conv(x)``.

    The activated branches are never stored. In training the raw convolution outputs, the statistics and the attention
    are kept for the backward pass, the rest is computed again; otherwise nothing is kept.

    Args:
        x, weights, gammas, betas, moving_means, moving_variances: As in :func:`sk_conv`, c_out channels out.
        fc_reduce, attn_gamma, attn_beta, attn_moving_mean, attn_moving_variance, fc_select: As in
            :func:`sk_attention`, with c = c_out.
        stride, padding, dilation, groups, split_input, relu: As in :func:`sk_conv`.
        training: Of all norms, see the module.
        eps, momentum: Of the branches' norms.
        attn_eps, attn_momentum: Of the attention's norm.
        frozen: As in :func:`conv_bn_act`, of the weights.

    Returns:
        y: (n, c_out, h_out, w_out).

    Raises:
        TypeError: An argument of a wrong type, a tensor that is not float32.
        ValueError: A shape or an attribute that does not fit.
    """
    name = "selective_kernel"
    specs = _branch_specs(name, x, weights, gammas, betas, moving_means, moving_variances)
    attn_specs = (
        _spec(name, "fc_reduce", fc_reduce),
        _spec(name, "attn_gamma", attn_gamma),
        _spec(name, "attn_beta", attn_beta),
        _spec(name, "attn_moving_mean", attn_moving_mean),
        _spec(name, "attn_moving_variance", attn_moving_variance),
        _spec(name, "fc_select", fc_select),
    )
    conv_attrs = (stride, padding, dilation, groups, split_input, relu)
    norm_attrs = (training, eps, momentum, attn_eps, attn_momentum)
    op = _selective_kernel_op(specs, attn_specs, conv_attrs, norm_attrs, frozen)
    attn = (fc_reduce, attn_gamma, attn_beta, attn_moving_mean, attn_moving_variance, fc_select)
    return op(x, *weights, *gammas, *betas, *moving_means, *moving_variances, *attn)[0]


# ---- what graph mode compiles: specs of the arguments ----


def _spec(op: str, arg: str, value: Tensor) -> Spec:
    if not isinstance(value, Tensor):
        _refuse(op, arg, type(value).__name__, "Tensor")
    return (value.shape, value.dtype)


def _specs(op: str, arg: str, values: Sequence[Tensor]) -> tuple[Spec, ...]:
    if not isinstance(values, (list, tuple)):
        _refuse(op, arg, type(values).__name__, "a list or tuple of Tensors, one a branch")
    result = ()
    for index, value in enumerate(values):
        result = result + (_spec(op, f"{arg}[{index}]", value),)
    return result


def _branch_specs(op, x, weights, gammas, betas, moving_means, moving_variances):
    return (
        _spec(op, "x", x),
        _specs(op, "weights", weights),
        _specs(op, "gammas", gammas),
        _specs(op, "betas", betas),
        _specs(op, "moving_means", moving_means),
        _specs(op, "moving_variances", moving_variances),
    )


# ---- what runs in Python in both modes: from specs and attributes to the primitive ----


@constexpr(check=False)
def _refuse(op: str, arg: str, got: str, expected: str) -> None:
    fail(TypeError, op, arg, got, expected)


@constexpr(check=False)
def _conv_bn_act_op(specs, stride, padding, dilation, groups, relu, training, eps, momentum, frozen) -> ops.Custom:
    op = "conv_bn_act"
    checks.boolean(op, "frozen", frozen)
    x, weight, *norm = specs[:6]
    _common_attributes(op, stride, groups, relu, training)
    checks.integer(op, "dilation", dilation, 1)
    checks.norm_attributes(op, eps, momentum)
    tensor(op, "x", x, 4, _X, empty_batch=True, dtypes=backends.map_dtypes())
    kernel = checks.conv_weight(op, "weight", weight, dim(x, 1), groups, backends.map_dtypes())
    if padding is None:
        padding = checks.mindcv_padding(_known_kernel(op, "weight", kernel), stride, dilation)
    checks.integer(op, "padding", padding, 0)
    c_out = dim(weight, 0)
    checks.channel_vectors(op, norm, c_out)
    height, width = checks.conv_output(op, x, kernel, stride, padding, dilation)
    if len(specs) == 7:
        expected = (dim(x, 0), c_out, height, width)
        checks.same_shape(op, "residual", specs[6], expected, "as the output", backends.map_dtypes())
    backends.active_backend()
    return primitives.conv_bn_act(
        training=training,
        residual=len(specs) == 7,
        relu=relu,
        stride=stride,
        padding=padding,
        dilation=dilation,
        groups=groups,
        eps=float(eps),
        momentum=float(momentum),
        frozen=frozen,
        dx_apart=_is_image(dim(weight, 1), groups),
    )


def _is_image(channels: int | None, groups: int) -> bool:
    """Whether x probably is one, whose gradient hardly anybody wants. PyNative computes all gradients in any case."""
    return channels is not None and channels * groups <= 4 and ms.get_context("mode") == ms.GRAPH_MODE


@constexpr(check=False)
def _sk_conv_op(specs, stride, padding, dilation, groups, split_input, relu, training, eps, momentum) -> ops.Custom:
    op = "sk_conv"
    padding, dilation = _branches(op, specs, (stride, padding, dilation, groups, split_input, relu), training)
    checks.norm_attributes(op, eps, momentum)
    backends.active_backend()
    return primitives.sk_conv(
        training=training,
        relu=relu,
        stride=stride,
        padding=padding,
        dilation=dilation,
        groups=groups,
        split_input=split_input,
        eps=float(eps),
        momentum=float(momentum),
    )


@constexpr(check=False)
def _sk_attention_op(specs, training, eps, momentum) -> ops.Custom:
    op = "sk_attention"
    checks.boolean(op, "training", training)
    checks.norm_attributes(op, eps, momentum)
    tensor(op, "u", specs[0], 5, _U, empty_batch=True, dtypes=backends.map_dtypes())
    checks.branch_count(op, "u", dim(specs[0], 1))
    _attention(op, specs[1:], dim(specs[0], 2), dim(specs[0], 1))
    backends.active_backend()
    return primitives.sk_attention(training=training, eps=float(eps), momentum=float(momentum))


@constexpr(check=False)
def _sk_select_op(u: Spec, attention: Spec) -> ops.Custom:
    op = "sk_select"
    tensor(op, "u", u, 5, _U, empty_batch=True, dtypes=backends.map_dtypes())
    checks.branch_count(op, "u", dim(u, 1))
    checks.same_shape(op, "attention", attention, (dim(u, 0), dim(u, 1), dim(u, 2)), "(n, branches, c) of u")
    backends.active_backend()
    return primitives.sk_select()


@constexpr(check=False)
def _max_pool_op(x: Spec, kernel: int, stride: int, padding: int, same: bool) -> ops.Custom:
    op = "max_pool"
    checks.pool_attributes(op, kernel, stride, padding, same)
    tensor(op, "x", x, 4, _MAPS, empty_batch=True, dtypes=backends.map_dtypes())
    if not same:
        checks.conv_output(op, x, kernel, stride, padding, 1)
    backends.active_backend()
    return primitives.max_pool(kernel=kernel, stride=stride, padding=padding, same=same)


@constexpr(check=False)
def _selective_kernel_op(specs, attn_specs, conv_attrs, norm_attrs, frozen) -> ops.Custom:
    op = "selective_kernel"
    checks.boolean(op, "frozen", frozen)
    training, eps, momentum, attn_eps, attn_momentum = norm_attrs
    padding, dilation = _branches(op, specs, conv_attrs, training)
    checks.norm_attributes(op, eps, momentum)
    checks.norm_attributes(op, attn_eps, attn_momentum, "attn_")
    _attention(op, attn_specs, dim(specs[1][0], 0), len(specs[1]), "attn_")
    stride, _, _, groups, split_input, relu = conv_attrs
    backends.active_backend()
    return primitives.selective_kernel(
        training=training,
        relu=relu,
        stride=stride,
        padding=padding,
        dilation=dilation,
        groups=groups,
        split_input=split_input,
        eps=float(eps),
        momentum=float(momentum),
        attn_eps=float(attn_eps),
        attn_momentum=float(attn_momentum),
        frozen=frozen,
    )


def _common_attributes(op: str, stride: int, groups: int, relu: bool, training: bool) -> None:
    checks.integer(op, "stride", stride, 1)
    checks.integer(op, "groups", groups, 1, 2**31 - 1)
    checks.boolean(op, "relu", relu)
    checks.boolean(op, "training", training)


def _known_kernel(op: str, arg: str, kernel: int | None) -> int:
    if kernel is None:
        fail(ValueError, op, "padding", "None", f"an int, as the kernel size of {arg} is not known when compiling")
    return kernel


def _branches(op: str, specs: tuple, attrs: tuple, training: bool) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Checks the arguments that sk_conv and selective_kernel share; returns padding and dilation of every branch."""
    stride, padding, dilation, groups, split_input, relu = attrs
    x, weights, *norms = specs
    _common_attributes(op, stride, groups, relu, training)
    checks.boolean(op, "split_input", split_input)
    names = ("weights", "gammas", "betas", "moving_means", "moving_variances")
    branches = checks.branch_lists(op, dict(zip(names, specs[1:], strict=True)))
    dilation = checks.per_branch(op, "dilation", dilation, branches, 1)

    tensor(op, "x", x, 4, _X, empty_batch=True, dtypes=backends.map_dtypes())
    c_in = dim(x, 1)
    if split_input and c_in is not None:
        if c_in % branches:
            expected = f"a multiple of {branches}, as split_input shares them among the branches"
            fail(ValueError, op, "x", f"{c_in} channels", expected)
        c_in //= branches
    kernels = [
        checks.conv_weight(op, f"weights[{m}]", weight, c_in, groups, backends.map_dtypes())
        for m, weight in enumerate(weights)
    ]
    if padding is None:
        padding = tuple(
            checks.mindcv_padding(_known_kernel(op, f"weights[{m}]", kernels[m]), stride, dilation[m])
            for m in range(branches)
        )
    padding = checks.per_branch(op, "padding", padding, branches, 0)
    c_out = dim(weights[0], 0)
    first = None
    for m in range(branches):
        if not checks.same(dim(weights[m], 0), c_out):
            got = f"{dim(weights[m], 0)} output channels"
            fail(ValueError, op, f"weights[{m}]", got, f"{c_out} as in branch 0")
        size = checks.conv_output(op, x, kernels[m], stride, padding[m], dilation[m])
        first = first or size
        if not all(map(checks.same, size, first)):
            got, expected = f"branch output {size[0]} x {size[1]}", f"{first[0]} x {first[1]} as in branch 0"
            fail(ValueError, op, f"padding[{m}]", got, expected)
        checks.channel_vectors(op, [norm[m] for norm in norms], c_out, suffix=f"s[{m}]")
    return padding, dilation


def _attention(op: str, specs: tuple, channels: int | None, branches: int | None, norm_prefix: str = "") -> None:
    """Checks fc_reduce, the norm's four and fc_select."""
    fc_reduce, *norm, fc_select = specs
    checks.dense_weight(op, "fc_reduce", fc_reduce, None, channels, "c_reduced")
    reduced = dim(fc_reduce, 0)
    checks.channel_vectors(op, norm, reduced, norm_prefix)
    rows = None if channels is None or branches is None else channels * branches
    checks.dense_weight(op, "fc_select", fc_select, rows, reduced, "branches * c")
