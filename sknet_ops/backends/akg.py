# SPDX-License-Identifier: Apache-2.0
"""Kernels in AKG's hybrid DSL (csrc/akg/kernels.py), compiled by MindSpore's own AKG when they are first called.

Serves :func:`sk_select` as the op of that name, and :func:`norm_act` and :func:`pool`; the other ops have no AKG
kernels and are refused by name. float32 only, PyNative mode, compiled anew for each shape.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import mindspore as ms
from mindspore import ops

from sknet_ops import binary

NAME = "akg"
ABOUT = "kernels in AKG's hybrid DSL, compiled for each shape; of the ops, sk_select only"
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


def primitive(op: str, attrs: Mapping[str, Any]) -> Callable:
    """The op for :mod:`sknet_ops.primitives`; PyNative mode only.

    Raises:
        NotImplementedError: For an op that has no AKG kernel.
    """
    if op != "sk_select":
        raise NotImplementedError(f"backend akg: {op} has no AKG kernel; sk_select has, and akg.norm_act and akg.pool")
    return _sk_select


def _sk_select(u: ms.Tensor, attention: ms.Tensor) -> tuple[ms.Tensor]:
    n, m, c, h, w = u.shape
    return (ops.reshape(select()(ops.reshape(u, (n, m, c, h * w)), attention), (n, c, h, w)),)


@cache
def select() -> ops.Custom:
    """Inputs: u (n, m, c, p), attention (n, m, c). Output: y (n, c, p)."""
    grad_u = _custom("select_grad_u", lambda dy, a: (dy[0], a[1], dy[1], dy[2]))
    grad_a = _custom("select_grad_a", lambda dy, u: u[:3])

    def bprop(u, a, out, dout):
        return grad_u(dout, a), grad_a(dout, u)

    return _custom("select", lambda u, a: (u[0], u[2], u[3]), bprop=bprop)


@cache
def norm_act(training: bool) -> ops.Custom:
    """Inputs: z (n, m, c, p); mean, inv_std, gamma, beta (m, c). Output: u like z, normalised and rectified.

    Gradients flow to z, gamma and beta. In training mean and inv_std have to be those of z (the biased variance), and
    the gradient of z accounts for that; they themselves get none.
    """
    grad_v = _custom("norm_act_grad_v", lambda du, u: u)
    sums = _custom("select_grad_a", lambda dy, u: u[:3])
    grad_products = _custom("norm_act_grad_products", lambda dv, z, m, i: z)
    grad_z = _custom("norm_act_grad_z", lambda dv, z, m, i, g, b, d: z)

    def bprop(z, mean, inv_std, gamma, beta, out, dout):
        dv = grad_v(dout, out)
        ones = ops.ones((z.shape[0], z.shape[2], z.shape[3]), z.dtype)
        dbeta = sums(ones, dv).sum(0)
        dgamma = sums(ones, grad_products(dv, z, mean, inv_std)).sum(0)
        share = 1.0 / (z.shape[0] * z.shape[3]) if training else 0.0
        dz = grad_z(dv, z, mean, inv_std, gamma, dbeta * share, dgamma * share)
        return dz, ops.zeros_like(mean), ops.zeros_like(inv_std), dgamma, dbeta

    return _custom("norm_act", lambda z, m, i, g, b: z, bprop=bprop)


@cache
def _pool_positions() -> ops.Custom:
    grad = _custom("pool_grad", lambda ds, u: u)

    def bprop(ones, u, out, dout):
        return ops.zeros_like(ones), grad(dout, u)

    return _custom("select_grad_a", lambda dy, u: u[:3], bprop=bprop)


def pool(u: ms.Tensor) -> ms.Tensor:
    """Sums (n, c) over m and p of u (n, m, c, p)."""
    n, _, c, p = u.shape
    return _pool_positions()(ops.ones((n, c, p), u.dtype), u).sum(1)
