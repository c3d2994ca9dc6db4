# SPDX-License-Identifier: Apache-2.0
"""The host's side without CANN: tiling, shape inference, refusals, and counters of real runs against the table."""

from __future__ import annotations

import itertools
import subprocess
import sys

import numpy as np
import pytest

from scripts import ascend_table
from sknet_ops.backends import ascend_sizes
from sknet_ops.backends.ascend_sizes import ConvSizes, Maps
from tests.ascend import emulator
from tests.ascend.device import EmulatedDevice
from tests.ascend.layer_cases import SMALL, STAGES, Case, make


@pytest.mark.parametrize("case", [*SMALL, *STAGES[::3]], ids=str)
def test_shape_inference_agrees_with_python(case: Case, rng: np.random.Generator) -> None:
    """Every call of a layer: what Python allocated is what the operator's inference says."""
    x, dy, w = make(case, "float16", rng)
    device = EmulatedDevice()
    layer = case.layer(True)
    z = layer.forward(device, x, w)["z"]
    layer.backward(device, dy, x, w, z)
    assert {op for op, *_ in device.calls} >= {"sk_conv", "sk_norm_grad", "sk_unpack_weight_grad"}
    for op, shapes, ints, dtype in device.calls:
        assert list(shapes.values()) == emulator.output_shapes(op, ints, (1e-5, 0.1), dtype), op
        assert list(shapes) == emulator.ops()[op][1]


@pytest.mark.parametrize("soc", ascend_sizes.CUBE_CORES)
@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_sizes_of_python_and_of_the_host(soc: str, dtype: str) -> None:
    for n, c, hw, groups in itertools.product((1, 8, 33), (32, 128, 1024), (1, 7, 56), (1, 32)):
        if c // groups < 1 or (c == 32 and groups == 32 and hw == 56):
            continue
        size = ConvSizes(n, c, hw, hw, c, groups, 1, False, (3, 3), (1, 2), (1, 2))
        maps = Maps(n, 2, hw * hw, c)
        statistics = emulator.output_shapes("sk_norm_partial", maps.ints, (), dtype, soc)[0]
        assert statistics == (2, maps.statistics_splits(soc), 2, c)
        shares = emulator.output_shapes("sk_select_grad", maps.ints, (), dtype, soc)[0]
        assert shares == (n, maps.image_splits(soc), 2, c)
        partial = emulator.output_shapes("sk_conv_weight_grad", [*size.ints, 0], (), dtype, soc)[0][0]
        packed = sum(size.packed(m) for m in range(2))
        assert partial == size.weight_grad_splits(soc, dtype) * packed


CONV = dict(n=1, c_in=32, h=8, w=8, c_out=32, groups=1, stride=1, split_input=False, kernel=(3,), padding=(1,),
            dilation=(1,))  # fmt: skip


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(c_out=40), "output channels: got 40, expected a multiple of 16"),
        (dict(c_in=24), "input channels of a branch: got 24, expected a multiple of 16"),
        (dict(groups=3), "groups: got 3, expected a number that divides"),
        (dict(stride=64), "stride: got 64, expected a number in 1..63"),
        (dict(padding=(3,)), "padding: got 3, expected a number in 0..2"),
        (dict(dilation=(256,), padding=(190,)), "dilation: got 256"),
        (dict(kernel=(17,), padding=(8,)), "kernel: got 17, expected a number in 1..15"),
        (dict(w=9000, h=2), "elements of the rows of a tile: got 18000"),
        (dict(n=0), "images: got 0"),
    ],
    ids=str,
)
def test_shapes_that_the_cube_cannot_do_are_refused(change: dict, message: str) -> None:
    size = ConvSizes(**{**CONV, **change})
    with pytest.raises(emulator.Refused, match=message):
        emulator.tiling("sk_conv", [*size.ints, 0])


