# SPDX-License-Identifier: Apache-2.0
"""Shapes drawn at random, for what the covering list did not think of. The seed is the test's parameter.

At least two input channels a group: batch norm makes the loss blind to the scale of an output channel's weights, so
the gradient of a single weight is zero but for rounding.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np
import pytest

from tests.cases import ConvCase, SkConvCase, assert_close, both_passes, make_example
from tests.native.test_cpu_kernels import GRADIENT, OUTPUT

SEEDS = range(60)


def _sizes(rng: np.random.Generator) -> dict[str, Any]:
    # 3 and more, where statistics over a batch of one or two values would make gradients rounding noise.
    return {"n": int(rng.integers(3, 6)), "hw": tuple(rng.integers(1, 20, 2).tolist())}


def _conv_case(rng: np.random.Generator) -> ConvCase:
    kernel, dilation, groups = int(rng.choice([1, 3, 5, 7])), int(rng.integers(1, 4)), int(rng.integers(1, 5))
    span = dilation * (kernel - 1)
    sizes = _sizes(rng)
    # At least one output, at most an empty rim.
    least = max(0, -((min(sizes["hw"]) - 1 - span) // 2))
    return ConvCase(
        "random", **sizes, c_in=groups * int(rng.integers(2, 12)), c_out=groups * int(rng.integers(1, 12)),
        kernel=kernel, stride=int(rng.integers(1, 4)), padding=int(rng.integers(least, least + 4)), dilation=dilation,
        groups=groups, relu=bool(rng.integers(2)), residual=bool(rng.integers(2)),
    )  # fmt: skip


def _sk_case(rng: np.random.Generator, op: str) -> SkConvCase:
    branches, groups = int(rng.integers(1, 5)), int(rng.integers(1, 4))
    split_input = bool(rng.integers(2))
    return SkConvCase(
        "random", **_sizes(rng), c_in=groups * int(rng.integers(2, 8)) * (branches if split_input else 1),
        c_out=groups * int(rng.integers(1, 12)), kernel=tuple(rng.choice([1, 3, 5, 7], branches).tolist()),
        dilation=tuple(rng.integers(1, 4, branches).tolist()), stride=int(rng.integers(1, 4)), groups=groups,
        split_input=split_input, relu=bool(rng.integers(2)), c_reduced=int(rng.integers(1, 20)), op=op,
    )  # fmt: skip


@pytest.mark.parametrize("training", [True, False], ids=["training", "inference"])
@pytest.mark.parametrize("seed", SEEDS)
def test_against_reference(seed: int, training: bool, isa: str, native: ModuleType) -> None:
    rng = np.random.default_rng(seed)
    for case in (_conv_case(rng), _sk_case(rng, "sk_conv"), _sk_case(rng, "selective_kernel")):
        example = make_example(case, native, training, seed)
        outputs, gradients = both_passes(native, example, training, np.float32, isa=isa)
        expected, expected_gradients = both_passes(native, example, training, np.float64, backend="reference")
        try:
            assert_close(outputs, expected, OUTPUT)
            assert_close(gradients, expected_gradients, GRADIENT, floor=1e-2)
        except AssertionError as error:
            raise AssertionError(f"{case!r}: {error}") from error
