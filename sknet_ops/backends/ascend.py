# SPDX-License-Identifier: Apache-2.0
"""Ascend C kernels for Ascend 910B class NPUs, through a CANN vendor package that `make ascend` builds.

The ops are the kernel sequences of :mod:`sknet_ops.backends.ascend_ops`, each kernel an ``ops.Custom`` of its aclnn
function, written down as a plan (:mod:`sknet_ops.backends.ascend_plan`) that both of MindSpore's modes run. Nothing of
CANN is touched before the first call.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import mindspore as ms
from mindspore import nn, ops
from mindspore.ops import DataType, constexpr

from sknet_ops import binary
from sknet_ops.backends import ascend_plan, ascend_sizes, composed

NAME = "ascend"
ABOUT = "Ascend C kernels for Ascend 910B class NPUs, float16 and float32; plain convolutions are MindSpore's own"
VENDOR = Path("vendors") / "sknet_ops"
_TYPES = {"float16": ms.float16, "float32": ms.float32}
MAP_DTYPES = tuple(_TYPES.values())


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


# ---- steps as MindSpore's operators ----


def _outputs(kernel: ascend_plan.Kernel) -> tuple[Any, Any]:
    """Shapes and types of its outputs, as ops.Custom wants them."""
    shapes = tuple(shape for _, (shape, _) in kernel.outputs)
    types = tuple(_TYPES[kind] for _, (_, kind) in kernel.outputs)
    return (shapes[0], types[0]) if len(shapes) == 1 else (shapes, types)


def aclnn_name(op: str) -> str:
    """Of the function that CANN's tools generate for an operator."""
    return "aclnn" + "".join(part.capitalize() for part in op.split("_"))


def registration(kernel: ascend_plan.Kernel) -> dict[str, Any]:
    """What MindSpore makes the call of the aclnn function from: inputs, then attributes, then outputs."""
    info = ops.CustomRegOp(aclnn_name(kernel.op)).fusion_type("OPAQUE")
    for i, name in enumerate(kernel.input_names):
        info = info.input(i, name, "required")
    info = info.attr("sizes", "required", "listInt").attr("numbers", "required", "listFloat")
    for i, (name, _) in enumerate(kernel.outputs):
        info = info.output(i, name, "required")
    tensors = len(kernel.input_names) + len(kernel.outputs)
    return info.dtype_format(*[DataType.None_Default] * tensors).target("Ascend").get_op_info()


@cache
def kernel_operator(kernel: ascend_plan.Kernel) -> ops.Primitive:
    """One operator, made when it is first needed; called with its inputs and :func:`kernel_attributes`."""
    shapes, types = _outputs(kernel)
    return ops.Custom(aclnn_name(kernel.op), lambda *_: shapes, lambda *_: types, func_type="aot",
                      reg_info=registration(kernel))  # fmt: skip


def kernel_attributes(kernel: ascend_plan.Kernel) -> tuple[tuple[int, ...], tuple[float, ...]]:
    """MindSpore takes attributes of an aclnn function as arguments behind the tensors; a list cannot be empty."""
    return kernel.ints, kernel.numbers or (0.0,)


def _ones(like, shape):
    return ops.ones(shape, ms.float32)


def _zeros(like, shape):
    return ops.zeros(shape, ms.float32)


def _rearranging(what: ascend_plan.Rearrange) -> tuple[Callable, tuple]:
    arguments = what.arguments
    if what.name == "reshape":
        return ops.Reshape(), arguments
    if what.name == "transpose":
        return ops.Transpose(), arguments
    if what.name == "reverse":
        return ops.ReverseV2(*arguments), ()
    if what.name == "concat":
        return ops.Concat(0), ()
    if what.name == "slice":
        return ops.Slice(), arguments
    if what.name == "cast":
        return ops.Cast(), (_TYPES[arguments[0]],)
    if what.name == "pad":
        return ops.Pad(*arguments), ()
    if what.name == "sum":
        return ops.ReduceSum(), arguments
    return (_ones if what.name == "ones" else _zeros), arguments


