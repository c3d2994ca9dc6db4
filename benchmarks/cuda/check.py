# SPDX-License-Identifier: Apache-2.0
"""Every op on the device against float64 in NumPy: outputs, saved tensors, running statistics and gradients.

Inputs are random and fresh for every check, outputs are NaN before the call. The gradient op is given what our forward
op saved, and so is its reference: both then see the same open ReLUs, and nothing but the arithmetic is compared.

An error is judged by that of PyTorch's float32 on the same tensors (:mod:`peer`): no more than a few times as large. Of
a tensor of one value or two both are chance, and one may be lucky: what fails is judged once more, over several draws.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np
import peer
import torch
from sk_torch import PAPER

from tests import reference_numpy
from tests.cases import ALL, OPS, SkConvCase, flat, gradient_arguments, map_tensors, mode

# Errors are ||got - expected|| / ||expected||; allowed is so many times the yardstick's, and never less than this.
TIMES, LEAST = 4.0, 2e-6
# Inputs are of size one: an error of one rounding of a value of that size is none, though the expected value, as a
# gradient through the statistics of one value a channel, be zero but for rounding.
FLOOR = 2.0**-24 / LEAST
REPEATS = 50
REDRAWS = 8


def paper_cases(batch: int) -> list[SkConvCase]:
    return [
        SkConvCase(f"paper {unit}", batch, unit.channels, (unit.size, unit.size), unit.channels, stride=unit.stride,
                   groups=unit.groups, c_reduced=unit.hidden, op=op)
        for unit in PAPER
        for op in ("sk_conv", "selective_kernel")
    ]  # fmt: skip


# Channels in and out, size, stride: the units of skresnet18 and skresnet34, dense and with split input.
SPLIT = ((64, 64, 56, 1), (64, 128, 56, 2), (128, 128, 28, 1), (128, 256, 28, 2), (256, 256, 14, 1), (256, 512, 14, 2),
         (512, 512, 7, 1))  # fmt: skip


def split_cases(batch: int) -> list[SkConvCase]:
    return [
        SkConvCase(f"skresnet18 {c_in} to {c_out} x {size}^2 / {stride}", batch, c_in, (size, size), c_out,
                   stride=stride, split_input=True, c_reduced=max(c_out // 8, 16), op="selective_kernel")
        for c_in, c_out, size, stride in SPLIT
    ]  # fmt: skip


def odd_cases() -> list[Any]:
    return [case for case in ALL if case.op not in ("conv_bn_act", "max_pool")]


def allowed(yardstick: float) -> float:
    return max(TIMES * yardstick, LEAST)


def _single(tensors: dict[str, Any]) -> dict[str, Any]:
    """Copies of the arrays in float32."""
    return map_tensors(lambda a: np.array(a, np.float32), tensors)


def in_layout(tensor: torch.Tensor, layout: str) -> torch.Tensor:
    """The same values; with channels last also the stacked maps, (n, branches, h, w, c) in memory."""
    return tensor.movedim(-3, -1).contiguous().movedim(-1, -3) if layout == "nhwc" else tensor.contiguous()


Errors = dict[str, tuple[float, float]]  # ours, and the yardstick's


def _wrong(errors: Errors) -> dict[str, dict[str, float]]:
    return {name: {"error": error, "allowed": allowed(single)}
            for name, (error, single) in errors.items() if not error <= allowed(single)}  # fmt: skip


def _root_mean_square(runs: list[Errors]) -> Errors:
    return {name: tuple(float(np.sqrt(np.mean([run[name][i] ** 2 for run in runs]))) for i in (0, 1))
            for name in runs[0]}  # fmt: skip


def named(layout: str, inside: str) -> str:
    return layout if layout == inside else f"{layout} with {inside} inside"


class Checker:
    """`module` is cuda_native, `library` its Library."""

    def __init__(self, module: Any, library: Any, device: str, seed: int = 0, peer_device: str | None = None) -> None:
        self._module, self._library, self._device = module, library, device
        self._rng = np.random.default_rng(seed)
        self._peers = {precision: peer.load(precision, peer_device or device) for precision in peer.ROUND}

    def _to_device(self, name: str, array: np.ndarray, storage: str, layout: str) -> torch.Tensor:
        is_map = name in self._module.MAPS
        dtype = getattr(torch, storage) if is_map else torch.float32
        tensor = torch.from_numpy(np.ascontiguousarray(array)).to(self._device, dtype)
        return in_layout(tensor, layout) if is_map else tensor

    def _hand_over(self, tensors: dict[str, Any], storage: str, layout: str) -> dict[str, Any]:
        def one(name: str, value: Any) -> Any:
            if isinstance(value, np.ndarray):
                return self._to_device(name, value, storage, layout)
            if isinstance(value, list) and value and isinstance(value[0], np.ndarray):
                return [self._to_device(name, item, storage, layout) for item in value]
            return value

        return {name: one(name, value) for name, value in tensors.items()}

    @staticmethod
    def _take_back(result: dict[str, Any]) -> dict[str, Any]:
        def numpy(value: torch.Tensor) -> np.ndarray:
            return value.detach().to("cpu", torch.float64).numpy()

        return {n: [numpy(v) for v in value] if isinstance(value, list) else numpy(value)
                for n, value in result.items() if isinstance(value, (torch.Tensor, list))}  # fmt: skip

    def _expect_layout(self, result: dict[str, Any], layout: str, inside: str) -> None:
        for name, value in result.items():
            expected = inside if name == "z" else layout
            if name in self._module.MAPS and expected not in self._module.as_tensor(name, value).layouts():
                raise AssertionError(f"{name}: got strides {value.stride()}, expected those of {expected}")

    def arrangements(self, case: Any) -> list[tuple[str, str]]:
        """Layouts of maps and of z: two for an op, three for the whole unit."""
        return [(layout, inside) for layout, inside in self._module.ARRANGEMENTS.values()
                if layout == inside or case.op == "selective_kernel"]  # fmt: skip

    @staticmethod
    def _how(case: Any, tf32: bool, inside: str) -> dict[str, Any]:
        return {"tf32": tf32, **({"inside": inside} if case.op == "selective_kernel" else {})}

    def run(self, case: Any, training: bool, precision: str, layout: str, inside: str) -> Errors:
        """(relative error, the yardstick's) by name; gradients and statistics included."""
        op, yardstick = OPS[case.op], self._peers[precision]
        storage, tf32 = ("float32", True) if precision == "tf32" else (precision, False)
        attrs, how = {**case.attrs(), **mode(op, training)}, self._how(case, tf32, inside)
        inputs = self._hand_over(map_tensors(lambda a: a.astype(np.float32), case.tensors(self._rng)), storage, layout)
        exact = self._take_back(inputs)  # as stored
        single = _single(exact)
        forward = getattr(self._library, op.name)(**inputs, **attrs, **how)
        self._expect_layout(forward, layout, inside)
        got = self._take_back(forward)
        expected = getattr(reference_numpy, op.name)(**exact, **attrs)
        compared = {**got}, {**expected}, peer.results(yardstick, op.name, single, attrs)
        if training:
            for result, tensors in zip(compared, (self._take_back(inputs), exact, single), strict=True):
                result.update({n: v for n, v in tensors.items() if "moving" in n})
        errors = self._errors(*compared)
        if not training and precision != "float32" and attrs.get("relu"):
            # The gradient computes z anew, rounded, which opens and closes ReLUs near zero: without them, then.
            attrs["relu"] = False
            forward = getattr(self._library, op.name)(**inputs, **attrs, **how)
            got = self._take_back(forward)
        cotangent = self._rng.normal(0, 1, got[op.output].shape)
        cotangent = self._to_device(op.cotangent, cotangent, storage, layout)
        arguments = gradient_arguments(op, inputs, forward, cotangent, training)
        grads = getattr(self._library, op.name + "_grad")(**arguments, **attrs, **how)
        self._expect_layout(grads, layout, inside)
        grads = self._take_back(grads)
        exact_arguments = gradient_arguments(op, exact, got, self._take_back(arguments)[op.cotangent], training)
        expected_grads = getattr(reference_numpy, op.name + "_grad")(**exact_arguments, **attrs)
        single_grads = peer.results(yardstick, op.name + "_grad", _single(exact_arguments), attrs)
        return errors | self._errors(grads, expected_grads, single_grads)

    @staticmethod
    def _errors(got: dict[str, Any], expected: dict[str, Any], single: dict[str, Any]) -> Errors:
        got, expected, single = flat(got), flat(expected), flat(single)
        errors = {}
        for name, value in expected.items():
            size = max(float(np.linalg.norm(value)), FLOOR * np.sqrt(value.size))
            found = (float(np.linalg.norm(result[name] - value)) for result in (got, single))
            errors[name] = tuple(error / size if value.size else 0.0 for error in found)
        return errors

    def all(
        self, cases: list[Any], precisions: list[str], modes: tuple[bool, ...] = (True, False)
    ) -> Iterator[dict[str, Any]]:
        """One row a case, mode, precision and layout; ``ok`` is false for an error above what is allowed, or NaN."""
        for case in cases:
            for training in sorted(set(OPS[case.op].modes) & set(modes), reverse=True):
                for precision, (layout, inside) in itertools.product(precisions, self.arrangements(case)):
                    runs = [self.run(case, training, precision, layout, inside)]
                    if _wrong(runs[0]):
                        runs += [self.run(case, training, precision, layout, inside) for _ in range(REDRAWS)]
                    errors = _root_mean_square(runs)
                    wrong = _wrong(errors)
                    ratios = [error / allowed(single) for error, single in errors.values()]
                    yield {"op": case.op, "case": str(case), "training": training, "precision": precision,
                           "layout": named(layout, inside),
                           "worst": max((error for error, _ in errors.values()), default=0.0),
                           "worst of allowed": max(ratios, default=0.0), "draws": len(runs),
                           "wrong": wrong, "ok": not wrong}  # fmt: skip

    def repeats(self, case: Any, precision: str, layout: str, inside: str) -> bool:
        """Forward and gradients are the same bits each time."""
        op = OPS[case.op]
        storage, tf32 = ("float32", True) if precision == "tf32" else (precision, False)
        attrs, how = {**case.attrs(), **mode(op, True)}, self._how(case, tf32, inside)
        source = map_tensors(lambda a: a.astype(np.float32), case.tensors(self._rng))
        first = None
        cotangent = None
        for _ in range(REPEATS):
            inputs = self._hand_over(source, storage, layout)
            forward = getattr(self._library, op.name)(**inputs, **attrs, **how)
            if cotangent is None:
                cotangent = self._rng.normal(0, 1, tuple(forward[op.output].shape))
                cotangent = self._to_device(op.cotangent, cotangent, storage, layout)
            arguments = gradient_arguments(op, inputs, forward, cotangent, True)
            grads = getattr(self._library, op.name + "_grad")(**arguments, **attrs, **how)
            moved = {n: v for n, v in inputs.items() if "moving" in n}
            now = [t for result in (forward, grads, moved) for v in result.values()
                   for t in (v if isinstance(v, list) else [v])]  # fmt: skip
            bits = [t.view(torch.int32 if t.element_size() == 4 else torch.int16) for t in now]
            if first is None:
                first = bits
            elif not all(torch.equal(a, b) for a, b in zip(first, bits, strict=True)):
                return False
        return True
