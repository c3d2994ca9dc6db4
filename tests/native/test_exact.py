# SPDX-License-Identifier: Apache-2.0
"""Integer-valued inputs: every product and sum is a float32, so a direct convolution has to match bit for bit.

The norm is made the identity (gamma 1, variance 1, eps 0, the rest 0), so that it rounds nothing.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np
import pytest

from tests.cases import CONV, OPS, SK_CONV, Tensors, case_id, cast, flat, gradient_arguments

CONSTANT = {"gamma": 1, "beta": 0, "moving_mean": 0, "moving_variance": 1}
LARGEST = {"x": 4, "weight": 3, "residual": 50}


def _integers(case: Any, rng: np.random.Generator) -> Tensors:
    def fill(name: str, array: np.ndarray) -> np.ndarray:
        if name in CONSTANT:
            return np.full(array.shape, CONSTANT[name], np.float32)
        # No zeros: a skipped product would go unseen.
        values = np.delete(np.arange(-LARGEST[name], LARGEST[name] + 1), LARGEST[name])
        return rng.choice(values, array.shape).astype(np.float32)

    tensors = case.tensors(rng)
    return {
        name: [fill(name, item) for item in value] if isinstance(value, list) else fill(name, value)
        for name, value in tensors.items()
    }


def _assert_same_bits(got: Tensors, expected: Tensors, names: tuple[str, ...] | None = None) -> None:
    got, expected = flat(got), flat(expected)
    for name in names or expected:
        assert np.array_equal(got[name], expected[name]), f"{name}: {np.sum(got[name] != expected[name])} values differ"


@pytest.mark.parametrize("case", [*CONV, *SK_CONV], ids=case_id)
def test_forward_and_gradients(case: Any, isa: str, native: ModuleType, rng: np.random.Generator) -> None:
    op = OPS[case.op]
    tensors = _integers(case, rng)
    attrs = {**case.attrs(), "eps": 0.0}
    forward = getattr(native, op.name)
    expected = forward(**tensors, **attrs, backend="reference")
    _assert_same_bits(forward(**tensors, **attrs, isa=isa), expected)

    cotangent = rng.integers(1, 4, expected[op.output].shape).astype(np.float32)
    arguments = gradient_arguments(op, tensors, expected, cotangent, training=False)
    gradient = getattr(native, op.name + "_grad")
    expected_gradients = gradient(**arguments, **attrs, backend="reference")
    _assert_same_bits(gradient(**arguments, **attrs, isa=isa), expected_gradients)
    # A result of zeros proves nothing.
    assert expected_gradients["dx"].any() == expected[op.output].any()


@pytest.mark.parametrize("case", [*CONV, *SK_CONV], ids=case_id)
def test_saved_convolution_in_training(case: Any, isa: str, native: ModuleType, rng: np.random.Generator) -> None:
    tensors = _integers(case, rng)
    forward = getattr(native, case.op)
    expected = forward(**cast(tensors, np.float32), **case.attrs(), training=True, backend="reference")
    got = forward(**cast(tensors, np.float32), **case.attrs(), training=True, isa=isa)
    _assert_same_bits(got, expected, ("z",))
    # A result that is mostly zeros proves little. Where padding goes beyond the kernel, much of it is.
    assert np.mean(expected["z"] != 0) > 0.1
