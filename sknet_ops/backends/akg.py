# SPDX-License-Identifier: Apache-2.0
"""Kernels in AKG's hybrid DSL (csrc/akg/kernels.py), compiled by MindSpore's own AKG when they are first called.

Normalise + ReLU + pool and the select pass are AKG's, forward and backward; convolutions, statistics and the
attention's dense layers are MindSpore's own, and so are conv_bn_act and max_pool. float32 only, compiled anew for each
shape.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import mindspore as ms
from mindspore import nn, ops

from sknet_ops import binary
from sknet_ops.backends import composed

NAME = "akg"
ABOUT = "normalise, pool and select in AKG's hybrid DSL, compiled for each shape; the rest is MindSpore's own"
_NEEDS = ("decorator", "sympy", "cloudpickle")


def why_not() -> str | None:
    """None if it can run here, else the reason."""
    target = ms.get_context("device_target")
    if target != "CPU":
        return f"MindSpore's device_target is {target}, expected CPU: the kernels have been run nowhere else"
    if importlib.util.find_spec("mindspore._akg") is None:
        return "this MindSpore has no AKG (mindspore._akg)"
    missing = [name for name in _NEEDS if importlib.util.find_spec(name) is None]
    if missing:
        return f"AKG needs the packages {', '.join(missing)}: pip install sknet-ops[akg]"
    return None if _path() else "csrc/akg/kernels.py was not installed with this package"


def _path() -> Path | None:
    installed = binary.PACKAGE_DIR / "lib" / "akg" / "kernels.py"
    checkout = binary.PACKAGE_DIR.parent / "csrc" / "akg" / "kernels.py"
    return next((path for path in (installed, checkout) if path.is_file()), None)


@cache
def _kernels() -> ModuleType:
    reason = why_not()
    if reason is not None:
        raise RuntimeError(f"backend akg cannot run here: {reason}")
    spec = importlib.util.spec_from_file_location("sknet_ops_akg_kernels", _path())
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _first_dtype(*dtypes):
    return dtypes[0]


# With shapes given, MindSpore need not run the kernel in Python to learn them.
def _custom(name: str, out_shape, bprop=None) -> ops.Custom:
    return ops.Custom(getattr(_kernels(), name), out_shape, _first_dtype, func_type="hybrid", bprop=bprop)


def _sums(*shapes):
    return max(shapes, key=len)[:3]


# ---- the passes: primitives with gradients, for both modes ----


@cache
def select() -> ops.Custom:
    """Inputs: u (n, m, c, p), attention (n, m, c). Output: y (n, c, p)."""
    grad_u = _custom("select_grad_u", lambda dy, a: (dy[0], a[1], dy[1], dy[2]))
    grad_a = _custom("select_grad_a", lambda dy, u: u[:3])

    def bprop(u, a, out, dout):
        return grad_u(dout, a), grad_a(dout, u)

    return _custom("select", lambda u, a: (u[0], u[2], u[3]), bprop=bprop)


@cache
def pool() -> ops.Custom:
    """Input: u (n, m, c, p). Output: sums (n, m, c) over p."""
    grad = _custom("pool_grad", lambda ds, u: u)

    def bprop(u, out, dout):
        return (grad(dout, u),)

    return _custom("pool", _sums, bprop=bprop)


@cache
def _norm_grad(training: bool) -> Callable:
    """dz, dgamma, dbeta from dv, the gradient of the normalised map."""
    sums, products = _custom("pool", _sums), _custom("norm_grad_gamma", _sums)
    grad_z = _custom("norm_grad_z", lambda dv, z, m, i, g, b, d: z)

    def grad(dv, z, mean, inv_std, gamma):
        dbeta, dgamma = sums(dv).sum(0), products(dv, z, mean, inv_std).sum(0)
        share = 1.0 / (z.shape[0] * z.shape[3]) if training else 0.0
        return grad_z(dv, z, mean, inv_std, gamma, dbeta * share, dgamma * share), dgamma, dbeta

    return grad


@cache
def norm_act(training: bool) -> ops.Custom:
    """Inputs: z (n, m, c, p); mean, inv_std, gamma, beta (m, c). Output: u like z, normalised and rectified.

    Gradients flow to z, gamma and beta. In training mean and inv_std have to be those of z (the biased variance), and
    the gradient of z accounts for that; they themselves get none. So it is in the two below.
    """
    grad_v, grad = _custom("norm_act_grad_v", lambda du, z, m, i, g, b: z), _norm_grad(training)

    def bprop(z, mean, inv_std, gamma, beta, out, dout):
        dz, dgamma, dbeta = grad(grad_v(dout, z, mean, inv_std, gamma, beta), z, mean, inv_std, gamma)
        return dz, ops.zeros_like(mean), ops.zeros_like(inv_std), dgamma, dbeta

    return _custom("norm_act", lambda z, m, i, g, b: z, bprop=bprop)


@cache
def norm_act_pool(training: bool) -> ops.Custom:
    """Inputs as of :func:`norm_act`. Output: the sums (n, m, c) of u over p; u is not stored."""
    grad_v, grad = _custom("norm_act_pool_grad_v", lambda ds, z, m, i, g, b: z), _norm_grad(training)

    def bprop(z, mean, inv_std, gamma, beta, out, dout):
        dz, dgamma, dbeta = grad(grad_v(dout, z, mean, inv_std, gamma, beta), z, mean, inv_std, gamma)
        return dz, ops.zeros_like(mean), ops.zeros_like(inv_std), dgamma, dbeta

    return _custom("norm_act_pool", lambda z, m, i, g, b: z[:3], bprop=bprop)


@cache
def norm_act_select(training: bool) -> ops.Custom:
    """Inputs: those of :func:`norm_act`, attention (n, m, c). Output: y (n, c, p); u is not stored."""
    grad_v = _custom("norm_act_select_grad_v", lambda dy, a, z, m, i, g, b: z)
    grad_a = _custom("norm_act_select_grad_a", lambda dy, z, m, i, g, b: z[:3])
    grad = _norm_grad(training)

    def bprop(z, mean, inv_std, gamma, beta, a, out, dout):
        dz, dgamma, dbeta = grad(grad_v(dout, a, z, mean, inv_std, gamma, beta), z, mean, inv_std, gamma)
        da = grad_a(dout, z, mean, inv_std, gamma, beta)
        return dz, ops.zeros_like(mean), ops.zeros_like(inv_std), dgamma, dbeta, da

    return _custom("norm_act_select", lambda z, m, i, g, b, a: (z[0], z[2], z[3]), bprop=bprop)


# ---- the ops: inputs as in sknet_ops.primitives; outputs beside the first are left out where only gradients need them


def _moved(moving, batch, momentum):
    return moving * (1 - momentum) + batch * momentum


class _Unit:
    """What the ops below are made of. The attributes are constants to graph mode."""

    def __init__(self, attrs: Mapping[str, Any]) -> None:
        super().__init__()
        for name, value in attrs.items():
            setattr(self, f"attr_{name}", value)
        self.branches = len(attrs.get("dilation", ()))
        self.average = ops.ReduceMean()

    def convolved(self, inputs):
        """z (n, m, c, h, w)"""
        x, width = inputs[0], inputs[0].shape[1] // self.branches
        maps = []
        for i in range(self.branches):
            part = x[:, i * width : (i + 1) * width] if self.attr_split_input else x
            maps.append(ops.conv2d(part, inputs[1 + i], None, self.attr_stride, "pad", self.attr_padding[i],
                                   self.attr_dilation[i], self.attr_groups))  # fmt: skip
        return ops.stack(maps, 1)

    def stacked(self, inputs, which):
        first = 1 + which * self.branches
        return ops.stack(inputs[first : first + self.branches], 0)

    def normaliser(self, z, inputs):
        """mean, inv_std, gamma, beta (m, c) for z (n, m, c, p); in training the moving statistics follow."""
        gamma, beta = self.stacked(inputs, 1), self.stacked(inputs, 2)
        if not self.attr_training:
            return self.stacked(inputs, 3), ops.rsqrt(self.stacked(inputs, 4) + self.attr_eps), gamma, beta
        fixed = ops.stop_gradient(z)
        mean = self.average(fixed, (0, 3))
        variance = self.average(ops.square(fixed - mean.reshape((1,) + mean.shape + (1,))), (0, 3))
        count = z.shape[0] * z.shape[3]
        unbiased = variance * (count / max(count - 1, 1))
        for i in range(self.branches):
            moving_mean, moving_variance = inputs[1 + 3 * self.branches + i], inputs[1 + 4 * self.branches + i]
            ops.assign(moving_mean, _moved(moving_mean, mean[i], self.attr_momentum))
            ops.assign(moving_variance, _moved(moving_variance, unbiased[i], self.attr_momentum))
        return mean, ops.rsqrt(variance + self.attr_eps), gamma, beta

    def attend(self, sums, positions, weights, eps, momentum):
        """attention (n, m, c) from the pooled sums (n, m, c)."""
        fc_reduce, gamma, beta, moving_mean, moving_variance, fc_select = weights
        n, m, c = sums.shape
        hidden = ops.matmul(sums.sum(1) / positions, fc_reduce.reshape((-1, c)).T)
        if self.attr_training:
            mean = hidden.mean(0)
            variance = ops.square(hidden - mean).mean(0)
            unbiased = ops.stop_gradient(variance) * (n / max(n - 1, 1))
            ops.assign(moving_mean, _moved(moving_mean, ops.stop_gradient(mean), momentum))
            ops.assign(moving_variance, _moved(moving_variance, unbiased, momentum))
        else:
            mean, variance = moving_mean, moving_variance
        activated = ops.relu((hidden - mean) * ops.rsqrt(variance + eps) * gamma + beta)
        logits = ops.matmul(activated, fc_select.reshape((m * c, -1)).T)
        if m == 1:  # MindSpore 2.10's gradient of that makes those of all later softmaxes wrong
            return ops.ones_like(logits).reshape((n, m, c))
        return ops.softmax(logits.reshape((n, m, c)), 1)


def _flat(maps):
    return maps.reshape(maps.shape[:3] + (-1,))


def _nothing(maps):
    """Zeros (n, m, c), or NaN where an element is not a number: the kernels' sums leave such elements out."""
    return ops.stop_gradient(maps * 0).sum(3)


