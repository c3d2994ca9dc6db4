# SPDX-License-Identifier: Apache-2.0
"""A device for sknet_ops.backends.ascend_ops: NumPy arrays, kernels on the emulated cores."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tests.ascend import emulator

Array = np.ndarray


class EmulatedDevice:
    """Runs with one scheduler seed; outputs start as NaN, so that what a kernel leaves out is seen."""

    def __init__(self, seed: int = 0, soc: str = "Ascend910B1", check_hazards: bool = True) -> None:
        self.soc = soc
        self.seed = seed
        self.check_hazards = check_hazards
        self.counters: dict[str, dict[str, int]] = {}
        self.calls: list[tuple[str, dict[str, tuple[int, ...]], list[int], str]] = []

    def run(self, op, inputs, outputs, ints, numbers, dtype) -> list[Array]:
        arrays = {name: None if x is None else np.ascontiguousarray(x) for name, x in inputs.items()}
        results = {name: np.full(shape, np.nan, kind) for name, (shape, kind) in outputs.items()}
        counters = emulator.run(op, {**arrays, **results}, ints, numbers, dtype=dtype, soc=self.soc, seed=self.seed,
                                check_hazards=self.check_hazards)  # fmt: skip
        total = self.counters.setdefault(op, dict.fromkeys(counters, 0))
        for name, value in counters.items():
            total[name] += value
        self.calls.append((op, {name: shape for name, (shape, _) in outputs.items()}, list(ints), dtype))
        return list(results.values())

    def reshape(self, x: Array, shape: tuple[int, ...]) -> Array:
        return np.ascontiguousarray(x).reshape(shape)

    def transpose(self, x: Array, axes: tuple[int, ...]) -> Array:
        return x.transpose(axes)

    def flip_taps(self, x: Array) -> Array:
        return x[..., ::-1, ::-1]

    def concat(self, arrays: Sequence[Array]) -> Array:
        return np.concatenate(arrays)

    def split(self, x: Array, sizes: Sequence[int]) -> list[Array]:
        return np.split(x, np.cumsum(sizes)[:-1])

    def cast(self, x: Array, dtype: str) -> Array:
        return x.astype(dtype)

    def filled(self, shape: tuple[int, ...], value: int) -> Array:
        return np.full(shape, value, np.float32)

    def pad_parts(self, x: Array, size: int) -> Array:
        return np.pad(x, [(0, size - x.shape[1] if axis == 1 else 0) for axis in range(x.ndim)])

    def sum_parts(self, x: Array) -> Array:
        return x.sum(1)

    def dtype(self, x: Array) -> str:
        return str(x.dtype)
