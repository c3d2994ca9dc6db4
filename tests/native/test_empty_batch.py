# SPDX-License-Identifier: Apache-2.0
"""A batch of no images: empty outputs, zero gradients of the weights, moving statistics as they were."""

from __future__ import annotations

from dataclasses import replace
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from tests.cases import FEW, OPS, cast, flat, gradient_arguments, mode, modes


@pytest.mark.parametrize("backend", ["cpu", "reference"])
@pytest.mark.parametrize("case, training", modes([replace(case, n=0) for case in FEW]))
def test_empty_batch(case: Any, training: bool, backend: str, native: ModuleType, rng: np.random.Generator) -> None:
    op = OPS[case.op]
    tensors = cast(case.tensors(rng), np.float32)
    before = flat(cast(tensors, np.float32))
    attrs = {**case.attrs(), **mode(op, training), "backend": backend}
    forward = getattr(native, op.name)(**tensors, **attrs)
    one = cast(replace(case, n=1).tensors(rng), np.float32)
    shape = getattr(native, op.name)(**one, **attrs)[op.output].shape
    assert forward[op.output].shape == (0, *shape[1:])
    for name, array in flat(tensors).items():
        assert np.array_equal(array, before[name]), f"{name} changed"

    cotangent = np.empty(forward[op.output].shape, np.float32)
    arguments = gradient_arguments(op, tensors, forward, cotangent, training)
    gradients = flat(getattr(native, op.name + "_grad")(**arguments, **attrs))
    for name, array in gradients.items():
        assert array.shape == before[name[1:]].shape if name[1:] in before else array.shape[0] == 0
        assert not array.any(), f"{name} is not zero"
    assert gradients