@cache
def _operators(plan: ascend_plan.Plan) -> tuple:
    """For each step: operator, numbers of its inputs, what else it takes, whether it has one output, whether it takes
    its inputs as one tuple."""
    steps = []
    for step in plan.steps:
        if isinstance(step.what, ascend_plan.Kernel):
            one = len(step.what.outputs) == 1
            operator, arguments = kernel_operator(step.what), kernel_attributes(step.what)
        else:
            one = True
            operator, arguments = _rearranging(step.what)
        together = isinstance(step.what, ascend_plan.Rearrange) and step.what.name == "concat"
        steps.append((operator, step.inputs, arguments, one, together))
    return tuple(steps)


def _spec(spec: tuple) -> ascend_plan.Spec:
    shape, dtype = spec
    name = next((name for name, kind in _TYPES.items() if kind == dtype), str(dtype).lower())
    if shape is None:
        raise ValueError("backend ascend: got an unknown shape, expected static shapes")
    return tuple(shape), name


@constexpr(check=False)
def _forward(op: str, attrs: tuple, soc: str, specs: tuple) -> tuple:
    plan = ascend_plan.forward(op, attrs, soc, tuple(map(_spec, specs)))
    return _operators(plan), plan.outputs, plan.updates


@constexpr(check=False)
def _backward(op: str, attrs: tuple, soc: str, specs: tuple, inputs: int, outputs: int) -> tuple:
    plan = ascend_plan.backward(op, attrs, soc, tuple(map(_spec, specs)), inputs, outputs)
    return _operators(plan), tuple(-1 if i is None else i for i in plan.outputs)


def _run(steps, tensors):
    for operator, indices, arguments, one, together in steps:
        inputs = ()
        for index in indices:
            inputs = inputs + (tensors[index],)
        if together:
            inputs = (inputs,)
        result = operator(*inputs, *arguments)
        if one:
            result = (result,)
        tensors = tensors + result
    return tensors


def _specs(tensors):
    specs = ()
    for tensor in tensors:
        specs = specs + ((tensor.shape, tensor.dtype),)
    return specs


class AscendOp:
    """An op as a sequence of kernels, for both modes; inputs and outputs as in :mod:`sknet_ops.primitives`.

    What is saved for the gradient is in the kernels' layouts. Moving statistics are assigned in place in training.
    Only the first output passes a gradient back.
    """

    def __init__(self, op: str, attrs: tuple[tuple[str, Any], ...], soc: str) -> None:
        super().__init__()
        self.op, self.attrs, self.soc = op, attrs, soc

    def forward(self, inputs):
        steps, outputs, updates = _forward(self.op, self.attrs, self.soc, _specs(inputs))
        tensors = _run(steps, inputs)
        for parameter, value in updates:
            ops.assign(inputs[parameter], tensors[value])
        result = ()
        for index in outputs:
            result = result + (tensors[index],)
        return result

    def backward(self, inputs, out, dout):
        out = composed.as_tuple(out)
        given = inputs + out + (composed.as_tuple(dout)[0],)
        steps, grads = _backward(self.op, self.attrs, self.soc, _specs(given), len(inputs), len(out))
        tensors = _run(steps, given)
        result = ()
        for number, index in enumerate(grads):
            grad = ops.zeros_like(inputs[number]) if index < 0 else tensors[index]
            result = result + (grad,)
        return result


@cache
def _op_class(inputs: int) -> type:
    return type(f"AscendOp{inputs}", (AscendOp, composed.with_inputs(inputs, own_gradient=True)), {})


def primitive(op: str, attrs: Mapping[str, Any]) -> Callable:
    """The op for :mod:`sknet_ops.primitives`, in PyNative and in graph mode.

    ``conv_bn_act`` and ``max_pool`` are MindSpore's own operators, which are CANN's: there is nothing to gain on them.
    """
    return _primitive(op, tuple(attrs.items()), soc_version())


@cache
def _primitive(op: str, attrs: tuple[tuple[str, Any], ...], soc: str) -> nn.Cell:
    if op in composed.MINDSPORES:
        return composed.MINDSPORES[op](**dict(attrs))
    set_up_opp_path()
    return _op_class(composed.input_count(op, dict(attrs)))(op, attrs, soc)
