# SPDX-License-Identifier: Apache-2.0
"""The emulated library on NumPy arrays, under the names and arguments of ``sknet_ops._native``.

Every tensor lies between two watched zones. They, and outputs before the call, hold all ones, which every storage type
reads as NaN: a kernel that reads outside gives NaN, one that writes outside is caught, and so is a value not written.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from functools import cache
from types import ModuleType
from typing import Any

import numpy as np

from tests.cuda import build

ZONE = 4096


@cache
def cuda_native() -> ModuleType:
    """sknet_ops.backends.cuda_native alone: the package around it would load MindSpore."""
    path = build.ROOT / "sknet_ops" / "backends" / "cuda_native.py"
    spec = importlib.util.spec_from_file_location("cuda_native", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def to_storage(array: np.ndarray, dtype: str) -> np.ndarray:
    """Bits of the values in that type."""
    if dtype == "bfloat16":
        bits = np.ascontiguousarray(array, np.float32).view(np.uint32)
        rounded = ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16).astype(np.uint16)
        return np.where(np.isnan(array), np.uint16(0x7FC0), rounded)
    return np.ascontiguousarray(array, dtype)


def from_storage(array: np.ndarray, dtype: str) -> np.ndarray:
    if dtype == "bfloat16":
        return (array.astype(np.uint32) << 16).view(np.float32)
    return array.astype(np.float32)


class Guarded:
    """Memory for one tensor, which starts at a multiple of 256 bytes, or `shift` values behind one."""

    def __init__(self, shape: tuple[int, ...], dtype: str, shift: int = 0) -> None:
        self.shape, self.dtype = shape, dtype
        size = 4 if dtype == "float32" else 2
        self._bytes = int(np.prod(shape, dtype=np.int64)) * size
        # As device allocations start.
        self._memory = np.full(self._bytes + 2 * ZONE + 256, 0xFF, np.uint8)
        self._start = ZONE + -(self._memory.ctypes.data + ZONE) % 256 + shift * size
        bits = np.float32 if dtype == "float32" else np.float16 if dtype == "float16" else np.uint16
        self.values = self._memory[self._start : self._start + self._bytes].view(bits).reshape(shape)
        self.tensor = cuda_native().Tensor(self.values.ctypes.data, shape, dtype, self)

    def check(self, what: str) -> None:
        before, after = self._memory[: self._start], self._memory[self._start + self._bytes :]
        assert (before == 0xFF).all(), f"{what}: written before its start"
        assert (after == 0xFF).all(), f"{what}: written past its end"


class Emulated:
    """Methods named like the ops. Takes and returns float32 arrays whatever the storage and layout of maps."""

    def __init__(self, storage: str = "float32", tf32: bool = False, layout: str = "nchw", shift: int = 0,
                 inside: str | None = None) -> None:  # fmt: skip
        self._storage, self._tf32, self._layout, self._shift, self._inside = storage, tf32, layout, shift, inside
        self._fresh: list[Guarded] = []
        self.library = cuda_native().Library(build.library("sknet_ops_cuda_emulated"), self._empty)

    def _empty(self, shape: tuple[int, ...], dtype: str) -> Any:
        self._fresh.append(Guarded(shape, dtype, self._shift))
        return self._fresh[-1].tensor

    def __getattr__(self, name: str) -> Callable[..., dict[str, Any]]:
        return lambda **arguments: self._call(name, arguments)

    def _call(self, op: str, arguments: dict[str, Any]) -> dict[str, Any]:
        module, inputs, written = cuda_native(), [], []
        turned = self._inside is not None and op.startswith("selective_kernel")
        how = {"inside": self._inside} if turned else {}

        def layout_of(name: str) -> str:
            return "nchw" if name not in module.MAPS else self._inside if turned and name == "z" else self._layout

        def hand_over(name: str, array: np.ndarray) -> Any:
            dtype = self._storage if name in module.MAPS else "float32"
            last = layout_of(name) == "nhwc"
            order = module.CHANNELS_LAST[array.ndim] if last else tuple(range(array.ndim))
            guarded = Guarded(tuple(array.shape[order.index(i)] for i in range(array.ndim)), dtype, self._shift)
            guarded.values.transpose(order)[...] = to_storage(array, dtype)
            inputs.append((name, guarded))
            if name.endswith(("moving_mean", "moving_variance")):
                written.append((array, guarded))
            return guarded.tensor.permute(*order) if last else guarded.tensor

        tensors = {}
        for name, value in arguments.items():
            if isinstance(value, np.ndarray):
                tensors[name] = hand_over(name, value)
            elif isinstance(value, list) and value and isinstance(value[0], np.ndarray):
                tensors[name] = [hand_over(name, item) for item in value]
            else:
                tensors[name] = value
        before = {id(g): g.values.copy() for _, g in inputs}
        self._fresh = []
        result = getattr(self.library, op)(**tensors, tf32=self._tf32, **how)
        for name, guarded in [*inputs, *(("an output", g) for g in self._fresh)]:
            guarded.check(f"{op}: {name}")
        moving = {id(g) for _, g in written}
        for name, guarded in inputs:
            if id(guarded) not in moving:
                assert np.array_equal(before[id(guarded)], guarded.values, equal_nan=True), f"{op} changed {name}"
        for array, guarded in written:
            array[...] = guarded.values

        def take_back(name: str, tensor: Any) -> np.ndarray:
            assert layout_of(name) in tensor.layouts(), f"{op}: {name}: layout of an output"
            values = from_storage(tensor.owner.values, tensor.dtype)
            return values.transpose(module.CHANNELS_LAST[values.ndim]).copy() if tensor.strides else values.copy()

        return {n: [take_back(n, v) for v in value] if isinstance(value, list) else take_back(n, value)
                for n, value in result.items()}  # fmt: skip
