# SPDX-License-Identifier: Apache-2.0
"""The kernels' text, run by the emulator on the CPU, against the float64 reference. No statement about a GPU."""

from __future__ import annotations

import itertools
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from tests.cases import (
    ALL,
    ATTENTION,
    OPS,
    SELECT,
    SELECTIVE_KERNEL,
    SK_CONV,
    AttentionCase,
    Example,
    SkConvCase,
    Tensors,
    assert_close,
    both_passes,
    cast,
    flat,
    gradient_arguments,
    make_example,
    mode,
    modes,
)
from tests.cuda import build
from tests.cuda.conftest import DEVICES
from tests.cuda.emulated import Emulated, cuda_native, from_storage, to_storage
from tests.cuda.units import UNITS

OUTPUT = 3e-5
GRADIENT = 5e-4
CASES = [case for case in ALL if case.op not in ("conv_bn_act", "max_pool")]  # these are cuDNN's
LAYOUTS = cuda_native().LAYOUTS

# Where tensor cores are asked for: 16 and 32 channels a group, both directions, tiles that end in the map.
TENSOR = [
    SkConvCase("16 channels a group", 2, 32, (9, 11), 32, groups=2),
    SkConvCase("16 channels a group strided", 2, 32, (9, 8), 32, groups=2, stride=2),
    SkConvCase("32 channels a group", 2, 64, (7, 7), 64, groups=2),
    SkConvCase("32 channels a group into 16", 1, 64, (5, 7), 32, groups=2),
    SkConvCase("three split branches", 1, 96, (7, 5), 32, (3, 3, 1), (1, 2, 1), groups=1, split_input=True),
    SkConvCase("a unit", 3, 32, (7, 7), 32, groups=2, op="selective_kernel"),
]
# Every way that the SIMT kernels tile: 4 to 12 channels a group, dilations 1 to 3, both strides.
DILATED = [
    SkConvCase("4 channels a group dilated by 1 to 3", 2, 16, (9, 11), 16, (3, 3, 3), (1, 2, 3), groups=4),
    SkConvCase("8 channels a group dilated by 1 to 3 strided", 2, 16, (9, 10), 16, (3, 3, 3), (1, 2, 3), 2, groups=2),
    SkConvCase("12 channels a group dilated by 1 to 3", 1, 24, (7, 9), 24, (3, 3, 3), (1, 2, 3), 2, groups=2),
    SkConvCase("3 channels into 4 a group", 2, 12, (7, 9), 16, groups=4),
]
SIXTEEN_BITS = [
    *TENSOR,
    *DILATED,
    SkConvCase("4 channels a group", 2, 16, (9, 16), 16, groups=4),
    SkConvCase("direct", 1, 6, (7, 5), 6, groups=2),
    SkConvCase("a unit of 4 channels a group", 3, 16, (8, 8), 16, groups=4, op="selective_kernel"),
]
# More images than the attention's kernels have warps and take together; and positions split among blocks besides.
MANY_IMAGES = [
    AttentionCase("70 images", 70, 5, (1, 2), 2, 3),
    SkConvCase("split among blocks", 20, 4, (12, 13), 4, c_reduced=64, op="selective_kernel"),
]
# Means over 143 positions differ so little between images that rounded maps change the hidden layer's deviation.
ROUNDED_UNITS = [case for case in UNITS if case.why != "64 channels"]
BOTH = [{"layout": layout} for layout in LAYOUTS]
INSIDE = {"layout": "nchw", "inside": "nhwc"}


@pytest.mark.parametrize("case, training", modes([*CASES, *DILATED]))
def test_against_reference(case: Any, training: bool, device: str, emulated: Emulated, native: ModuleType) -> None:
    example = make_example(case, native, training)
    outputs, gradients = both_passes(emulated, example, training, np.float32)
    expected, expected_gradients = both_passes(native, example, training, np.float64, backend="reference")
    assert_close(outputs, expected, OUTPUT)
    assert_close(gradients, expected_gradients, GRADIENT, floor=1e-2)