@pytest.mark.parametrize(
    ("op", "ints", "options", "message"),
    [
        ("sk_select", [2, 2, 9, 20], {}, "channels: got 20, expected a multiple of 16"),
        ("sk_select", [2, 5, 9, 32], {}, "branches: got 5, expected a number in 1..4"),
        ("sk_select", [2, 2, 9, 32], {"dtype": "bfloat16"}, "dtype: got bfloat16, expected float16 or float32"),
        ("sk_select", [2, 2, 9, 32], {"soc": "Ascend310P3"}, "got Ascend310P3, expected one of Ascend910B1"),
        ("sk_select", [2, 2, 9], {}, "sizes: got 3 values, expected at least 4"),
        ("sk_branch_grad", [2, 2, 9, 32, 0, 0, 0], {}, "with_attention, with_pooled: got neither"),
        ("sk_attention_grad", [2, 4, 9, 2048, 1, 64], {}, "channels: got 8192, expected a number in 1..4096"),
        ("sk_everything", [1], {}, "no op named sk_everything"),
    ],
)
def test_other_calls_are_refused(op: str, ints: list[int], options: dict, message: str) -> None:
    with pytest.raises(emulator.Refused, match=message):
        emulator.tiling(op, ints, (1e-5, 0.1), **options)


def test_a_kernel_too_large_for_the_weight_gradient_is_refused() -> None:
    size = ConvSizes(**{**CONV, "kernel": (7,), "padding": (3,)})
    assert emulator.tiling("sk_conv_weight_grad", [*size.ints, 0], (), "float16")
    with pytest.raises(emulator.Refused, match="kernel: got 7, expected a kernel of which 16 positions"):
        emulator.tiling("sk_conv_weight_grad", [*size.ints, 0], (), "float32")


@pytest.mark.parametrize("dtype", ["float16", "float32"])
@pytest.mark.parametrize("case", STAGES[:7:2], ids=str)
def test_counters_of_the_convolution(case: Case, dtype: str, rng: np.random.Generator) -> None:
    """What a run moved and multiplied is what the table's arithmetic says."""
    x, _, w = make(case, dtype, rng)
    device = EmulatedDevice()
    case.layer(False).forward(device, x, w)
    work = ascend_table.conv_work(case.size, dtype)
    assert {name: device.counters["sk_conv"][name] for name in work} == work


@pytest.mark.parametrize("case", STAGES[:7:3], ids=str)
def test_counters_of_the_vector_kernels(case: Case, rng: np.random.Generator) -> None:
    """Maps once in and once out, plus vectors: within 5 % and a few rows for each task."""
    x, dy, w = make(case, "float16", rng)
    device = EmulatedDevice()
    layer = case.layer(True)
    z = layer.forward(device, x, w)["z"]
    forward = {op: dict(counted) for op, counted in device.counters.items()}
    layer.backward(device, dy, x, w, z)
    for op in ascend_table.VECTOR_OPS:
        counted = forward.get(op) or device.counters[op]
        work = ascend_table.rows_work(op, layer.maps, "float16")
        # Vectors of a task, in floats; sk_branch_grad reads the dense layer's weights as well.
        vectors = (40 + 2 * case.reduced) * counted["blocks"] * 64 * 4 * layer.maps.channels // 64
        for name, maps_alone in work.items():
            assert maps_alone <= counted[name] <= 1.05 * maps_alone + vectors, (op, name)


def test_every_kernel_is_in_the_operator_definitions() -> None:
    text = (emulator.ASCEND / "op_host" / "sk_op_defs.cpp").read_text()
    for op in emulator.ops():
        name = "".join(part.capitalize() for part in op.split("_"))
        assert f"SK_OP({name}, {op})" in text
        assert (emulator.ASCEND / "op_kernel" / f"{op}.cpp").is_file()


def test_the_table_of_the_page_is_up_to_date() -> None:
    script = emulator.ROOT / "scripts" / "ascend_table.py"
    done = subprocess.run([sys.executable, str(script), "--check"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
