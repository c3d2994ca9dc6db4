# SPDX-License-Identifier: Apache-2.0
"""The pooling of the stem, 64 channels of 112 x 112, with both paddings."""

from typing import Any

import numpy as np
import pytest

from benchmarks.ops.timing import BATCH, normal, run

PADDINGS: dict[str, dict[str, Any]] = {"centred": {"padding": 1}, "same": {"same": True}}


@pytest.mark.parametrize("padding", PADDINGS)
def test_forward(benchmark, padding: str) -> None:
    x = np.maximum(normal(BATCH, 64, 112, 112), 0)
    run(benchmark, "max_pool", x=x, kernel=3, stride=2, **PADDINGS[padding])


@pytest.mark.parametrize("padding", PADDINGS)
def test_backward(benchmark, padding: str) -> None:
    x = np.maximum(normal(BATCH, 64, 112, 112), 0)
    run(benchmark, "max_pool_grad", dy=normal(BATCH, 64, 56, 56), x=x, kernel=3, stride=2, **PADDINGS[padding])
