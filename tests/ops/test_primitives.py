# SPDX-License-Identifier: Apache-2.0
"""The layer below the functions: one primitive a set of attributes, and C++ that checks what Python did not."""

from __future__ import annotations

import copy

import numpy as np
import pytest
from mindspore import Tensor

from sknet_ops import primitives
from sknet_ops.layers import SelectiveKernel
from tests.mindspore_tools import tensor

CONV = dict(
    training=False, residual=False, relu=True, stride=1, padding=1, dilation=1, groups=1, eps=1e-5, momentum=0.1
)


def inputs() -> list[Tensor]:
    return [tensor(np.ones(shape)) for shape in [(1, 4, 5, 5), (4, 4, 3, 3), *[(4,)] * 4]]


def test_made_once_for_the_same_attributes() -> None:
    assert primitives.conv_bn_act(**CONV) is primitives.conv_bn_act(**CONV)
    assert primitives.conv_bn_act(**CONV) is not primitives.conv_bn_act(**{**CONV, "stride": 2})


def test_attributes_are_told_apart(mode: str) -> None:
    """Primitives that share a C entry and input shapes, called in turn."""
    strided, plain = primitives.conv_bn_act(**{**CONV, "stride": 2}), primitives.conv_bn_act(**CONV)
    linear = primitives.conv_bn_act(**{**CONV, "relu": False})
    x, weight, *norm = inputs()
    for _ in range(2):
        assert plain(x, weight, *norm)[0].shape == (1, 4, 5, 5)
        assert strided(x, weight, *norm)[0].shape == (1, 4, 3, 3)
        assert linear(-x, weight, *norm)[0].asnumpy().min() < 0 <= plain(-x, weight, *norm)[0].asnumpy().min()


def test_number_of_inputs(pynative_mode: None) -> None:
    with pytest.raises(RuntimeError, match="conv_bn_act: got 7 inputs, expected 6"):
        primitives.conv_bn_act(**CONV)(*inputs(), inputs()[0])


def test_dtype(pynative_mode: None) -> None:
    x, *others = inputs()
    with pytest.raises(RuntimeError, match="conv_bn_act: weight: got dtype float16, expected float32"):
        primitives.conv_bn_act(**CONV)(x, others[0].astype(np.float16), *others[1:])


def test_shape(pynative_mode: None) -> None:
    x, weight, *norm = inputs()
    with pytest.raises(RuntimeError, match=r"conv_bn_act: gamma: got shape \(5,\), expected \(4,\)"):
        primitives.conv_bn_act(**CONV)(x, weight, tensor(np.ones(5)), *norm[1:])


def test_views_and_unaligned_buffers(pynative_mode: None, rng: np.random.Generator) -> None:
    """Slices start anywhere, transposes are strided, from_numpy shares a buffer aligned to 4 bytes."""
    op = primitives.conv_bn_act(**CONV)
    _, weight, *norm = inputs()
    base = rng.standard_normal(1 + 3 * 4 * 5 * 5).astype(np.float32)
    x = base[1:].reshape(3, 4, 5, 5)
    expected = op(tensor(x.copy()), weight, *norm)[0].asnumpy()
    assert np.array_equal(op(Tensor.from_numpy(x), weight, *norm)[0].asnumpy(), expected)
    assert np.array_equal(op(tensor(base)[1:].reshape(3, 4, 5, 5), weight, *norm)[0].asnumpy(), expected)
    strided = tensor(np.ascontiguousarray(x.transpose(0, 1, 3, 2))).transpose(0, 1, 3, 2)
    assert np.array_equal(op(strided, weight, *norm)[0].asnumpy(), expected)


def test_copies_are_independent(mode: str, rng: np.random.Generator) -> None:
    """deepcopy of a layer shares the primitive, not the parameters."""
    net = SelectiveKernel(4, 8).set_train()
    other = copy.deepcopy(net)
    x = tensor(rng.standard_normal((2, 4, 5, 5)))
    assert np.array_equal(net(x).asnumpy(), other(x).asnumpy())
    net.paths[0].features[1].gamma.set_data(tensor(np.full(8, 3.0)))
    assert not np.array_equal(net(x).asnumpy(), other(x).asnumpy())
    assert other.norm_holders[0] is other.paths[0].features[1]
