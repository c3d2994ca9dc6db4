# SPDX-License-Identifier: Apache-2.0
"""The AKG kernels, compiled and run for real on the CPU by MindSpore's own AKG, against the C++ reference."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor

from sknet_ops import backends
from sknet_ops.backends import akg
from tests.cases import AttentionCase, ConvCase, PoolCase, SkConvCase, modes
from tests.ops.op_cells import CELLS, check_op

TOLERANCE = 1e-4  # in units of the largest value


@pytest.fixture(autouse=True)
def available() -> None:
    reason = akg.why_not()
    if reason is not None:
        pytest.skip(reason)


@pytest.fixture
def backend(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SKNET_OPS_BACKEND", "akg")


# ---- every kernel by itself: of whole numbers every sum is exact, so any wrong sum shows ----

LARGE = [(2, 3, 4, 18), (1, 2, 3, 784), (4, 2, 32, 49), (2, 2, 16, 3136)]
SIZES = [(2, 2, 8, 35), (3, 1, 5, 1), *(pytest.param(size, marks=pytest.mark.long) for size in LARGE)]


def kernel_cases(shape: tuple[int, ...], rng: np.random.Generator) -> dict[str, tuple[np.ndarray, list[np.ndarray]]]:
    """kernel -> (what it has to compute, its inputs)"""
    n, m, c, p = shape
    z, d = rng.integers(-8, 9, (2, *shape)).astype(float)
    dy = rng.integers(-8, 9, (n, c, p)).astype(float)
    a = rng.integers(-3, 4, (n, m, c)).astype(float)
    mean, inv_std, gamma, beta, dbeta, dgamma = norm = rng.integers(-3, 4, (6, m, c)).astype(float)

    def each(v: np.ndarray) -> np.ndarray:
        return v[None, :, :, None]

    xhat = (z - each(mean)) * each(inv_std)
    v = xhat * each(gamma) + each(beta)
    u, is_open = np.maximum(v, 0), v > 0
    four = [z, *norm[:4]]
    return {
        "select": ((u * a[..., None]).sum(1), [u, a]),
        "select_grad_u": (a[..., None] * dy[:, None], [dy, a]),
        "select_grad_a": ((u * dy[:, None]).sum(3), [dy, u]),
        "norm_act": (u, four),
        "norm_act_pool": (u.sum(3), four),
        "norm_act_select": ((u * a[..., None]).sum(1), [*four, a]),
        "norm_act_select_grad_a": ((u * dy[:, None]).sum(3), [dy, *four]),
        "norm_act_grad_v": (d * is_open, [d, *four]),
        "norm_act_pool_grad_v": (a[..., None] * is_open, [a, *four]),
        "norm_act_select_grad_v": (a[..., None] * dy[:, None] * is_open, [dy, a, *four]),
        "pool": (d.sum(3), [d]),
        "pool_grad": (np.broadcast_to(a[..., None], shape), [a, z]),
        "norm_grad_gamma": ((d * xhat).sum(3), [d, z, mean, inv_std]),
        "norm_grad_z": (each(gamma * inv_std) * (d - each(dbeta) - xhat * each(dgamma)),
                        [d, z, mean, inv_std, gamma, dbeta, dgamma]),
    }  # fmt: skip


@pytest.mark.parametrize("shape", SIZES, ids=str)
def test_kernels_are_exact_on_whole_numbers(shape: tuple[int, ...], rng: np.random.Generator) -> None:
    ms.set_context(mode=ms.PYNATIVE_MODE)
    cases = kernel_cases(shape, rng)
    for name, (want, inputs) in cases.items():
        kernel = akg._custom(name, lambda *_, shape=want.shape: shape)
        got = kernel(*[Tensor(v.astype(np.float32)) for v in inputs]).asnumpy()
        np.testing.assert_array_equal(got, want, err_msg=name)
    kernels = {name for name, value in vars(akg._kernels()).items() if callable(value) and name != "kernel"}
    assert kernels == cases.keys()


# ---- the ops through MindSpore ----

CASES = [
    SkConvCase("paper unit 8 channels a group strided", 4, 32, (5, 6), 32, groups=4, stride=2),
    SkConvCase("split unit of three branches", 4, 15, (4, 7), 17, (3, 3, 1), (1, 2, 1), split_input=True,
               op="selective_kernel"),
    AttentionCase("convolution weights", 5, 15, (2, 2), 2, 9, rank_4_weights=True),
    AttentionCase("three branches", 3, 8, (3, 5), 3, op="sk_select"),
    ConvCase("MindSpore's own convolution", 3, 17, (5, 7), 33, kernel=1, padding=0, residual=True),
    PoolCase("MindSpore's own pooling", 2, 3, (9, 7), padding=1),
    PoolCase("MindSpore's own same pooling", 2, 3, (8, 6), same=True),
]  # fmt: skip


@pytest.mark.parametrize("case, training", modes(CASES))
def test_op(case: Any, training: bool, mode: str, backend: None, native: ModuleType) -> None:
    check_op(case, training, native, TOLERANCE, TOLERANCE)


def test_backend_is_selectable(backend: None) -> None:
    assert backends.active_backend() == "akg"


def test_what_is_not_a_number_is_not_lost(backend: None, rng: np.random.Generator) -> None:
    """The kernels' sums leave NaN out; the ops do not."""
    ms.set_context(mode=ms.PYNATIVE_MODE)
    case = SkConvCase("NaN", 2, 8, (4, 4), 8, op="selective_kernel")
    tensors = case.tensors(rng)
    tensors["x"][1, 2, 3, 3] = np.nan
    y = CELLS[case.op](tensors, {**case.attrs(), "training": False})().asnumpy()
    assert np.isnan(y[1]).any() and not np.isnan(y[0]).any()


def test_an_op_without_relu_is_refused_by_name(backend: None, rng: np.random.Generator) -> None:
    ms.set_context(mode=ms.PYNATIVE_MODE)
    case = SkConvCase("no ReLU", 2, 8, (4, 4), 8, relu=False)
    with pytest.raises(NotImplementedError, match="backend akg: sk_conv without ReLU has no AKG kernel"):
        CELLS[case.op](case.tensors(rng), {**case.attrs(), "training": False})()
