# SPDX-License-Identifier: Apache-2.0
"""What PyTorch's float32 makes of an op: the yardstick for our errors.

The formulas are those of the float64 reference, on float32 arrays, with convolutions, statistics and the sums over maps
by PyTorch on the device (TF32 off). For the other precisions, what our kernels store or multiply in fewer bits is
rounded to them once, correctly: maps in 16 bits, operands of convolutions in TF32.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np
import torch

from tests import reference_numpy

Array = np.ndarray
STORED = ("y", "u", "z", "dx", "du")


def _to_mantissa(array: Array, dropped: int) -> Array:
    """float32 without its last bits, rounded to nearest even."""
    bits = np.ascontiguousarray(array, np.float32).view(np.uint32).astype(np.uint64)
    bits += (1 << (dropped - 1)) - 1 + (bits >> np.uint64(dropped) & np.uint64(1))
    return (bits >> np.uint64(dropped) << np.uint64(dropped)).astype(np.uint32).view(np.float32)


ROUND: dict[str, Callable[[Array], Array]] = {
    "float32": lambda a: a,
    "tf32": lambda a: _to_mantissa(a, 13),
    "float16": lambda a: a.astype(np.float16).astype(np.float32),
    "bfloat16": lambda a: _to_mantissa(a, 16),
}


def load(precision: str, device: str) -> ModuleType:
    """The reference's module with PyTorch inside. Its functions take float32 arrays."""
    spec = importlib.util.spec_from_file_location(f"peer_{precision}", reference_numpy.__file__)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    operand = ROUND[precision]
    store = operand if precision != "tf32" else ROUND["float32"]

    def tensor(array: Array) -> torch.Tensor:
        return torch.tensor(array, dtype=torch.float32, device=device)  # a copy, on the CPU too

    def conv2d(x: Array, weight: Array, stride: int, padding: int, dilation: int, groups: int) -> Array:
        operands = tensor(operand(x)), tensor(operand(weight))
        z = torch.nn.functional.conv2d(*operands, None, stride, padding, dilation, groups)
        return store(z.cpu().numpy())

    def conv2d_grad(
        dz: Array, x: Array, weight: Array, stride: int, padding: int, dilation: int, groups: int
    ) -> tuple[Array, Array]:
        operands = (tensor(operand(v)) for v in (dz, x, weight))
        dx, dweight, _ = torch.ops.aten.convolution_backward(
            *operands, None, [stride] * 2, [padding] * 2, [dilation] * 2, False, [0, 0], groups, [True, True, False]
        )
        return dx.cpu().numpy(), dweight.cpu().numpy()

    def statistics(
        z: Array, moving_mean: Array, moving_variance: Array, eps: float, momentum: float, training: bool
    ) -> tuple[Array, Array]:
        if not training:
            return moving_mean.copy(), torch.rsqrt(tensor(moving_variance) + eps).cpu().numpy()
        moving = tensor(moving_mean), tensor(moving_variance)
        shape = (z.shape[0], z.shape[1], -1)
        _, mean, inv_std = torch.native_batch_norm(tensor(z).reshape(shape), None, None, *moving, True, momentum, eps)
        if z.size > z.shape[1]:  # of one value a channel PyTorch's unbiased variance is not a number
            moving_mean[:], moving_variance[:] = (v.cpu().numpy() for v in moving)
        else:
            moving_mean += momentum * (z.reshape(z.shape[1]) - moving_mean)
            moving_variance -= momentum * moving_variance
        return mean.cpu().numpy(), inv_std.cpu().numpy()

    def affine_grad(
        dv: Array, z: Array, gamma: Array, mean: Array, inv_std: Array, training: bool
    ) -> tuple[Array, Array, Array]:
        shape = (z.shape[0], z.shape[1], -1)
        moving = (tensor(mean), tensor(1 / np.square(inv_std)))
        dz, dgamma, dbeta = torch.ops.aten.native_batch_norm_backward(
            tensor(dv).reshape(shape), tensor(z).reshape(shape), tensor(gamma), *moving, tensor(mean), tensor(inv_std),
            training, 0.0, [True, True, True],
        )  # fmt: skip
        return dz.reshape(z.shape).cpu().numpy(), dgamma.cpu().numpy(), dbeta.cpu().numpy()

    module.conv2d, module.conv2d_grad, module.statistics = conv2d, conv2d_grad, statistics
    module.affine_grad = affine_grad
    module.store = store
    return module


def results(module: ModuleType, name: str, arguments: dict[str, Any], attrs: dict[str, Any]) -> dict[str, Any]:
    """Of one op; maps rounded as they are stored. Arguments are not changed but for the moving statistics."""
    result = getattr(module, name)(**arguments, **attrs)
    return {key: module.store(value) if key in STORED else value for key, value in result.items()}
