# SPDX-License-Identifier: Apache-2.0
"""float32 as the sum of three bfloat16: what the products on AMX tiles owe to float32, and where they differ."""

from __future__ import annotations

from types import ModuleType

import numpy as np
import pytest

SHAPES = [(1, 64, 64, 56, 1), (3, 96, 40, 9, 1), (2, 256, 128, 14, 2), (8, 1030, 64, 7, 1)]


@pytest.fixture(autouse=True)
def _amx(native: ModuleType) -> None:
    if (reason := native.cpu_isas()["amx"]) is not None:
        pytest.skip(f"amx: {reason}")


def _pointwise(native: ModuleType, x: np.ndarray, weight: np.ndarray, stride: int, isa: str) -> np.ndarray:
    ones, zeros = np.ones(len(weight), np.float32), np.zeros(len(weight), np.float32)
    norm = (ones, zeros, zeros, ones)
    return native.conv_bn_act(x, weight[:, :, None, None], *norm, stride=stride, eps=0.0, relu=False, isa=isa)["y"]


def _exact(x: np.ndarray, weight: np.ndarray, stride: int) -> np.ndarray:
    return np.einsum("nchw,oc->nohw", x[:, :, ::stride, ::stride].astype(np.float64), weight.astype(np.float64))


def _draw(rng: np.random.Generator, shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    n, c_in, c_out, hw, _ = shape
    return (
        rng.standard_normal((n, c_in, hw, hw), np.float32),
        rng.standard_normal((c_out, c_in), np.float32),
    )


@pytest.mark.parametrize("shape", SHAPES)
def test_no_less_exact_than_vectors(shape: tuple[int, ...], native: ModuleType, rng: np.random.Generator) -> None:
    """The mean square error, against float64, of both ways."""
    x, weight = _draw(rng, shape)
    exact = _exact(x, weight, shape[-1])

    def error(isa: str) -> float:
        return float(np.sqrt(np.mean((_pointwise(native, x, weight, shape[-1], isa) - exact) ** 2)))

    assert error("amx") <= 1.1 * error("avx512")


@pytest.mark.parametrize("shape", SHAPES)
def test_large_integers(shape: tuple[int, ...], native: ModuleType, rng: np.random.Generator) -> None:
    """Factors of more than one bfloat16's 8 bits, sums within float32's 24: bit for bit."""
    n, c_in, c_out, hw, stride = shape
    x = rng.integers(-2047, 2048, (n, c_in, hw, hw)).astype(np.float32)
    weight = np.zeros((c_out, c_in), np.float32)
    terms = rng.integers(0, c_in, (c_out, 2))
    for row, columns in zip(weight, terms, strict=True):
        row[columns] = rng.integers(-2047, 2048, 2)
    assert np.array_equal(_pointwise(native, x, weight, stride, "amx"), _exact(x, weight, stride))


def test_one_factor_of_all_bits(native: ModuleType, rng: np.random.Generator) -> None:
    """Times a power of two a float comes back as it was: none of its three parts is lost."""
    x = rng.standard_normal((1, 64, 16, 16), np.float32) * np.float32(10.0) ** rng.integers(-20, 20, (1, 64, 1, 1))
    weight = np.diag(2.0 ** rng.integers(-6, 7, 64)).astype(np.float32)
    expected = x * np.diag(weight)[None, :, None, None]
    assert np.array_equal(_pointwise(native, x.astype(np.float32), weight, 1, "amx"), expected.astype(np.float32))


@pytest.mark.parametrize("value", [3.4e38, -3.4e38, np.inf, -np.inf, np.nan, np.float32(1e30)])
@pytest.mark.parametrize("where", ["x", "weight"])
def test_values_that_no_bfloat16_holds(value: float, where: str, native: ModuleType, rng: np.random.Generator) -> None:
    """They round to infinity there, and an infinity has no finite rest. The result is that of vectors."""
    x, weight = _draw(rng, (2, 64, 64, 10, 1))
    (x if where == "x" else weight).reshape(-1)[rng.integers(4096)] = value
    got, expected = (_pointwise(native, x, weight, 1, isa) for isa in ("amx", "avx512"))
    if abs(value) == np.float32(1e30):  # fits: the tiles' own result stands
        assert np.isfinite(got).all()
        assert np.allclose(got, expected, rtol=1e-5, atol=1e-5)
    else:
        assert np.array_equal(got, expected, equal_nan=True)


def test_payloads_of_nan(native: ModuleType, rng: np.random.Generator) -> None:
    """Rounding the bits of a NaN must not make a number of it."""
    for bits in (0x7FFFFFFF, 0xFFFFFFFF, 0x7F800001, 0xFF800001, 0x7FC00000, 0x7F80FFFF):
        x, weight = _draw(rng, (1, 64, 64, 8, 1))
        x.view(np.uint32)[0, 7, 3, 3] = bits
        y = _pointwise(native, x, weight, 1, "amx")
        assert np.isnan(y[0, :, 3, 3]).all()
        assert np.isfinite(np.delete(y.reshape(64, 64), 3 * 8 + 3, axis=1)).all()


@pytest.mark.parametrize("tiny", [1.9259302e-34, -3e-36, 1.7e-38, 1e-40, -1.4e-45])
def test_a_tiny_value_stays_by_itself(tiny: float, native: ModuleType, rng: np.random.Generator) -> None:
    """Two terms share 32 bits on a tile. What bfloat16 has no room for must not get into the neighbour's half."""
    x, weight = _draw(rng, (1, 64, 64, 8, 1))
    for channel in range(64):
        x[0, channel, channel // 8, channel % 8] = tiny
    exact = _exact(x, weight, 1)
    got = _pointwise(native, x, weight, 1, "amx")
    assert np.allclose(got, exact, rtol=1e-5, atol=1e-5)
    alone = np.zeros_like(x)
    alone[0, 1::2] = tiny
    assert (
        np.abs(_pointwise(native, alone, weight, 1, "amx")) <= 2 * np.abs(_exact(alone, np.abs(weight), 1)) + 1e-36
    ).all()


def test_weights_that_no_bfloat16_holds_and_many_images(native: ModuleType, rng: np.random.Generator) -> None:
    """The gradient by the input goes by several chunks of images; after one that is not finite all go by vectors."""
    x, weight = _draw(rng, (26, 64, 64, 56, 1))
    weight[0, 0] = np.inf
    ones, zeros = np.ones(64, np.float32), np.zeros(64, np.float32)
    arguments = (x, x, weight[:, :, None, None], ones, zeros, zeros, ones, x)
    got, expected = (native.conv_bn_act_grad(*arguments, relu=False, isa=isa) for isa in ("amx", "avx512"))
    for name, values in expected.items():
        assert np.array_equal(np.isfinite(got[name]), np.isfinite(values)), name
        finite = np.isfinite(values)
        assert np.allclose(got[name][finite], values[finite], rtol=1e-3, atol=1e-3 * np.abs(values[finite]).max()), name


@pytest.mark.parametrize("shape", [(32, 64, 64, 7, 1), (17, 64, 128, 7, 1), (3, 64, 64, 40, 1), (5, 1030, 160, 14, 1)])
def test_threads_do_not_show_in_statistics(shape: tuple[int, ...], native: ModuleType, rng) -> None:
    x, weight = _draw(rng, shape)

    def statistics(threads: int) -> dict[str, np.ndarray]:
        native.set_num_threads(threads)
        ones, zeros = np.ones(len(weight), np.float32), np.zeros(len(weight), np.float32)
        norm = (ones, zeros, zeros.copy(), ones.copy())
        return native.conv_bn_act(x, weight[:, :, None, None], *norm, training=True, isa="amx")

    one = statistics(1)
    for threads in (2, 3, 4):
        for name, values in statistics(threads).items():
            assert np.array_equal(values, one[name]), (threads, name)


def test_tiny_values_vanish_only_below_the_normal_ones(native: ModuleType, rng: np.random.Generator) -> None:
    """Denormal parts and sums count as zero: an error below the smallest normal float, times the other factor."""
    x, weight = _draw(rng, (1, 64, 64, 8, 1))
    x *= np.float32(1e-37)
    got = _pointwise(native, x, weight, 1, "amx").astype(np.float64)
    most = np.abs(weight).sum(axis=1)[None, :, None, None] * np.finfo(np.float32).smallest_normal
    assert (np.abs(got - _exact(x, weight, 1)) <= 3 * most).all()


@pytest.mark.parametrize("shape", SHAPES)
def test_threads_and_batch_do_not_show(shape: tuple[int, ...], native: ModuleType, rng: np.random.Generator) -> None:
    x, weight = _draw(rng, shape)
    native.set_num_threads(1)
    one = _pointwise(native, x, weight, shape[-1], "amx")
    native.set_num_threads(3)
    assert np.array_equal(_pointwise(native, x, weight, shape[-1], "amx"), one)
    assert np.array_equal(_pointwise(native, x[-1:], weight, shape[-1], "amx"), one[-1:])


# n, c_in, c_out, h, w, kernel, stride, padding, dilation, groups: every tap is a product of its own.
STRIDED = [
    (3, 64, 96, 13, 18, 3, 2, 1, 1, 1),
    (2, 64, 64, 12, 9, 3, 2, 2, 2, 1),
    (1, 128, 128, 16, 16, 5, 2, 2, 1, 2),
    (5, 32, 64, 7, 8, 3, 2, 1, 1, 1),
    (2, 32, 160, 16, 13, 3, 3, 1, 1, 1),
    (1, 96, 64, 7, 7, 3, 1, 1, 1, 1),  # too few positions for Winograd's way
]

# The products of Winograd's way, forward, of dx and of dweight: several images or chunks of one at a time, edges.
WINOGRAD = [
    (3, 128, 160, 13, 18, 3, 1, 1, 1, 1),
    (7, 128, 128, 7, 7, 3, 1, 2, 2, 1),
    (1, 256, 128, 40, 37, 3, 1, 1, 1, 1),
    (2, 256, 320, 12, 19, 3, 1, 1, 1, 2),
    (4, 160, 128, 17, 14, 3, 2, 2, 2, 1),
    (3, 128, 128, 15, 16, 3, 1, 0, 1, 1),
    (2, 128, 128, 14, 11, 3, 1, 4, 3, 1),
    (2, 272, 512, 14, 14, 3, 1, 1, 1, 1),
    (1, 64, 128, 61, 50, 3, 1, 1, 1, 1),
    # Weights that no cache holds: input channels in parts, also uneven ones.
    (9, 384, 256, 7, 7, 3, 1, 1, 1, 1),
    (5, 288, 256, 6, 9, 3, 1, 1, 1, 1),
    (4, 512, 160, 7, 7, 3, 1, 2, 2, 1),
    (6, 512, 1024, 5, 8, 3, 1, 1, 1, 2),
    # Few channels: dweight by pieces, of several images or of one, and the other way of stride 2 beside them.
    (19, 64, 64, 14, 9, 3, 1, 1, 1, 1),
    (1, 32, 64, 61, 35, 3, 1, 1, 1, 1),
    (3, 48, 64, 27, 31, 3, 2, 2, 2, 1),
    (2, 64, 32, 33, 30, 3, 1, 3, 3, 1),
]


def _kernel(shape: tuple[int, ...], rng: np.random.Generator) -> tuple[dict[str, np.ndarray], dict[str, int]]:
    n, c_in, c_out, h, w, kernel, stride, padding, dilation, groups = shape
    out = [(size + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1 for size in (h, w)]
    tensors = {
        "x": rng.standard_normal((n, c_in, h, w), np.float32),
        "weight": rng.standard_normal((c_out, c_in // groups, kernel, kernel), np.float32),
        "dy": rng.standard_normal((n, c_out, *out), np.float32),
    }
    return tensors, dict(stride=stride, padding=padding, dilation=dilation, groups=groups)


def _outputs(native: ModuleType, tensors: dict[str, np.ndarray], attrs: dict[str, int], kind: type = np.float32, **of):
    """y, dx and dweight of the convolution alone."""
    x, weight, dy = (tensors[name].astype(kind) for name in ("x", "weight", "dy"))
    ones, zeros = np.ones(len(weight), kind), np.zeros(len(weight), kind)
    norm, attrs = (ones, zeros, zeros, ones), dict(attrs, eps=0.0, relu=False)
    y = native.conv_bn_act(x, weight, *norm, **attrs, **of)["y"]
    gradients = native.conv_bn_act_grad(dy, x, weight, *norm, y, **attrs, **of)
    return y, gradients["dx"], gradients["dweight"]


@pytest.mark.parametrize("shape", WINOGRAD)
def test_winograd_of_integers(shape: tuple[int, ...], native: ModuleType, rng) -> None:
    """The transforms and the products are exact: bit for bit."""
    tensors, attrs = _kernel(shape, rng)
    tensors = {name: rng.integers(-9, 10, values.shape).astype(np.float32) for name, values in tensors.items()}
    exact = _outputs(native, tensors, attrs, np.float64, backend="reference")
    for got, best in zip(_outputs(native, tensors, attrs, isa="amx"), exact, strict=True):
        assert np.array_equal(got, best)


@pytest.mark.parametrize("shape", STRIDED + WINOGRAD)
def test_kernels_are_no_less_exact_than_vectors(shape: tuple[int, ...], native: ModuleType, rng) -> None:
    tensors, attrs = _kernel(shape, rng)
    exact = _outputs(native, tensors, attrs, np.float64, backend="reference")

    def errors(isa: str) -> list[float]:
        made = _outputs(native, tensors, attrs, isa=isa)
        return [float(np.sqrt(np.mean((mine - best) ** 2))) for mine, best in zip(made, exact, strict=True)]

    for tiles, vectors in zip(errors("amx"), errors("avx512"), strict=True):
        assert tiles <= 1.1 * vectors


@pytest.mark.parametrize("value", [3.4e38, np.inf, -np.inf, np.nan])
@pytest.mark.parametrize("where", ["x", "weight", "dy"])
@pytest.mark.parametrize("shape", [STRIDED[0], WINOGRAD[0]])
def test_kernels_of_values_that_no_bfloat16_holds(shape, where: str, value: float, native: ModuleType, rng) -> None:
    tensors, attrs = _kernel(shape, rng)
    values = tensors[where].reshape(-1)
    values[rng.integers(values.size)] = value
    for got, expected in zip(*(_outputs(native, tensors, attrs, isa=isa) for isa in ("amx", "avx512")), strict=True):
        assert np.array_equal(np.isfinite(got), np.isfinite(expected))
        assert np.allclose(got, expected, rtol=1e-4, atol=1e-4, equal_nan=True)


@pytest.mark.parametrize("shape", STRIDED + WINOGRAD)
def test_kernels_of_tiny_values(shape: tuple[int, ...], native: ModuleType, rng) -> None:
    """As test_a_tiny_value_stays_by_itself."""
    tensors, attrs = _kernel(shape, rng)
    tensors["x"][:, ::2, ::3] = -3e-36
    exact = _outputs(native, tensors, attrs, np.float64, backend="reference")
    for got, best in zip(_outputs(native, tensors, attrs, isa="amx"), exact, strict=True):
        assert np.allclose(got, best, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("shape", STRIDED + WINOGRAD)
def test_threads_do_not_show_in_statistics_of_kernels(shape: tuple[int, ...], native: ModuleType, rng) -> None:
    tensors, attrs = _kernel(shape, rng)

    def made(threads: int) -> dict[str, np.ndarray]:
        native.set_num_threads(threads)
        ones, zeros = np.ones(shape[2], np.float32), np.zeros(shape[2], np.float32)
        norm = (ones, zeros, zeros.copy(), ones.copy())
        return native.conv_bn_act(tensors["x"], tensors["weight"], *norm, training=True, isa="amx", **attrs)

    one = made(1)
    for threads in (2, 3, 5):
        for name, values in made(threads).items():
            assert np.array_equal(values, one[name]), (threads, name)