@pytest.mark.parametrize("case, training", modes([*CASES, *DILATED]))
def test_channels_last(case: Any, training: bool, native: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same with maps in NHWC; every other case on the other device, since both would take twice as long."""
    device = sorted(DEVICES)[len(str(case)) % len(DEVICES)]
    monkeypatch.setenv("SKNET_OPS_EMU_DEVICE", DEVICES[device])
    example = make_example(case, native, training)
    outputs, gradients = both_passes(Emulated(layout="nhwc"), example, training, np.float32)
    expected, expected_gradients = both_passes(native, example, training, np.float64, backend="reference")
    assert_close(outputs, expected, OUTPUT)
    assert_close(gradients, expected_gradients, GRADIENT, floor=1e-2)


@pytest.mark.parametrize("case, training", modes([*UNITS, *(c for c in CASES if c.op == "selective_kernel")]))
def test_channels_last_inside(
    case: Any, training: bool, device: str, native: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Maps in NCHW, the branches between the kernels in NHWC."""
    example = make_example(case, native, training)
    outputs, gradients = both_passes(Emulated(**INSIDE), example, training, np.float32)
    expected, expected_gradients = both_passes(native, example, training, np.float64, backend="reference")
    assert_close(outputs, expected, OUTPUT)
    assert_close(gradients, expected_gradients, GRADIENT, floor=1e-2)


@pytest.mark.parametrize("case, training", modes(MANY_IMAGES))
def test_many_images(
    case: Any, training: bool, emulated: Emulated, native: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a device of eight multiprocessors: more blocks than images, fewer warps than images for a hidden value."""
    monkeypatch.setenv("SKNET_OPS_EMU_DEVICE", "90 8 232448")
    example = make_example(case, native, training)
    outputs, gradients = both_passes(emulated, example, training, np.float32)
    expected, expected_gradients = both_passes(native, example, training, np.float64, backend="reference")
    assert_close(outputs, expected, OUTPUT)
    assert_close(gradients, expected_gradients, GRADIENT, floor=1e-2)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("case, shared_bytes", [(DILATED[0], 5200), (DILATED[1], 7200), (TENSOR[1], 9200)], ids=str)
def test_tiles_narrower_than_the_map(
    case: SkConvCase, shared_bytes: int, layout: str, native: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With so little shared memory that no row of the map fits as a whole in every direction."""
    monkeypatch.setenv("SKNET_OPS_EMU_DEVICE", f"75 2 {shared_bytes}")
    compare(Emulated(layout=layout), make_example(case, native, True), True, native, OUTPUT, GRADIENT)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_offsets_beyond_32_bits(layout: str, rng: np.random.Generator) -> None:
    """More than 2^31 values in x, of which a large stride reads few; untouched memory takes no room."""
    n, c, size, stride = 3, 8, 9500, 1357
    assert n * c * size * size > 2**31 and (size - 1) % stride == 0
    module, order = cuda_native(), cuda_native().CHANNELS_LAST[4] if layout == "nhwc" else (0, 1, 2, 3)
    shape = (n, c, size, size)
    memory = np.zeros(tuple(shape[order.index(i)] for i in range(4)), np.float16)
    x = memory.transpose(order)
    read = x[:, :, ::stride, ::stride]
    read[...] = rng.integers(-8, 9, read.shape)
    weight = rng.integers(-4, 5, (4, c, 1, 1)).astype(np.float32)
    norm = {name: [np.full(4, value, np.float32)] for name, value in
            (("gamma", 1), ("beta", 0), ("moving_mean", 0), ("moving_variance", 1))}  # fmt: skip
    library = module.Library(build.library("sknet_ops_cuda_emulated"), lambda s, dtype: np.empty(s, dtype))
    u = library.sk_conv(x=x, weight=[weight], **norm, padding=[0], dilation=[1], stride=stride, relu=False, eps=0.0)[
        "u"
    ]
    exact = np.einsum("ncyx,oc->noyx", read.astype(np.float64), weight[..., 0, 0])
    assert np.array_equal(u[:, 0], exact)


@pytest.mark.parametrize("storage", ["float32", "float16"])
@pytest.mark.parametrize("case", [TENSOR[0], TENSOR[-1], DILATED[0]], ids=str)
def test_tensors_that_start_anywhere(case: SkConvCase, storage: str, native: ModuleType) -> None:
    """A tensor's start need be aligned to its values alone; then nothing is read in packs."""
    for layout, inside in cuda_native().ARRANGEMENTS.values():
        module = Emulated(storage, layout=layout, inside=inside, shift=1)
        example = rounded_example(make_example(case, native, True), storage)
        tolerance = 3e-4 if storage == "float32" else 2e-3
        compare(module, example, True, native, tolerance, tolerance)


def rounded_example(example: Example, storage: str) -> Example:
    """With maps that the storage type holds exactly."""

    def rounded(array: np.ndarray) -> np.ndarray:
        return from_storage(to_storage(array.astype(np.float32), storage), storage).astype(np.float64)

    maps = {name: rounded(example.tensors[name]) for name in ("x", "u") if name in example.tensors}
    return Example(example.case, {**example.tensors, **maps}, rounded(example.cotangent))


def compare(
    module: Emulated, example: Example, training: bool, native: ModuleType, tolerance: float, gradient: float
) -> None:
    """Forward from the same inputs; gradients from the same saved tensors, so that both see the same open ReLUs."""
    op: Any = OPS[example.case.op]
    attrs: Tensors = {**example.case.attrs(), **mode(op, training)}
    forward = getattr(module, op.name)(**cast(example.tensors, np.float32), **attrs)
    expected = getattr(native, op.name)(**cast(example.tensors, np.float64), **attrs, backend="reference")
    assert_close(flat(forward), flat(expected), tolerance)
    arguments = gradient_arguments(op, example.tensors, forward, example.cotangent, training)
    got = getattr(module, op.name + "_grad")(**cast(arguments, np.float32), **attrs)
    exact = getattr(native, op.name + "_grad")(**cast(arguments, np.float64), **attrs, backend="reference")
    assert_close(flat(got), flat(exact), gradient, floor=1e-2)


# Unit of the last place, relative to the largest value: 2^-11 and 2^-8; a few of them add up.
@pytest.mark.parametrize("storage, tolerance", [("float16", 2e-3), ("bfloat16", 1.6e-2)])
@pytest.mark.parametrize("case, layout", [
    *itertools.product(SIXTEEN_BITS, BOTH), *itertools.product(ROUNDED_UNITS, (INSIDE,)),
], ids=str)  # fmt: skip
def test_sixteen_bits(
    case: SkConvCase, layout: dict[str, str], storage: str, tolerance: float, native: ModuleType
) -> None:
    module = Emulated(storage, **layout)
    example = rounded_example(make_example(case, native, True), storage)
    compare(module, example, True, native, tolerance, tolerance)
    # In inference z is computed anew, rounded: without ReLU no rounding can close one.
    linear = SkConvCase(**{**case.__dict__, "relu": False})
    example = rounded_example(make_example(linear, native, False), storage)
    compare(module, example, False, native, tolerance, 2 * tolerance)


@pytest.mark.parametrize("storage, tolerance", [("float16", 2e-3), ("bfloat16", 1.6e-2)])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("case, training", modes([*ATTENTION, *SELECT]))
def test_attention_in_sixteen_bits(
    case: AttentionCase, training: bool, layout: str, storage: str, tolerance: float, native: ModuleType
) -> None:
    """Alone, as layers with frozen norms call them; attention itself is float32 whatever the maps are."""
    example = rounded_example(make_example(case, native, training), storage)
    output = OUTPUT if case.op == "sk_attention" else tolerance
    compare(Emulated(storage, layout=layout), example, training, native, output, tolerance)


@pytest.mark.parametrize("case, layout", [
    *itertools.product(TENSOR, BOTH), *itertools.product(ROUNDED_UNITS[-1:], (INSIDE,)),
], ids=str)  # fmt: skip
def test_tf32(case: SkConvCase, layout: dict[str, str], native: ModuleType) -> None:
    module = Emulated(tf32=True, **layout)
    linear = SkConvCase(**{**case.__dict__, "relu": False})
    example = make_example(linear, native, False)
    compare(module, make_example(case, native, True), True, native, 2e-3, 2e-3)
    compare(module, example, False, native, 2e-3, 4e-3)


@pytest.mark.parametrize("case", [SK_CONV[1], SELECTIVE_KERNEL[2], SELECTIVE_KERNEL[10], UNITS[0], UNITS[3]], ids=str)
@pytest.mark.parametrize("layout, inside", cuda_native().ARRANGEMENTS.values())
@pytest.mark.parametrize("storage", ["float32", "float16"])
def test_order_of_threads_changes_no_bit(
    case: SkConvCase, storage: str, layout: str, inside: str, native: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A missing barrier, or a sum whose order is left to chance, would show."""
    example, module = make_example(case, native, True), Emulated(storage, layout=layout, inside=inside)

    def run() -> Tensors:
        op, attrs = OPS[case.op], {**case.attrs(), "training": True}
        tensors = cast(example.tensors, np.float32)
        forward = getattr(module, op.name)(**tensors, **attrs)
        arguments = gradient_arguments(op, tensors, forward, example.cotangent.astype(np.float32), True)
        return {**flat(forward), **flat(getattr(module, op.name + "_grad")(**arguments, **attrs)), **flat(tensors)}

    ahead = run()
    again = run()
    monkeypatch.setenv("SKNET_OPS_EMU_ORDER", "reverse")
    reverse = run()
    for name, array in ahead.items():
        assert array.tobytes() == again[name].tobytes(), name
        assert array.tobytes() == reverse[name].tobytes(), name


@pytest.mark.parametrize("offset", [1e3, -1e5])
def test_statistics_far_from_zero(offset: float, emulated: Emulated, rng: np.random.Generator) -> None:
    """A mean far larger than the deviation: a difference of squares would lose the variance."""
    x = (offset + rng.normal(0, 1, (3, 4, 7, 13))).astype(np.float32)
    weight = np.eye(4, dtype=np.float32).reshape(4, 4, 1, 1)  # the convolution rounds nothing
    one, zero = np.ones(4, np.float32), np.zeros(4, np.float32)
    got = emulated.sk_conv(x=x, weight=[weight], gamma=[one], beta=[zero], moving_mean=[zero.copy()],
                           moving_variance=[one.copy()], padding=[0], dilation=[1], training=True)  # fmt: skip
    exact = x.astype(np.float64)
    assert np.array_equal(got["z"][:, 0], x)
    assert np.abs(got["mean"][0] / exact.mean((0, 2, 3)) - 1).max() < 1e-6
    assert np.abs(got["inv_std"][0] * np.sqrt(exact.var((0, 2, 3)) + np.float32(1e-5)) - 1).max() < 1e-3


def test_nan_and_infinity_pass(emulated: Emulated, native: ModuleType) -> None:
    """ReLU lets NaN through; what does not meet it stays what it was."""
    case = SkConvCase("nan", 2, 8, (6, 6), 8, groups=2)
    tensors = cast(make_example(case, native, False).tensors, np.float32)
    tensors["x"][0, 1, 2, 3] = np.nan
    tensors["x"][1, 4, 0, 0] = np.inf
    got = emulated.sk_conv(**cast(tensors, np.float32), **case.attrs())["u"]
    expected = native.sk_conv(**cast(tensors, np.float32), **case.attrs(), backend="reference")["u"]
    assert np.array_equal(np.isnan(got), np.isnan(expected))
    assert np.isnan(got).any()
    finite = np.isfinite(expected)
    assert np.array_equal(got[~finite], expected[~finite], equal_nan=True)
    assert np.abs(got[finite] - expected[finite]).max() < 1e-5


@pytest.mark.parametrize("op", ["sk_conv", "selective_kernel"])
def test_empty_batch(op: str, emulated: Emulated, native: ModuleType, rng: np.random.Generator) -> None:
    """Statistics stay, gradients are zero."""
    case = SkConvCase("empty", 0, 8, (5, 5), 8, groups=2, op=op)
    tensors = cast(case.tensors(rng), np.float32)
    before = cast(tensors, np.float32)
    attrs = {**case.attrs(), "training": True}
    forward = getattr(emulated, op)(**tensors, **attrs)
    assert forward[OPS[op].output].shape[0] == 0
    assert all(np.array_equal(a, b) for a, b in zip(flat(tensors).values(), flat(before).values(), strict=True))
    cotangent = np.zeros(forward[OPS[op].output].shape, np.float32)
    # What an empty batch leaves in the saved statistics is of no account.
    saved = {name: np.nan_to_num(value) for name, value in forward.items()}
    grads = getattr(emulated, op + "_grad")(**gradient_arguments(OPS[op], tensors, saved, cotangent, True), **attrs)
    assert all(not array.any() for name, array in flat(grads).items() if name != "dx")
