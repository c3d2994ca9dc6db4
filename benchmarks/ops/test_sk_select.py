# SPDX-License-Identifier: Apache-2.0
import pytest

from benchmarks.harness.cases import Case
from benchmarks.ops.timing import SK_SHAPES, name, normal, run


@pytest.mark.parametrize("case", SK_SHAPES, ids=name)
def test_forward(benchmark, case: Case) -> None:
    n, c, h, w = case.output_shape
    run(benchmark, "sk_select", u=normal(n, 2, c, h, w), attention=normal(n, 2, c))


@pytest.mark.parametrize("case", SK_SHAPES, ids=name)
def test_backward(benchmark, case: Case) -> None:
    n, c, h, w = case.output_shape
    dy = normal(n, c, h, w)
    run(benchmark, "sk_select_grad", dy=dy, u=normal(n, 2, c, h, w), attention=normal(n, 2, c))
