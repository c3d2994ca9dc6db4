# SPDX-License-Identifier: Apache-2.0
"""conv_bn_act_grad without dx: the other gradients are the same, bit for bit."""

from __future__ import annotations

from types import ModuleType

import numpy as np
import pytest

from tests.cases import CONV, ConvCase, cast, gradient_arguments, make_example


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("case", CONV, ids=str)
def test_others_are_the_same(case: ConvCase, training: bool, isa: str, native: ModuleType) -> None:
    example = make_example(case, native, training, margin=-1)
    attrs = {**case.attrs(), "training": training, "isa": isa}
    tensors = cast(example.tensors, np.float32)
    forward = native.conv_bn_act(**tensors, **attrs)
    arguments = gradient_arguments(example.op, tensors, forward, example.cotangent.astype(np.float32), training)
    every = native.conv_bn_act_grad(**arguments, **attrs)
    others = native.conv_bn_act_grad(**arguments, **attrs, input_gradient=False)
    assert set(every) - set(others) == {"dx"}
    for name, values in others.items():
        assert np.array_equal(values, every[name]), name


def test_reference(native: ModuleType) -> None:
    example = make_example(CONV[0], native, True)
    attrs = {**CONV[0].attrs(), "training": True, "backend": "reference"}
    forward = native.conv_bn_act(**example.tensors, **attrs)
    arguments = gradient_arguments(example.op, example.tensors, forward, example.cotangent, True)
    every = native.conv_bn_act_grad(**arguments, **attrs)
    others = native.conv_bn_act_grad(**arguments, **attrs, input_gradient=False)
    assert set(others) == set(every) - {"dx"}
    assert all(np.array_equal(values, every[name]) for name, values in others.items())
