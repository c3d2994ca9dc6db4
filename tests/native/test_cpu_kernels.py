# SPDX-License-Identifier: Apache-2.0
"""The CPU kernels of each instruction set against the float64 reference: outputs, saved tensors, gradients."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np
import pytest

from tests.cases import ALL, assert_close, both_passes, make_example, modes

OUTPUT = 3e-5
GRADIENT = 5e-4


@pytest.mark.parametrize("case, training", modes(ALL))
def test_against_reference(case: Any, training: bool, isa: str, native: ModuleType) -> None:
    example = make_example(case, native, training)
    outputs, gradients = both_passes(native, example, training, np.float32, backend="cpu", isa=isa)
    expected, expected_gradients = both_passes(native, example, training, np.float64, backend="reference")
    assert_close(outputs, expected, OUTPUT)
    # The floor is for gradients that are zero but for rounding: through the statistics of one or two values.
    assert_close(gradients, expected_gradients, GRADIENT, floor=1e-2)


@pytest.mark.parametrize("offset", [1e3, -1e5])
def test_statistics_far_from_zero(offset: float, isa: str, native: ModuleType, rng: np.random.Generator) -> None:
    """A mean far larger than the deviation: a difference of squares would lose the variance to cancellation."""
    x = (offset + rng.normal(0, 1, (3, 2, 7, 13))).astype(np.float32)
    weight = np.eye(2, dtype=np.float32).reshape(2, 2, 1, 1)  # the convolution rounds nothing
    norm = [np.full(2, value, np.float32) for value in (1, 0, 0, 1)]
    got = native.conv_bn_act(x, weight, *norm, training=True, isa=isa)
    exact = x.astype(np.float64)
    assert np.array_equal(got["z"], x)
    assert np.abs(got["mean"] / exact.mean((0, 2, 3)) - 1).max() < 1e-7
    assert np.abs(got["inv_std"] * np.sqrt(exact.var((0, 2, 3)) + np.float32(1e-5)) - 1).max() < 1e-5
