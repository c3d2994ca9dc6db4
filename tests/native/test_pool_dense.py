# SPDX-License-Identifier: Apache-2.0
"""pool_dense: the head of a network, on every instruction set against the reference and NumPy in float64."""

from __future__ import annotations

from types import ModuleType

import numpy as np
import pytest

# n, c, h, w, c_out: images by tiles and by themselves, rows by tiles and by themselves, channels with a rest.
SHAPES = [
    (1, 512, 7, 7, 1000),
    (3, 64, 7, 7, 10),
    (4, 33, 2, 4, 37),
    (9, 16, 1, 1, 4),
    (8, 1, 4, 2, 1),
    (2, 7, 8, 8, 3),
]


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_integers_match_bit_for_bit(
    shape: tuple[int, ...], bias: bool, isa: str, native: ModuleType, rng: np.random.Generator
) -> None:
    n, c, h, w, c_out = shape
    x = rng.integers(-3, 4, (n, c, h, w)).astype(np.float32)
    x[..., 0, 0] += -x.sum((2, 3)) % (h * w)  # so that every mean is an integer
    weight = rng.integers(-3, 4, (c_out, c)).astype(np.float32)
    b = rng.integers(-9, 9, c_out).astype(np.float32) if bias else None
    expected = x.sum((2, 3)) / (h * w) @ weight.T + (0 if b is None else b)
    assert np.array_equal(native.pool_dense(x, weight, b, backend="reference")["y"], expected)
    assert np.array_equal(native.pool_dense(x, weight, b, isa=isa)["y"], expected)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_close_to_float64(shape: tuple[int, ...], isa: str, native: ModuleType, rng: np.random.Generator) -> None:
    n, c, h, w, c_out = shape
    x, weight, b = (rng.standard_normal(s) for s in ((n, c, h, w), (c_out, c), c_out))
    expected = x.mean((2, 3)) @ weight.T + b
    doubles = native.pool_dense(x, weight, b, backend="reference")["y"]
    assert np.abs(doubles - expected).max() <= 1e-12 * np.abs(expected).max()
    x, weight, b = (v.astype(np.float32) for v in (x, weight, b))
    y = native.pool_dense(x, weight, b, isa=isa)["y"]
    assert np.abs(y - expected).max() <= 1e-6 * (np.abs(x.mean((2, 3))) @ np.abs(weight.T) + np.abs(b)).max()
    for i in range(n):  # an image's result does not hang on the others
        assert np.array_equal(native.pool_dense(x[i : i + 1], weight, b, isa=isa)["y"][0], y[i])


def test_not_a_number_stays_with_its_image(isa: str, native: ModuleType) -> None:
    x, weight = np.ones((5, 20, 3, 3), np.float32), np.ones((6, 20), np.float32)
    x[2, 4, 1, 1] = np.nan
    x[4, 7, 0, 2] = np.inf
    y = native.pool_dense(x, weight, isa=isa)["y"]
    assert np.isnan(y).all(1).tolist() == [False, False, True, False, False]
    assert np.isinf(y).all(1).tolist() == [False, False, False, False, True]
    assert np.array_equal(y[[0, 1, 3]], np.full((3, 6), 20, np.float32))


def test_empty_batch(isa: str, native: ModuleType) -> None:
    x, weight = np.zeros((0, 3, 2, 2), np.float32), np.zeros((4, 3), np.float32)
    assert native.pool_dense(x, weight, isa=isa)["y"].shape == (0, 4)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (dict(x=np.zeros((2, 3), np.float32)), r"x: got shape \(2, 3\), expected rank 4"),
        (dict(weight=np.zeros((4, 2), np.float32)), r"weight: got shape \(4, 2\), expected shape \(4, 3\)"),
        (dict(weight=np.zeros(3, np.float32)), r"weight: got shape \(3,\), expected rank 2"),
        (dict(bias=np.zeros(3, np.float32)), r"bias: got shape \(3,\), expected shape \(4,\)"),
    ],
    ids=["x", "columns", "rank", "bias"],
)
def test_bad_shapes(changed: dict[str, np.ndarray], message: str, native: ModuleType) -> None:
    arrays = dict(x=np.zeros((2, 3, 4, 4), np.float32), weight=np.zeros((4, 3), np.float32))
    with pytest.raises(ValueError, match=f"pool_dense: {message}"):
        native.pool_dense(**(arrays | changed))
