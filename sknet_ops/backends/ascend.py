# SPDX-License-Identifier: Apache-2.0
"""Ascend C kernels for Ascend 910B class NPUs, through a CANN vendor package that `make ascend` builds.

The ops are the kernel sequences of :mod:`sknet_ops.backends.ascend_ops`, each kernel an ``ops.Custom`` of its aclnn
function. Nothing of CANN is touched before the first call.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import mindspore as ms
from mindspore import Tensor, nn, ops

from sknet_ops import binary
from sknet_ops.backends import ascend_ops, ascend_sizes
from sknet_ops.backends.ascend_ops import Layer, LayerWeights, Norm
from sknet_ops.backends.ascend_sizes import ConvSizes

NAME = "ascend"
ABOUT = "Ascend C kernels for Ascend 910B class NPUs; selective_kernel only, float16 and float32"
VENDOR = Path("vendors") / "sknet_ops"
_TYPES = {"float16": ms.float16, "float32": ms.float32}


def opp_path() -> Path:
    """Where `make ascend` installs the vendor package."""
    return binary.PACKAGE_DIR / "lib" / "ascend"


def why_not() -> str | None:
    """None if it can run here, else the first thing that is missing."""
    target = ms.get_context("device_target")
    if target != "Ascend":
        return f"MindSpore's device_target is {target}, expected Ascend: call mindspore.set_device('Ascend') first"
    cann = os.environ.get("ASCEND_HOME_PATH") or os.environ.get("ASCEND_TOOLKIT_HOME")
    if not cann:
        return "no CANN toolkit: ASCEND_HOME_PATH is unset; source set_env.sh of CANN 8.2 or later"
    if not Path(cann).is_dir():
        return f"no CANN toolkit: ASCEND_HOME_PATH is {cann}, which is no folder"
    if not (opp_path() / VENDOR).is_dir():
        return f"the vendor package {opp_path() / VENDOR} is missing: build it with `make ascend`"
    try:
        ascend_sizes.cube_cores(soc_version())
    except ValueError as error:
        return str(error)
    return None


def soc_version() -> str:
    """Of the NPU; SKNET_OPS_SOC overrides what MindSpore says."""
    return os.environ.get("SKNET_OPS_SOC") or str(ms.hal.get_device_name(0))


def set_up_opp_path() -> None:
    """Puts the vendor package in front of ASCEND_CUSTOM_OPP_PATH, where CANN looks for operators."""
    path = str(opp_path() / VENDOR)
    paths = [p for p in os.environ.get("ASCEND_CUSTOM_OPP_PATH", "").split(os.pathsep) if p and p != path]
    os.environ["ASCEND_CUSTOM_OPP_PATH"] = os.pathsep.join([path, *paths])


class MindSporeDevice:
    """Runs kernels as MindSpore operators. Subclasses may run them elsewhere."""

    def __init__(self, soc: str) -> None:
        self.soc = soc

    def run(
        self, op: str, inputs: Mapping[str, Tensor | None], outputs: ascend_ops.Outputs, ints: Sequence[int],
        numbers: Sequence[float], dtype: str,
    ) -> list[Tensor]:  # fmt: skip
        custom = _custom(op, tuple(inputs), tuple(outputs.items()), tuple(ints), tuple(numbers))
        result = custom(*inputs.values())
        return list(result) if isinstance(result, tuple) else [result]

    def reshape(self, x: Tensor, shape: tuple[int, ...]) -> Tensor:
        return ops.reshape(x, shape)

    def transpose(self, x: Tensor, axes: tuple[int, ...]) -> Tensor:
        return ops.transpose(x, axes)

    def flip_taps(self, x: Tensor) -> Tensor:
        return ops.flip(x, (x.ndim - 2, x.ndim - 1))

    def concat(self, arrays: Sequence[Tensor]) -> Tensor:
        return ops.concat(tuple(arrays))

    def split(self, x: Tensor, sizes: Sequence[int]) -> list[Tensor]:
        return list(ops.split(x, list(sizes)))

    def cast(self, x: Tensor, dtype: str) -> Tensor:
        return ops.cast(x, _TYPES[dtype])

    def dtype(self, x: Tensor) -> str:
        return next(name for name, kind in _TYPES.items() if kind == x.dtype)


@cache
def _custom(op: str, inputs: tuple[str, ...], outputs: tuple, ints: tuple, numbers: tuple) -> ops.Custom:
    """One kernel with its attributes, made when it is first needed."""
    shapes = tuple(shape for _, (shape, _) in outputs)
    types = tuple(_TYPES[kind] for _, (_, kind) in outputs)
    info = ops.CustomRegOp(op).fusion_type("OPAQUE")
    for i, name in enumerate(inputs):
        info = info.input(i, name)
    for i, (name, _) in enumerate(outputs):
        info = info.output(i, name)
    info = info.attr("sizes", "required", "listInt").attr("numbers", "required", "listFloat")
    info = info.target("Ascend").get_op_info()
    name = "aclnn" + "".join(part.capitalize() for part in op.split("_"))
    one = len(shapes) == 1
    custom = ops.Custom(name, lambda *_: shapes[0] if one else shapes, lambda *_: types[0] if one else types,
                        func_type="aot", reg_info=info)  # fmt: skip
    custom.add_prim_attr("sizes", list(ints))
    custom.add_prim_attr("numbers", list(numbers))
    return custom


def primitive(op: str, attrs: Mapping[str, Any]) -> Callable:
    """The op for :mod:`sknet_ops.primitives`; PyNative mode.

    Raises:
        NotImplementedError: For an op that is not made of Ascend C kernels.
    """
    if op != "selective_kernel":
        raise NotImplementedError(
            f"backend ascend: {op} is not made of Ascend C kernels; selective_kernel is, use the layer or that op"
        )
    set_up_opp_path()
    return SelectiveKernelCell(MindSporeDevice(soc_version()), dict(attrs))


class SelectiveKernelCell(nn.Cell):
    """selective_kernel as a sequence of kernels; inputs and outputs as in sknet_ops.primitives.selective_kernel.

    Only y passes a gradient back. Moving statistics are assigned in place in training.
    """

    def __init__(self, device: ascend_ops.Device, attrs: dict[str, Any]) -> None:
        super().__init__(auto_prefix=False)
        self.device = device
        self.attrs = attrs
        self.branches = len(attrs["dilation"])

    def layer(self, x: Tensor, weights: Sequence[Tensor]) -> Layer:
        a = self.attrs
        if x.dtype not in _TYPES.values():
            raise TypeError(f"selective_kernel: x: got dtype {x.dtype}, expected float16 or float32")
        kernel = tuple(w.shape[2] for w in weights)
        size = ConvSizes(*x.shape, weights[0].shape[0], a["groups"], a["stride"], a["split_input"], kernel,
                         tuple(a["padding"]), tuple(a["dilation"]))  # fmt: skip
        norm = Norm(a["eps"], a["momentum"], a["training"], a["relu"])
        return Layer(size, norm, Norm(a["attn_eps"], a["attn_momentum"], a["training"]))

    def unpack(self, inputs: Sequence[Tensor]) -> tuple[Tensor, LayerWeights]:
        m = self.branches
        lists = [list(inputs[1 + i * m : 1 + (i + 1) * m]) for i in range(5)]
        fc_reduce, gamma, beta, mean, variance, fc_select = inputs[1 + 5 * m :]
        rows = [ops.reshape(w, w.shape[:2]) for w in (fc_reduce, fc_select)]
        return inputs[0], LayerWeights(*lists, rows[0], gamma, beta, mean, variance, rows[1])

    def construct(self, *inputs):
        x, w = self.unpack(inputs)
        out = self.layer(x, w.weight).forward(self.device, x, w)
        if not self.attrs["training"]:
            return out["y"], out["attention"]
        names = ("moving_mean", "moving_variance")
        for moving, new in zip((w.moving_mean, w.moving_variance), (out[n] for n in names), strict=True):
            for parameter, value in zip(moving, ascend_ops.unstack(self.device, new), strict=True):
                ops.assign(parameter, value)
        ops.assign(w.attn_moving_mean, out["attn_moving_mean"])
        ops.assign(w.attn_moving_variance, out["attn_moving_variance"])
        saved = ("y", "attention", "z", "mean", "inv_std", "pooled", "hidden", "attn_mean", "attn_inv_std")
        return tuple(out[name] for name in saved)

    def bprop(self, *args):
        *inputs, out, dout = args
        x, w = self.unpack(inputs)
        z = out[2] if self.attrs["training"] else None
        g = self.layer(x, w.weight).backward(self.device, dout[0], x, w, z)
        zeros = [ops.zeros_like(v) for v in (*w.moving_mean, *w.moving_variance)]
        weights = [ops.cast(d, v.dtype) for d, v in zip(g["dweight"], w.weight, strict=True)]
        m = self.branches
        dense = [ops.reshape(g["dfc_reduce"], inputs[1 + 5 * m].shape), ops.reshape(g["dfc_select"], inputs[-1].shape)]
        attn = (g["dattn_gamma"], g["dattn_beta"], ops.zeros_like(w.attn_moving_mean),
                ops.zeros_like(w.attn_moving_variance))  # fmt: skip
        return (g["dx"], *weights, *g["dgamma"], *g["dbeta"], *zeros, dense[0], *attn, dense[1])
