# SPDX-License-Identifier: Apache-2.0
"""Every op through MindSpore, in both modes, against the float64 reference: output, statistics, all gradients."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import pytest

from tests.cases import FEW, AttentionCase, ConvCase, SkConvCase, modes
from tests.ops.op_cells import check_op

OUTPUT = 3e-5
GRADIENT = 5e-4

CASES = [
    *FEW,
    ConvCase("resnet stem", 2, 3, (13, 13), 17, kernel=7, stride=2, padding=3),
    ConvCase("pointwise with residual", 3, 17, (7, 7), 33, kernel=1, padding=0, residual=True),
    SkConvCase("one branch", 3, 7, (3, 7), 15, (3,), (1,)),
    SkConvCase("four branches of true size", 3, 16, (13, 7), 8, (1, 3, 5, 7), (1, 1, 1, 1), groups=4),
    SkConvCase("one branch of a unit", 4, 7, (3, 7), 15, (3,), (1,), op="selective_kernel"),
    SkConvCase("three branches of a unit", 4, 15, (7, 7), 17, (3, 3, 3), (1, 2, 3), op="selective_kernel"),
    SkConvCase("four split branches of a unit", 4, 16, (9, 9), 8, (3, 5, 3, 7), (1, 1, 3, 1), 3, 2, True,
               op="selective_kernel"),
    AttentionCase("convolution weights", 5, 15, (2, 2), 2, 9, rank_4_weights=True),
]  # fmt: skip


@pytest.mark.parametrize("case, training", modes(CASES))
def test_op(case: Any, training: bool, mode: str, native: ModuleType) -> None:
    check_op(case, training, native, OUTPUT, GRADIENT)
