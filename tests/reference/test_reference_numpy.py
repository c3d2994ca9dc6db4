# SPDX-License-Identifier: Apache-2.0
"""The C++ reference against the independent NumPy one, on every case, forward, backward and moving statistics."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np
import pytest

from tests import reference_numpy
from tests.cases import ALL, Example, Tensors, cast, error, flat, gradient_arguments, make_example, mode, modes

# Both sum in double; they differ in the order only.
DOUBLE = 1e-11
# The float form keeps what is between the sums in float: outputs, gradients. A tenth of what the backends are allowed.
SINGLE = 3e-6, 5e-5


def both_passes(module: Any, example: Example, training: bool, dtype: type, **backend: str) -> tuple[Tensors, Tensors]:
    """Outputs and updated inputs of the forward op, and all gradients."""
    op = example.op
    attrs = {**example.case.attrs(), **mode(op, training)}
    tensors = cast(example.tensors, dtype)
    forward = getattr(module, op.name)(**tensors, **attrs, **backend)
    moving = {name: value for name, value in tensors.items() if "moving" in name}
    cotangent = example.cotangent.astype(dtype)
    arguments = gradient_arguments(op, tensors, forward, cotangent, training)
    gradients = getattr(module, op.name + "_grad")(**arguments, **attrs, **backend)
    return flat({**forward, **moving}), flat(gradients)


def assert_close(got: Tensors, expected: Tensors, tolerance: float, floor: float) -> None:
    assert set(got) == set(expected)
    errors = {name: error(got[name], expected[name], floor) for name in expected}
    wrong = {name: value for name, value in errors.items() if not value <= tolerance}
    assert not wrong, f"relative errors above {tolerance}: {wrong}"


@pytest.mark.parametrize("case, training", modes(ALL))
def test_double_against_numpy(case: Any, training: bool, native: ModuleType) -> None:
    example = make_example(case, native, training)
    got = both_passes(native, example, training, np.float64, backend="reference")
    expected = both_passes(reference_numpy, example, training, np.float64)
    for mine, theirs in zip(got, expected, strict=True):
        # The floor is for gradients that are zero but for rounding: through the statistics of one or two values.
        assert_close(mine, theirs, DOUBLE, floor=1e-2)


@pytest.mark.parametrize("case, training", modes(ALL))
def test_float_against_double(case: Any, training: bool, native: ModuleType) -> None:
    example = make_example(case, native, training)
    got = both_passes(native, example, training, np.float32, backend="reference")
    expected = both_passes(native, example, training, np.float64, backend="reference")
    for mine, theirs, tolerance in zip(got, expected, SINGLE, strict=True):
        assert_close(mine, theirs, tolerance, floor=1e-2)
