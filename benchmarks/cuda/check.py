# SPDX-License-Identifier: Apache-2.0
"""Every op on the device against float64 in NumPy: outputs, saved tensors, running statistics and gradients.

Inputs are random and fresh for every check, outputs are NaN before the call. All layouts get the same values and are
compared with one reference. The gradient op is given what our forward op saved, in the first layout, and so is its
reference: both then see the same open ReLUs, and nothing but the arithmetic is compared.

An error is judged by that of PyTorch's float32 on the same tensors (:mod:`peer`): no more than a few times as large. Of
a tensor of one value or two both are chance, and one may be lucky: what fails is judged once more, over several draws.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import peer
import torch

from tests import reference_numpy
from tests.cases import ALL, OPS, flat, gradient_arguments, map_tensors, mode

# Errors are ||got - expected|| / ||expected||; allowed is so many times the yardstick's, and never less than this.
TIMES, LEAST = 4.0, 2e-6
# Inputs are of size one: an error of one rounding of a value of that size is none, though the expected value, as a
# gradient through the statistics of one value a channel, be zero but for rounding.
FLOOR = 2.0**-24 / LEAST
REPEATS = 50
REDRAWS = 8
# Times what is allowed: chance does not explain more.
CHANCE = 10.0


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
    return {name: {"error": error if math.isfinite(error) else str(error), "allowed": allowed(single)}
            for name, (error, single) in errors.items() if not error <= allowed(single)}  # fmt: skip


def _may_be_chance(errors: Errors) -> bool:
    return all(error <= CHANCE * allowed(single) for error, single in errors.values())


def _root_mean_square(runs: list[Errors]) -> Errors:
    return {name: tuple(float(np.sqrt(np.mean([run[name][i] ** 2 for run in runs]))) for i in (0, 1))
            for name in runs[0]}  # fmt: skip


def _moving(tensors: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in tensors.items() if "moving" in name}


def _judged(runs: list[Errors]) -> dict[str, Any]:
    errors = _root_mean_square(runs)
    wrong = _wrong(errors)
    return {"worst": max((error for error, _ in errors.values()), default=0.0),
            "worst of allowed": max((error / allowed(single) for error, single in errors.values()), default=0.0),
            "draws": len(runs), "wrong": wrong, "ok": not wrong}  # fmt: skip


def _failed(reason: str) -> dict[str, Any]:
    return {"draws": 1, "wrong": {"exception": reason}, "ok": False}


def named(layout: str, inside: str) -> str:
    return layout if layout == inside else f"{layout} with {inside} inside"


class Checker:
    """`module` is cuda_native, `library` its Library."""

    def __init__(self, module: Any, library: Any, device: str, seed: int = 0, peer_device: str | None = None,
                 progress: Callable[[str], None] = lambda _: None) -> None:  # fmt: skip
        self._module, self._library, self._device, self._progress = module, library, device, progress
        self._rng = np.random.default_rng(seed)
        self._peers = {precision: peer.load(precision, peer_device or device) for precision in peer.ROUND}

    def _to_device(self, name: str, array: np.ndarray, storage: str, layout: str) -> torch.Tensor:
        is_map = name in self._module.MAPS
        dtype = getattr(torch, storage) if is_map else torch.float32
        # A copy on the CPU, too: each layout updates statistics of its own.
        tensor = torch.from_numpy(np.array(array, order="C")).to(self._device, dtype)
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

    def run(self, case: Any, training: bool, precision: str, arrangements: list[tuple[str, str]]) -> list[Errors]:
        """(relative error, the yardstick's) by name, for each arrangement; gradients and statistics included."""
        op, yardstick = OPS[case.op], self._peers[precision]
        storage, tf32 = ("float32", True) if precision == "tf32" else (precision, False)
        attrs = {**case.attrs(), **mode(op, training)}
        source = map_tensors(lambda a: a.astype(np.float32), case.tensors(self._rng))
        inputs = [self._hand_over(source, storage, layout) for layout, _ in arrangements]
        exact = self._take_back(inputs[0])  # as stored
        single = _single(exact)
        hows = [self._how(case, tf32, inside) for _, inside in arrangements]
        forwards = [getattr(self._library, op.name)(**tensors, **attrs, **how)
                    for tensors, how in zip(inputs, hows, strict=True)]  # fmt: skip
        expected = {**getattr(reference_numpy, op.name)(**exact, **attrs)}
        best = {**peer.results(yardstick, op.name, single, attrs)}
        if training:  # moving statistics were updated in place
            expected.update(_moving(exact))
            best.update(_moving(single))
        errors = []
        for (layout, inside), tensors, forward in zip(arrangements, inputs, forwards, strict=True):
            self._expect_layout(forward, layout, inside)
            got = self._take_back(forward)
            if training:
                got.update(_moving(self._take_back(tensors)))
            errors.append(self._errors(got, expected, best))
        forward = forwards[0]
        if not training and precision != "float32" and attrs.get("relu"):
            # The gradient computes z anew, rounded, which opens and closes ReLUs near zero: without them, then.
            attrs["relu"] = False
            forward = getattr(self._library, op.name)(**inputs[0], **attrs, **hows[0])
        kept = self._take_back(forward)
        cotangent = self._to_device(op.cotangent, self._rng.normal(0, 1, kept[op.output].shape), storage, "nchw")
        exact_cotangent = self._take_back({op.cotangent: cotangent})[op.cotangent]
        arguments = gradient_arguments(op, exact, kept, exact_cotangent, training)
        expected = getattr(reference_numpy, op.name + "_grad")(**arguments, **attrs)
        best = peer.results(yardstick, op.name + "_grad", _single(arguments), attrs)
        for i, (layout, inside) in enumerate(arrangements):
            saved = self._laid_out(forward, layout, inside)
            given = self._laid_out({op.cotangent: cotangent}, layout, inside)[op.cotangent]
            grads = getattr(self._library, op.name + "_grad")(
                **gradient_arguments(op, inputs[i], saved, given, training), **attrs, **hows[i]
            )
            self._expect_layout(grads, layout, inside)
            errors[i] |= self._errors(self._take_back(grads), expected, best)
        return errors

    def _laid_out(self, tensors: dict[str, Any], layout: str, inside: str) -> dict[str, Any]:
        return {name: in_layout(tensor, inside if name == "z" else layout) if name in self._module.MAPS else tensor
                for name, tensor in tensors.items()}  # fmt: skip

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
        """One row a case, mode, precision and layout; ``ok`` is false for an error above what is allowed, NaN, or an
        exception, which stands under ``wrong``.

        Raises:
            RuntimeError: The device no longer answers.
        """
        for case in cases:
            for training in sorted(set(OPS[case.op].modes) & set(modes), reverse=True):
                for precision in precisions:
                    arrangements = self.arrangements(case)
                    draws: list[list[Errors]] = []
                    failure = None
                    self._progress(f"{case.op}, {case}, training {training}, {precision}")
                    try:
                        draws.append(self.run(case, training, precision, arrangements))
                        if any(map(_wrong, draws[0])) and all(map(_may_be_chance, draws[0])):
                            draws += [self.run(case, training, precision, arrangements) for _ in range(REDRAWS)]
                    except Exception as error:  # one broken case is a failed check, not the end of all others
                        failure = f"{type(error).__name__}: {error}"
                    for i, (layout, inside) in enumerate(arrangements):
                        row = {"op": case.op, "case": str(case), "training": training, "precision": precision,
                               "layout": named(layout, inside)}  # fmt: skip
                        yield row | (_failed(failure) if failure else _judged([draw[i] for draw in draws]))
                    if failure:
                        self._expect_answer(case)

    def repeats(self, case: Any, precision: str, layout: str, inside: str) -> dict[str, str]:
        """What is wrong, if anything: forward and gradients have to be the same bits each time."""
        self._progress(f"{case.op}, {case}, {precision}, {named(layout, inside)}: repeats")
        try:
            return {} if self._same_bits(case, precision, layout, inside) else {"bits": "differ"}
        except Exception as error:
            self._expect_answer(case)
            return {"exception": f"{type(error).__name__}: {error}"}

    def _expect_answer(self, case: Any) -> None:
        if self._device == "cuda":
            try:
                torch.cuda.synchronize()
            except RuntimeError as error:
                raise RuntimeError(f"the device no longer answers after {case}: {error}") from error

    def _same_bits(self, case: Any, precision: str, layout: str, inside: str) -> bool:
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
