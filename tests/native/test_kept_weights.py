# SPDX-License-Identifier: Apache-2.0
"""What a frozen layer keeps between calls: the same bits as without, and noticed when it is out of date."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np
import pytest

from tests.cases import CONV, SELECTIVE_KERNEL, Tensors, case_id, cast

CASES = [case for case in [*CONV, *SELECTIVE_KERNEL] if not case.why.startswith("dilation far larger")]


def _tensors(case: Any, rng: np.random.Generator) -> Tensors:
    return cast(case.tensors(rng), np.float32)


def _weights(tensors: Tensors) -> list[np.ndarray]:
    weight = tensors["weight"]
    return weight if isinstance(weight, list) else [weight]


@pytest.mark.parametrize("case", CASES, ids=case_id)
def test_same_bits(case: Any, isa: str, native: ModuleType, rng: np.random.Generator) -> None:
    op, kept = getattr(native, case.op), native.Kept()
    tensors, attrs = _tensors(case, rng), {**case.attrs(), "isa": isa}
    for _ in range(2):
        assert np.array_equal(op(**tensors, **attrs, kept=kept)["y"], op(**tensors, **attrs)["y"])
        tensors["x"] = _tensors(case, rng)["x"]
    # One Kept serves whatever it is given: smaller maps, whose kernels have fewer taps, and other weights.
    other = {**_tensors(case, rng), "x": tensors["x"], "residual": tensors.get("residual")}
    if other["residual"] is None:
        del other["residual"]
    assert np.array_equal(op(**other, **attrs, kept=kept)["y"], op(**other, **attrs)["y"])


@pytest.mark.parametrize("case", CASES, ids=case_id)
def test_weights_changed_in_place(case: Any, native: ModuleType, rng: np.random.Generator) -> None:
    op, kept = getattr(native, case.op), native.Kept()
    tensors, attrs = _tensors(case, rng), case.attrs()
    before = op(**tensors, **attrs, kept=kept)["y"]
    for weight in _weights(tensors):
        weight *= np.float32(-1.5)
    after = op(**tensors, **attrs, kept=kept)["y"]
    assert np.array_equal(after, op(**tensors, **attrs)["y"])
    # Of a single value ReLU may leave nothing, before and after.
    assert before.size < 10 or not np.array_equal(after, before)


def test_one_value_is_noticed_when_told(native: ModuleType, rng: np.random.Generator) -> None:
    tensors = {name: np.ones(16, np.float32) for name in ("gamma", "beta", "moving_mean", "moving_variance")}
    tensors["x"] = rng.standard_normal((1, 16, 9, 9), np.float32)
    tensors["weight"] = rng.standard_normal((16, 16, 3, 3), np.float32)
    kept = native.Kept()
    before = native.conv_bn_act(**tensors, padding=1, kept=kept)["y"]
    tensors["weight"][3, 4, 1, 1] += 1  # none of those that are sampled
    assert np.array_equal(native.conv_bn_act(**tensors, padding=1, kept=kept)["y"], before)
    native.forget_kept_weights()
    now = native.conv_bn_act(**tensors, padding=1, kept=kept)["y"]
    assert np.array_equal(now, native.conv_bn_act(**tensors, padding=1)["y"])
    assert not np.array_equal(now, before)


@pytest.mark.parametrize("case", [CONV[1], SELECTIVE_KERNEL[1]], ids=case_id)
def test_not_in_training(case: Any, native: ModuleType, rng: np.random.Generator) -> None:
    with pytest.raises(ValueError, match=f"{case.op}: kept: got one in training, expected None"):
        getattr(native, case.op)(**_tensors(case, rng), **case.attrs(), training=True, kept=native.Kept())
    with pytest.raises(TypeError, match="incompatible function arguments"):
        getattr(native, case.op)(**_tensors(case, rng), **case.attrs(), kept="yes")
