# SPDX-License-Identifier: Apache-2.0
"""max_pool adds nothing up in the forward pass: it gives the reference's bits, ties, infinities and NaN included."""

from __future__ import annotations

from types import ModuleType

import numpy as np
import pytest

from tests.cases import POOL, PoolCase, case_id
from tests.conftest import ISAS

VALUES = {
    "normal": lambda rng, shape: rng.normal(0, 1, shape),
    "after ReLU": lambda rng, shape: np.maximum(rng.integers(-3, 3, shape), 0),
    "negative": lambda rng, shape: rng.integers(-5, -2, shape),
    "with infinities": lambda rng, shape: rng.choice([-np.inf, -np.inf, -np.inf, 1, np.inf], shape),
    "with NaN": lambda rng, shape: rng.choice([np.nan, -np.inf, 0, 1, 1, 2], shape),
}


def assert_same(case: PoolCase, x: np.ndarray, isa: str, native: ModuleType, rng: np.random.Generator) -> None:
    attrs = case.attrs()
    expected = native.max_pool(x, **attrs, backend="reference")["y"]
    assert np.array_equal(native.max_pool(x, **attrs, isa=isa)["y"], expected, equal_nan=True), case
    # Integers: whatever order the gradients of one value are added in, the sum is the same.
    dy = rng.integers(1, 9, expected.shape).astype(np.float32)
    gradient = native.max_pool_grad(dy, x, **attrs, backend="reference")["dx"]
    assert np.array_equal(native.max_pool_grad(dy, x, **attrs, isa=isa)["dx"], gradient), case
    assert gradient.sum() == dy.sum()


@pytest.mark.parametrize("values", VALUES)
@pytest.mark.parametrize("case", POOL, ids=case_id)
def test_same_bits(case: PoolCase, values: str, isa: str, native: ModuleType, rng: np.random.Generator) -> None:
    assert_same(case, VALUES[values](rng, (case.n, case.c, *case.hw)).astype(np.float32), isa, native, rng)


@pytest.mark.parametrize("seed", range(10))
def test_random_shapes(seed: int, isa: str, native: ModuleType) -> None:
    rng = np.random.default_rng(seed)
    for _ in range(20):
        kernel = int(rng.choice([2, 3, 3, 3, 5]))
        same = bool(rng.integers(2))
        padding = 0 if same else int(rng.integers(kernel // 2 + 1))
        least = 1 if same else max(1, kernel - 2 * padding)
        hw = tuple(rng.integers(least, 50, 2).tolist())
        case = PoolCase("random", 1, 2, hw, kernel, int(rng.integers(1, 4)), padding, same)
        assert_same(case, rng.integers(-2, 3, (1, 2, *hw)).astype(np.float32), isa, native, rng)


BACKENDS = [{"backend": "reference"}, *({"isa": isa} for isa in ISAS)]


@pytest.mark.parametrize("backend", BACKENDS, ids=lambda backend: next(iter(backend.values())))
def test_which_of_equal_values(backend: dict[str, str], native: ModuleType) -> None:
    """The gradient goes to the first, row by row; to the last NaN where there is one."""
    if reason := native.cpu_isas().get(backend.get("isa")):
        pytest.skip(f"{backend['isa']}: {reason}")

    def places(x: list[list[float]]) -> list[tuple[int, int]]:
        array = np.array(x, np.float32)[None, None]
        dx = native.max_pool_grad(np.ones((1, 1, 1, 1), np.float32), array, kernel=3, stride=2, **backend)["dx"]
        return [tuple(place) for place in np.argwhere(dx[0, 0]).tolist()]

    assert places([[0, 0, 0], [0, 0, 0], [0, 0, 0]]) == [(0, 0)]
    assert places([[0, 1, 2], [2, 1, 2], [2, 2, 2]]) == [(0, 2)]
    assert places([[0, 0, 0], [0, 5, 0], [5, 0, 5]]) == [(1, 1)]
    assert places([[-np.inf] * 3] * 3) == [(0, 0)]
    assert places([[9, np.nan, 9], [np.inf, 0, np.nan], [9, 9, 9]]) == [(1, 2)]


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_which_windows_see_a_value(value: float, isa: str, native: ModuleType) -> None:
    x = np.zeros((1, 1, 9, 70), np.float32)
    x[0, 0, 4, 33] = value
    y = native.max_pool(x, kernel=3, stride=2, padding=1, isa=isa)["y"]
    assert np.argwhere(y != 0)[:, 2:].tolist() == [[2, 16], [2, 17]]


def test_padding_is_no_value(isa: str, native: ModuleType) -> None:
    """Zeros as padding would be the largest here."""
    x = np.full((1, 2, 5, 37), -3, np.float32)
    for attrs in ({"padding": 1}, {"same": True}):
        assert (native.max_pool(x, kernel=3, stride=2, **attrs, isa=isa)["y"] == -3).all()
