# SPDX-License-Identifier: Apache-2.0
"""NaN and infinity come out where the reference says, and nowhere else: no kernel swallows or spreads them."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np
import pytest

from tests.cases import (
    ATTENTION,
    CONV,
    OPS,
    POOL,
    SELECT,
    SELECTIVE_KERNEL,
    SK_CONV,
    Tensors,
    cast,
    flat,
    gradient_arguments,
    make_example,
    mode,
    modes,
)

CASES = [case for case in [*CONV, *SK_CONV, *ATTENTION, *SELECT, *SELECTIVE_KERNEL, *POOL] if case.n > 1]


# Whether the mean of values among which one is infinite is that or NaN depends on the way to sum; finite it is not.
STATISTICS = ("mean", "attn_mean", "moving_mean", "attn_moving_mean")


def _assert_same_places(got: Tensors, expected: Tensors) -> None:
    got, expected = flat(got), flat(expected)
    for name, array in expected.items():
        if name.split("[")[0] in STATISTICS:
            assert np.array_equal(np.isfinite(got[name]), np.isfinite(array)), f"not finite in other places of {name}"
            continue
        assert np.array_equal(np.isnan(got[name]), np.isnan(array)), f"NaN in other places of {name}"
        infinite = np.isinf(array)
        assert np.array_equal(np.isinf(got[name]), infinite), f"infinities in other places of {name}"
        assert np.array_equal(got[name][infinite], array[infinite]), f"infinities of the other sign in {name}"


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("case, training", modes(CASES))
def test_forward(case: Any, training: bool, value: float, isa: str, native: ModuleType, rng) -> None:
    tensors = cast(make_example(case, native, training).tensors, np.float32)
    first = tensors["u" if "u" in tensors else "x"]
    image = first[0].reshape(-1)
    image[rng.integers(image.size)] = value
    attrs = {**case.attrs(), **mode(OPS[case.op], training)}
    expected_inputs = cast(tensors, np.float32)
    expected = getattr(native, case.op)(**expected_inputs, **attrs, backend="reference")
    got = getattr(native, case.op)(**tensors, **attrs, isa=isa)
    _assert_same_places(got, expected)
    _assert_same_places(tensors, expected_inputs)  # moving statistics
    if not training:
        assert np.isfinite(got[OPS[case.op].output][1:]).all(), "an image without NaN or infinity got one"


@pytest.mark.parametrize("case, training", modes(CASES))
def test_gradient(case: Any, training: bool, isa: str, native: ModuleType, rng) -> None:
    """NaN in the incoming gradient of one image."""
    op = OPS[case.op]
    attrs = {**case.attrs(), **mode(op, training)}
    for seed in range(30):
        example = make_example(case, native, training, seed)
        tensors = cast(example.tensors, np.float32)
        forward = getattr(native, op.name)(**tensors, **attrs, backend="reference")
        # Where ReLU is open, or the NaN would rightly stop there.
        places = np.flatnonzero(forward[op.output][0].reshape(-1) > 0)
        if places.size:
            break
    cotangent = example.cotangent.astype(np.float32)
    cotangent[0].reshape(-1)[rng.choice(places)] = np.nan
    arguments = gradient_arguments(op, tensors, forward, cotangent, training)
    expected = flat(getattr(native, op.name + "_grad")(**arguments, **attrs, backend="reference"))
    got = flat(getattr(native, op.name + "_grad")(**arguments, **attrs, isa=isa))
    for name, array in expected.items():
        # Kernels may multiply the NaN by the zeros of padding, so NaN may come out in more places of a weight's
        # gradient, never in fewer.
        assert np.isnan(got[name][np.isnan(array)]).all(), f"NaN was swallowed in {name}"
    if not training:
        first = op.differentiable[0]
        assert np.isfinite(got["d" + first][1:]).all(), "an image without NaN got one"
    assert any(np.isnan(array).any() for array in expected.values())


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_weight(value: float, isa: str, native: ModuleType, rng: np.random.Generator) -> None:
    """In a weight: the output channel that reads it and no other. Without padding, whose zeros it would multiply."""
    x = rng.normal(0, 1, (2, 4, 6, 9)).astype(np.float32)
    weight = rng.normal(0, 1, (6, 4, 3, 3)).astype(np.float32)
    weight[2, 1, 0, 2] = value
    norm = [np.full(6, v, np.float32) for v in (1, 0, 0, 1)]
    got = native.conv_bn_act(x, weight, *norm, relu=False, isa=isa)["y"]
    assert not np.isfinite(got[:, 2]).any()
    assert np.isfinite(np.delete(got, 2, axis=1)).all()