class _SkConv(_Unit):
    def __init__(self, attrs: Mapping[str, Any]) -> None:
        super().__init__(attrs)
        self.norm_act = norm_act(attrs["training"])

    def forward(self, inputs):
        z = self.convolved(inputs)
        return (self.norm_act(_flat(z), *self.normaliser(_flat(z), inputs)).reshape(z.shape),)


class _SkAttention(_Unit):
    def __init__(self, attrs: Mapping[str, Any]) -> None:
        super().__init__(attrs)
        self.pool = pool()

    def forward(self, inputs):
        u = _flat(inputs[0])
        sums = self.pool(u) + _nothing(u)
        return (self.attend(sums, u.shape[3], inputs[1:], self.attr_eps, self.attr_momentum),)


class _SkSelect(_Unit):
    def __init__(self, attrs: Mapping[str, Any]) -> None:
        super().__init__(attrs)
        self.select = select()

    def forward(self, inputs):
        n, _, c, h, w = inputs[0].shape
        return (self.select(_flat(inputs[0]), inputs[1]).reshape((n, c, h, w)),)


class _SelectiveKernel(_Unit):
    def __init__(self, attrs: Mapping[str, Any]) -> None:
        super().__init__(attrs)
        self.norm_act_pool, self.norm_act_select = norm_act_pool(attrs["training"]), norm_act_select(attrs["training"])

    def forward(self, inputs):
        z = self.convolved(inputs)
        n, _, c, h, w = z.shape
        flat, nothing = _flat(z), _nothing(_flat(z))
        norm = self.normaliser(flat, inputs)
        sums = self.norm_act_pool(flat, *norm) + nothing
        weights = inputs[1 + 5 * self.branches :]
        attention = self.attend(sums, h * w, weights, self.attr_attn_eps, self.attr_attn_momentum)
        y = self.norm_act_select(flat, *norm, attention) + nothing.sum(1).reshape((n, c, 1))
        return y.reshape((n, c, h, w)), attention


_OPS = {"sk_conv": _SkConv, "sk_attention": _SkAttention, "sk_select": _SkSelect, "selective_kernel": _SelectiveKernel}


@cache
def _primitive(op: str, attrs: tuple[tuple[str, Any], ...]) -> nn.Cell:
    values = dict(attrs)
    if op in composed.MINDSPORES:
        return composed.MINDSPORES[op](**values)
    if not values.get("relu", True):
        raise NotImplementedError(f"backend akg: {op} without ReLU has no AKG kernel")
    cell = composed.with_inputs(composed.input_count(op, values), own_gradient=False)
    return type(f"Akg{cell.__name__}", (_OPS[op], cell), {})(values)


def primitive(op: str, attrs: Mapping[str, Any]) -> Callable:
    """The op for :mod:`sknet_ops.primitives`, in PyNative and in graph mode.

    Raises:
        NotImplementedError: For an op without ReLU, which the kernels have in them.
    """
    return _primitive(op, tuple(attrs.items()))
