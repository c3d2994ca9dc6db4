# SPDX-License-Identifier: Apache-2.0
"""Every op on the device against float64 in NumPy: outputs, saved tensors, running statistics and gradients.

Inputs are random and fresh for every check, outputs are NaN before the call. The gradient op is given what our forward
op saved, and so is its reference: both then see the same open ReLUs, and nothing but the arithmetic is compared.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from sk_torch import PAPER

from tests import reference_numpy
from tests.cases import ALL, OPS, SkConvCase, flat, gradient_arguments, map_tensors, mode

# ||got - expected|| / ||expected||
TOLERANCE = {"float32": (1e-5, 1e-4), "tf32": (2e-3, 4e-3), "float16": (3e-3, 6e-3), "bfloat16": (2.5e-2, 5e-2)}
# A gradient that is zero but for rounding (through the statistics of few values) is measured against this instead.
FLOOR = 1e-2
REPEATS = 50


def paper_cases(batch: int) -> list[SkConvCase]:
    return [
        SkConvCase(f"paper {unit}", batch, unit.channels, (unit.size, unit.size), unit.channels, stride=unit.stride,
                   groups=unit.groups, c_reduced=unit.hidden, op=op)
        for unit in PAPER
        for op in ("sk_conv", "selective_kernel")
    ]  # fmt: skip


def odd_cases() -> list[Any]:
    return [case for case in ALL if case.op != "conv_bn_act"]


class Checker:
    def __init__(self, library: Any, maps: frozenset[str], device: str, seed: int = 0) -> None:
        self._library, self._maps, self._device = library, maps, device
        self._rng = np.random.default_rng(seed)

    def _to_device(self, name: str, array: np.ndarray, storage: str) -> torch.Tensor:
        dtype = getattr(torch, storage) if name in self._maps else torch.float32
        return torch.from_numpy(np.ascontiguousarray(array)).to(self._device, dtype)

    def _hand_over(self, tensors: dict[str, Any], storage: str) -> dict[str, Any]:
        def one(name: str, value: Any) -> Any:
            if isinstance(value, np.ndarray):
                return self._to_device(name, value, storage)
            if isinstance(value, list) and value and isinstance(value[0], np.ndarray):
                return [self._to_device(name, item, storage) for item in value]
            return value

        return {name: one(name, value) for name, value in tensors.items()}

    @staticmethod
    def _take_back(result: dict[str, Any]) -> dict[str, Any]:
        def numpy(value: torch.Tensor) -> np.ndarray:
            return value.detach().to("cpu", torch.float64).numpy()

        return {n: [numpy(v) for v in value] if isinstance(value, list) else numpy(value)
                for n, value in result.items() if isinstance(value, (torch.Tensor, list))}  # fmt: skip

    def run(self, case: Any, training: bool, precision: str) -> dict[str, float]:
        """Relative errors by name; gradients and statistics included."""
        op = OPS[case.op]
        storage, tf32 = ("float32", True) if precision == "tf32" else (precision, False)
        attrs = {**case.attrs(), **mode(op, training)}
        inputs = self._hand_over(map_tensors(lambda a: a.astype(np.float32), case.tensors(self._rng)), storage)
        exact = self._take_back(inputs)  # as stored
        forward = getattr(self._library, op.name)(**inputs, **attrs, tf32=tf32)
        expected = getattr(reference_numpy, op.name)(**exact, **attrs)
        got = self._take_back(forward)
        errors = self._errors(got, expected)
        if training:
            moved = self._take_back({n: v for n, v in inputs.items() if "moving" in n})
            errors |= self._errors(moved, {n: exact[n] for n in moved})
        if not training and precision != "float32" and attrs.get("relu"):
            # The gradient computes z anew, rounded, which opens and closes ReLUs near zero: without them, then.
            attrs["relu"] = False
            forward = getattr(self._library, op.name)(**inputs, **attrs, tf32=tf32)
            got = self._take_back(forward)
        cotangent = self._rng.normal(0, 1, got[op.output].shape)
        arguments = gradient_arguments(op, inputs, forward, self._to_device(op.cotangent, cotangent, storage), training)
        grads = self._take_back(getattr(self._library, op.name + "_grad")(**arguments, **attrs, tf32=tf32))
        exact_arguments = gradient_arguments(op, exact, got, self._take_back(arguments)[op.cotangent], training)
        expected_grads = getattr(reference_numpy, op.name + "_grad")(**exact_arguments, **attrs)
        return errors | self._errors(grads, expected_grads)

    @staticmethod
    def _errors(got: dict[str, Any], expected: dict[str, Any]) -> dict[str, float]:
        got, expected = flat(got), flat(expected)
        errors = {}
        for name, value in expected.items():
            size = max(float(np.linalg.norm(value)), FLOOR * np.sqrt(value.size))
            errors[name] = float(np.linalg.norm(got[name] - value)) / size if value.size else 0.0
        return errors

    def all(
        self, cases: list[Any], precisions: list[str], modes: tuple[bool, ...] = (True, False)
    ) -> Iterator[dict[str, Any]]:
        """One row a case, mode and precision; ``ok`` is false for an error above the tolerance, or NaN."""
        for case in cases:
            for training in set(OPS[case.op].modes) & set(modes):
                for precision in precisions:
                    errors = self.run(case, training, precision)
                    output, gradient = TOLERANCE[precision]
                    wrong = {
                        name: error
                        for name, error in errors.items()
                        if not error <= (gradient if name.startswith("d") else output)
                    }
                    yield {"op": case.op, "case": str(case), "training": training, "precision": precision,
                           "worst": max(errors.values(), default=0.0), "wrong": wrong, "ok": not wrong}  # fmt: skip

    def repeats(self, case: Any, precision: str) -> bool:
        """Forward and gradients are the same bits each time."""
        op = OPS[case.op]
        storage, tf32 = ("float32", True) if precision == "tf32" else (precision, False)
        attrs = {**case.attrs(), **mode(op, True)}
        source = map_tensors(lambda a: a.astype(np.float32), case.tensors(self._rng))
        first = None
        cotangent = None
        for _ in range(REPEATS):
            inputs = self._hand_over(source, storage)
            forward = getattr(self._library, op.name)(**inputs, **attrs, tf32=tf32)
            if cotangent is None:
                cotangent = self._to_device(
                    op.cotangent, self._rng.normal(0, 1, tuple(forward[op.output].shape)), storage
                )
            arguments = gradient_arguments(op, inputs, forward, cotangent, True)
            grads = getattr(self._library, op.name + "_grad")(**arguments, **attrs, tf32=tf32)
            moved = {n: v for n, v in inputs.items() if "moving" in n}
            now = [t for result in (forward, grads, moved) for v in result.values()
                   for t in (v if isinstance(v, list) else [v])]  # fmt: skip
            bits = [t.view(torch.int32 if t.element_size() == 4 else torch.int16) for t in now]
            if first is None:
                first = bits
            elif not all(torch.equal(a, b) for a, b in zip(first, bits, strict=True)):
                return False
        return True
