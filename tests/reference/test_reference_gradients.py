# SPDX-License-Identifier: Apache-2.0
"""Gradients of the C++ reference against central differences in float64, on every differentiable input of every op."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np
import pytest

from tests.cases import FEW, OPS, Tensors, case_id, cast, flat, gradient_arguments, make_example, mode

STEP = 1e-5
# Of a gradient's largest value: the differences' own error is STEP squared times a third derivative, plus rounding.
TOLERANCE = 1e-6
# Values of one tensor that are varied; picked at random where there are more.
MOST = 40


def _inputs(case: Any) -> list[str]:
    op = OPS[case.op]
    return [name for name in op.differentiable if name != "residual" or case.residual]


CASES = [(case, training, name) for case in FEW for training in OPS[case.op].modes for name in _inputs(case)]


@pytest.mark.parametrize(
    "case, training, name", CASES, ids=[f"{case_id(c)}-{'training' if t else 'inference'}-{n}" for c, t, n in CASES]
)
def test_gradient(case: Any, training: bool, name: str, native: ModuleType, rng: np.random.Generator) -> None:
    # Far enough from ReLU's corner that no step crosses it.
    example = make_example(case, native, training, margin=1e-3)
    op = example.op
    attrs = {**case.attrs(), **mode(op, training), "backend": "reference"}

    def loss(tensors: Tensors) -> float:
        # Copies: training moves the moving statistics, and the next call has to start from the same.
        output = getattr(native, op.name)(**cast(tensors, np.float64), **attrs)[op.output]
        return float((output * example.cotangent).sum())

    tensors = cast(example.tensors, np.float64)
    forward = getattr(native, op.name)(**cast(tensors, np.float64), **attrs)
    arguments = gradient_arguments(op, tensors, forward, example.cotangent, training)
    gradients = flat({name: getattr(native, op.name + "_grad")(**arguments, **attrs)[f"d{name}"]})
    checked = 0
    for key, array in flat({name: tensors[name]}).items():
        gradient = gradients[key].reshape(-1)
        assert np.abs(gradient).max() > 0, f"d{key} is zero throughout: the case tests nothing"
        values = array.reshape(-1)
        for i in rng.permutation(values.size)[:MOST]:
            before = values[i]
            values[i] = before + STEP
            above = loss(tensors)
            values[i] = before - STEP
            below = loss(tensors)
            values[i] = before
            numeric = (above - below) / (2 * STEP)
            assert gradient[i] == pytest.approx(numeric, rel=0, abs=TOLERANCE * np.abs(gradient).max()), f"d{key}[{i}]"
            checked += 1
    assert checked > 0
