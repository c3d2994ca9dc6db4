# SPDX-License-Identifier: Apache-2.0
"""The C++ reference against the independent NumPy one, on every case, forward, backward and moving statistics."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np
import pytest

from tests import reference_numpy
from tests.cases import ALL, assert_close, both_passes, make_example, modes

# Both sum in double; they differ in the order only.
DOUBLE = 1e-11
# The float form keeps what is between the sums in float: outputs, gradients. A tenth of what the backends are allowed.
SINGLE = 3e-6, 5e-5


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
