# SPDX-License-Identifier: Apache-2.0
"""What would be launched, on which devices: no kernel runs here and no memory is touched."""

from __future__ import annotations

import ctypes
import itertools
import math
import re
from dataclasses import replace
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from tests.cuda import build
from tests.cuda.emulated import Emulated, cuda_native

ARRANGEMENTS, LAYOUTS, STORAGE = (
    tuple(cuda_native().ARRANGEMENTS.values()),
    cuda_native().LAYOUTS,
    tuple(cuda_native().STORAGE),
)

# capability, multiprocessors, shared memory of a block
DEVICES = {"sm_75": (75, 40, 64 << 10), "sm_80": (80, 108, 163 << 10), "sm_86": (86, 68, 99 << 10),
           "sm_90": (90, 132, 227 << 10)}  # fmt: skip
# Channels, map, stride: every SK unit of the paper's SKNet-50, groups 32, with 4 to 32 channels a group.
UNITS = [(128, 56, 1), (256, 56, 2), (256, 28, 1), (512, 28, 2), (512, 14, 1), (1024, 14, 2), (1024, 7, 1)]


def unit(channels: int, size: int, stride: int, *, batch: int = 32, groups: int = 32, training: bool = True,
         grad: bool = False, storage: str = "float32", branches: int = 2) -> dict[str, Any]:  # fmt: skip
    """Shapes of one call of selective_kernel."""

    def floats(*shape: int) -> tuple:
        return shape, "float32"

    out, d = (size - 1) // stride + 1, max(channels // 16, 32)
    shapes = {
        "x": ((batch, channels, size, size), storage),
        "weight": [floats(channels, channels // groups, 3, 3)] * branches,
        "fc_reduce": floats(d, channels),
        "fc_select": floats(branches * channels, d),
    }
    for name in ("gamma", "beta", "moving_mean", "moving_variance"):
        shapes[name] = [floats(channels)] * branches
        shapes["attn_" + name] = floats(d)
    if grad:
        shapes["dy"] = (batch, channels, out, out), storage
        shapes["attention"] = floats(batch, branches, channels)
    if grad and training:
        shapes["z"] = (batch, branches, channels, out, out), storage
        shapes.update(mean=floats(branches, channels), inv_std=floats(branches, channels),
                      pooled=floats(batch, channels), hidden=floats(batch, d), attn_mean=floats(d),
                      attn_inv_std=floats(d))  # fmt: skip
    dilation = [m + 1 for m in range(branches)]
    return {**shapes, "stride": stride, "groups": groups, "dilation": dilation, "padding": dilation,
            "training": training}  # fmt: skip


@pytest.fixture(scope="module")
def library() -> Any:
    return Emulated().library


def plan(library: Any, device: str, arguments: dict[str, Any], op: str = "selective_kernel", **more: Any) -> Any:
    capability, multiprocessors, shared_bytes = DEVICES[device]
    return library.plan(op, capability=capability, multiprocessors=multiprocessors, shared_bytes=shared_bytes,
                        **arguments, **more)  # fmt: skip


def kernels(plan: Any) -> list[str]:
    return [name for name, _, _ in plan.launches]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("layout, inside", ARRANGEMENTS)
@pytest.mark.parametrize("shape", UNITS, ids=str)
@pytest.mark.parametrize("batch", [1, 32, 256])
def test_launch_counts_and_limits(
    device: str, layout: str, inside: str, shape: tuple[int, int, int], batch: int, library: Any
) -> None:
    for storage in STORAGE:
        training = plan(library, device, unit(*shape, batch=batch, storage=storage), layout=layout, inside=inside)
        assert len(training.launches) <= 4
        inference = plan(
            library, device, unit(*shape, batch=batch, storage=storage, training=False), layout=layout, inside=inside
        )
        assert len(inference.launches) <= 3
        backward = plan(library, device, unit(*shape, batch=batch, storage=storage, grad=True),
                        op="selective_kernel_grad", layout=layout, inside=inside)  # fmt: skip
        assert len(backward.launches) <= 6
        _, multiprocessors, shared_bytes = DEVICES[device]
        for name, blocks, shared in (*training.launches, *inference.launches, *backward.launches):
            assert 0 < blocks < 2**31, name
            assert shared <= shared_bytes, name
            assert "direct" not in name, f"{name}: the shapes of the paper have tiles"
            if batch == 256 and name.startswith("conv"):
                assert blocks >= 0.8 * multiprocessors, f"{name}: {blocks} blocks leave the device idle"
            if name.startswith("conv") and batch == 256 and device == "sm_90":  # which holds more blocks than tiles
                by_registers = 3 if "_simt" in name else 2
                if name.startswith("conv_weight_grad") and (name != "conv_weight_grad_simt4" or inside == "nhwc"):
                    by_registers = 2
                # The system takes 1 KB beside each block.
                at_once = min(by_registers, (shared_bytes + 1024) // (shared + 1024))
                assert blocks <= at_once * multiprocessors, f"{name}: {blocks} blocks are more than run at once"


@pytest.mark.parametrize("channels", [4, 8, 12, 16, 24, 32])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("layout, inside", ARRANGEMENTS)
def test_groups_of_4_to_32_channels_have_tiles(
    channels: int, stride: int, layout: str, inside: str, library: Any
) -> None:
    """With dilations 1 to 3, on every device, in every type."""
    for device, storage, (groups, size) in itertools.product(DEVICES, STORAGE, ((32, 28), (2, 13))):
        shape = channels * groups, size, stride
        forward = plan(
            library, device, unit(*shape, groups=groups, branches=3, storage=storage), layout=layout, inside=inside
        )
        backward = plan(library, device, unit(*shape, groups=groups, branches=3, storage=storage, grad=True),
                        "selective_kernel_grad", layout=layout, inside=inside)  # fmt: skip
        convs = [name for name in kernels(forward) + kernels(backward) if name.startswith("conv")]
        assert len(convs) == 3 and not any(name.endswith("direct") for name in convs), (device, storage, shape, convs)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("layout, inside", ARRANGEMENTS)
@pytest.mark.parametrize("shape", UNITS, ids=str)
def test_tensor_cores_where_they_are_asked_for(
    device: str, layout: str, inside: str, shape: tuple[int, int, int], library: Any
) -> None:
    """16 channels a group or more, from compute capability 8.0 on; float32 only if told so."""
    wide = shape[0] // 32 >= 16 and DEVICES[device][0] >= 80
    for storage, tf32, expected in (("float16", False, wide), ("bfloat16", False, wide), ("float32", True, wide),
                                    ("float32", False, False)):  # fmt: skip
        how = {"tf32": tf32, "layout": layout, "inside": inside}
        forward = plan(library, device, unit(*shape, storage=storage), **how)
        backward = plan(library, device, unit(*shape, storage=storage, grad=True), "selective_kernel_grad", **how)
        convs = [name for name in kernels(forward) + kernels(backward) if name.startswith("conv")]
        assert len(convs) == 3
        assert [name.endswith("_tensor") for name in convs] == [expected] * 3, (storage, tf32, convs)


@pytest.mark.parametrize("code", [75, 80])
def test_tensor_cores_need_code_that_has_them(code: int, library: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A device of today that runs what was compiled for an older one."""
    monkeypatch.setenv("SKNET_OPS_EMU_DEVICE", f"90 132 232448 {code}")
    planned = library.plan("selective_kernel", **unit(*UNITS[-1], storage="float16"), capability=0)
    assert kernels(planned)[0].endswith("_tensor") == (code >= 80)


def test_what_no_tile_fits_runs_directly(library: Any) -> None:
    """Odd channels, or a dense convolution of hundreds: right, not fast."""
    for arguments in (unit(15, 13, 1, groups=1), unit(512, 28, 1, groups=1)):
        assert kernels(plan(library, "sm_75", arguments))[0] == "conv_forward_direct"


def test_order_of_kernels(library: Any) -> None:
    shape = UNITS[0]
    assert kernels(plan(library, "sm_90", unit(*shape))) == ["conv_forward_simt4", "pool", "hidden", "select"]
    assert kernels(plan(library, "sm_90", unit(*shape, training=False))) == ["conv_forward_simt4", "hidden", "select"]
    assert kernels(plan(library, "sm_90", unit(*shape, grad=True), "selective_kernel_grad")) == [
        "gate", "hidden_grad", "channel_grad", "conv_input_grad_simt4", "conv_weight_grad_simt4", "sum_slots",
    ]  # fmt: skip
    # Inference kept nothing: z, the pooled values and the hidden layer come first.
    again = plan(library, "sm_90", unit(*shape, grad=True, training=False), "selective_kernel_grad")
    assert kernels(again)[:3] == ["conv_forward_simt4", "pool", "hidden"]
    assert len(again.launches) == 9


@pytest.mark.parametrize("layout, inside", ARRANGEMENTS)
def test_tensors_beyond_32_bits(layout: str, inside: str, library: Any) -> None:
    """5.9e9 values in z: counts are 64-bit, and the scratch of training holds no copy of a map but a turned dy."""
    arguments = unit(128, 56, 1, batch=7400)
    assert math.prod(arguments["x"][0]) * 2 > 2**32
    wanted = plan(library, "sm_90", arguments, layout=layout, inside=inside)
    assert all(blocks < 2**31 for _, blocks, _ in wanted.launches)
    assert wanted.scratch_bytes < 1 << 30
    kept = plan(library, "sm_90", unit(128, 56, 1, batch=7400, training=False), layout=layout, inside=inside)
    assert kept.scratch_bytes > 7400 * 2 * 128 * 56 * 56 * 4  # u
    backward = plan(library, "sm_90", unit(128, 56, 1, batch=7400, grad=True), "selective_kernel_grad", layout=layout,
                    inside=inside)  # fmt: skip
    turned = 7400 * 128 * 56 * 56 * 4 if layout != inside else 0
    assert turned <= backward.scratch_bytes < turned + (1 << 30)


def test_maps_that_cannot_be_numbered(library: Any) -> None:
    with pytest.raises(ValueError, match="selective_kernel: map: got 50000 x 50000, expected"):
        plan(library, "sm_90", unit(4, 50000, 1, groups=1, batch=1))
    # 2^31 positions fit into 32 bits, the step of a loop that leads past them does not.
    maps = {"u": ((1, 2, 4, 46340, 46340), "float16"), "attention": ((1, 2, 4), "float32")}
    with pytest.raises(ValueError, match="sk_select: map: got 46340 x 46340, expected at most 2146435072 positions"):
        plan(library, "sm_90", maps, "sk_select", layout="nhwc")


@pytest.mark.parametrize("change, message", [
    ({"stride": 0}, "stride: got 0"),
    ({"padding": [1]}, "padding: got 1 values, expected 2"),
    ({"fc_reduce": ((32, 127), "float32")}, r"fc_reduce: got shape \(32, 127\)"),
    ({"groups": 3}, "groups: got 3"),
])  # fmt: skip
def test_bad_arguments_are_named(change: dict[str, Any], message: str, library: Any) -> None:
    with pytest.raises(ValueError, match="selective_kernel: " + message):
        plan(library, "sm_90", {**unit(*UNITS[0]), **change})


class _Torch:
    """What is asked of a tensor of PyTorch's."""

    dtype = "torch.float32"
    is_cuda = False

    def __init__(self, array: np.ndarray, device: str) -> None:
        self.array, self.shape, self.device = array, array.shape, device

    def data_ptr(self) -> int:
        return self.array.ctypes.data

    def stride(self) -> tuple[int, ...]:
        return tuple(step // self.array.itemsize for step in self.array.strides)


_Torch.__module__ = "torch"


def test_tensors_lie_where_the_kernels_run() -> None:
    """Else a kernel would follow a pointer to elsewhere. NumPy's arrays are where the emulator computes."""
    module = cuda_native()
    library = module.Library(build.library("sknet_ops_cuda_emulated"), np.empty)
    u, attention = np.ones((2, 2, 4, 3, 3), np.float32), np.ones((2, 2, 4), np.float32)
    assert library.sk_select(u=u, attention=attention)["y"].tolist() == np.full((2, 4, 3, 3), 2.0).tolist()
    elsewhere = replace(module.as_tensor("attention", attention), device="cuda:1")
    with pytest.raises(ValueError, match="sk_select: attention: got a tensor on cuda:1, expected one on cpu"):
        library.sk_select(u=u, attention=elsewhere)
    library.device_kind = "cuda"
    with pytest.raises(ValueError, match="sk_select: u: got a tensor on cpu, expected one on cuda"):
        library.sk_select(u=u, attention=attention)
    with pytest.raises(ValueError, match="sk_select: attention: got a tensor on cuda:1, expected cuda:0, where u is"):
        library.sk_select(u=replace(module.as_tensor("u", u), device="cuda:0"), attention=elsewhere)
    both = {"u": replace(module.as_tensor("u", u), device="cuda:1"), "attention": elsewhere}
    with pytest.raises(ValueError, match="sk_select: u: got a tensor on cuda:1, expected cuda:0, the current device"):
        library.sk_select(**both)
    for device in ("cpu", "meta"):
        with pytest.raises(ValueError, match=f"sk_select: u: got a tensor on {device}, expected one on cuda"):
            library.sk_select(u=_Torch(u, device), attention=_Torch(attention, device))
    with pytest.raises(ValueError, match="sk_select: attention: got a tensor on cuda:1, expected cuda:0, where u is"):
        library.sk_select(u=_Torch(u, "cuda:0"), attention=_Torch(attention, "cuda:1"))
    with pytest.raises(ValueError, match="sk_select: y: got a tensor on cpu, expected one on cuda"):
        library.sk_select(u=_Torch(u, "cuda:0"), attention=_Torch(attention, "cuda:0"))


@pytest.mark.parametrize("branches, channels", [(3, 4032), (3, 4064), (3, 4096), (2, 6144), (4, 3072), (2, 6176)])
def test_memory_that_a_kernel_has_anyway_counts(branches: int, channels: int, library: Any) -> None:
    """hidden_grad has 64 bytes for its sums beside what the launch gives it; 48 KB are to be had without asking."""
    arguments = unit(channels, 7, 1, branches=branches, batch=2, groups=channels // 8, grad=True)
    launches = plan(library, "sm_90", arguments, "selective_kernel_grad").launches
    (staged,) = [shared for name, _, shared in launches if name == "hidden_grad"]
    wanted = 4 * branches * channels
    assert staged == (wanted if wanted + 64 <= 48 << 10 else 0)


def test_bad_types_are_named(library: Any) -> None:
    arguments = unit(*UNITS[0])
    with pytest.raises(TypeError, match=r"selective_kernel: maps: got float64, expected one of float32"):
        plan(library, "sm_90", {**arguments, "x": (arguments["x"][0], "float64")})
    with pytest.raises(TypeError, match=r"selective_kernel: weight\[0\]: got float16, expected float32"):
        plan(library, "sm_90", {**arguments, "weight": [(arguments["weight"][0][0], "float16")] * 2})
    with pytest.raises(TypeError, match="selective_kernel: missing argument fc_select"):
        plan(library, "sm_90", {**arguments, "fc_select": None})
    with pytest.raises(TypeError, match="unexpected arguments \\['bias'\\]"):
        plan(library, "sm_90", {**arguments, "bias": ((1,), "float32")})


def test_preferred_layout(library: Any) -> None:
    """One answer for every shape, of the row with the most channels that the shape has."""
    table = (build.ROOT / "csrc" / "cuda" / "preferred_layout.h").read_text()
    found = re.findall(r'\{"(\w+)", (\d+), (true|false), (true|false)\}', table)
    rows = {(name, int(channels)): [LAYOUTS[flag == "true"] for flag in flags] for name, channels, *flags in found}
    for precision, channels in itertools.product(("tf32", *STORAGE), (1, 4, 8, 16, 17, 32, 512)):
        of_precision = {least: both for (name, least), both in rows.items() if name == precision}
        expected = of_precision[max(least for least in of_precision if least <= channels)]
        asked = channels, "float32" if precision == "tf32" else precision, precision == "tf32"
        assert [library.preferred_layout(*asked), library.inside_layout(*asked)] == expected


def test_z_lies_as_asked_or_as_the_table_says(library: Any) -> None:
    """And its gradient op takes it as it lies."""

    def stacked(layout: str) -> Any:
        return real((2, 2, 8, 3, 3)) if layout == "nchw" else np.moveaxis(real((2, 2, 3, 3, 8)), -1, 2)

    def real(shape: tuple[int, ...]) -> Any:
        return np.zeros(shape, np.float32)

    def tensors(**more: Any) -> dict[str, Any]:
        shapes = unit(8, 3, 1, batch=2, groups=2, **more)
        return {name: [real(item[0]) for item in value] if name in ("weight", "gamma", "beta", "moving_mean",
                "moving_variance") else real(value[0]) if isinstance(value, tuple) else value
                for name, value in shapes.items()}  # fmt: skip

    library = cuda_native().Library(build.library("sknet_ops_cuda_emulated"), np.empty)
    forward, backward = tensors(), tensors(grad=True)
    for asked in (None, *LAYOUTS):
        z = library.selective_kernel(**forward, inside=asked)["z"]
        assert cuda_native().as_tensor("z", z).layouts() == {asked or library.inside_layout(4)}
        assert library.selective_kernel_grad(**{**backward, "z": z})["dx"].shape == (2, 8, 3, 3)
    message = "selective_kernel_grad: z: got NHWC, expected NCHW"
    with pytest.raises(ValueError, match=message):
        library.selective_kernel_grad(**{**backward, "z": stacked("nhwc")}, inside="nchw")
    last = {name: np.moveaxis(real((2, 3, 3, 8)), -1, 1) for name in ("x", "dy")}
    with pytest.raises(ValueError, match="selective_kernel_grad: z: got NCHW, expected NHWC"):
        library.selective_kernel_grad(**{**backward, **last, "z": stacked("nchw")})
    with pytest.raises(ValueError, match="selective_kernel: inside: got 'nchw' with maps in NHWC, expected 'nhwc'"):
        library.selective_kernel(**{**forward, "x": last["x"]}, inside="nchw")
    with pytest.raises(ValueError, match="selective_kernel: inside: got 'chw', expected one of nchw, nhwc"):
        library.selective_kernel(**forward, inside="chw")
    with pytest.raises(TypeError, match="sk_select: unexpected arguments \\['inside'\\]"):
        library.sk_select(u=stacked("nchw"), attention=real((2, 2, 8)), inside="nchw")


def test_z_by_the_environment(library: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for layout in LAYOUTS:
        monkeypatch.setenv("SKNET_OPS_CUDA_INSIDE", layout)
        assert library.inside_layout(4) == layout
    monkeypatch.setenv("SKNET_OPS_CUDA_INSIDE", "NHCW")
    with pytest.raises(ValueError, match="SKNET_OPS_CUDA_INSIDE: got NHCW, expected nchw or nhwc"):
        library.inside_layout(4)


def test_settings_end_with_the_call(library: Any) -> None:
    """Also of one that fails: MindSpore's calls on the thread know of none."""
    small = plan(library, "sm_90", unit(*UNITS[-1])).scratch_bytes
    with pytest.raises(ValueError, match="fc_reduce"):
        plan(library, "sm_90", {**unit(*UNITS[-1], storage="float16"), "fc_reduce": ((3, 3), "float32")}, layout="nhwc")
    call = cuda_native()._Call(library, "selective_kernel", unit(*UNITS[-1]), False, abstract="nchw")
    assert _planned_as_the_thread_stands(library, call) == small


def _planned_as_the_thread_stands(library: Any, call: Any) -> int:
    scratch, lines = ctypes.c_int64(), ctypes.c_char_p()
    with cuda_native()._Attributes(library, call.attrs) as attributes:
        call.infer(attributes)
        library._check(library._library.sknet_ops_cuda_plan(
            b"selective_kernel", attributes, *call.buffers(call.placeholders()), *DEVICES["sm_90"],
            ctypes.byref(scratch), ctypes.byref(lines)))  # fmt: skip
    return scratch.value


def test_layout_comes_from_strides() -> None:
    module = cuda_native()

    def layouts(array: np.ndarray) -> set[str]:
        return module.as_tensor("x", array).layouts()

    def last(*shape: int) -> np.ndarray:
        return np.moveaxis(np.zeros((*shape[:-3], *shape[-2:], shape[-3]), np.float32), -1, -3)

    assert layouts(np.zeros((2, 3, 4, 5), np.float32)) == {"nchw"}
    assert layouts(last(2, 3, 4, 5)) == layouts(last(2, 2, 3, 4, 5)) == {"nhwc"}
    assert layouts(last(2, 1, 4, 5)) == layouts(np.zeros((2, 3, 1, 1), np.float32)) == {"nchw", "nhwc"}
    for gaps in (
        last(2, 8, 4, 5)[:, :4],
        last(2, 3, 4, 5)[..., ::2],
        np.zeros((3, 2, 4, 5), np.float32).swapaxes(0, 1),
    ):
        with pytest.raises(
            ValueError, match="x: got a strided tensor, expected a contiguous one or with channels last"
        ):
            layouts(gaps)


def test_layouts_do_not_mix(library: Any) -> None:
    u, attention = np.zeros((2, 2, 3, 4, 5), np.float32), np.zeros((2, 2, 3), np.float32)
    dy = np.moveaxis(np.zeros((2, 4, 5, 3), np.float32), -1, 1)
    with pytest.raises(ValueError, match="sk_select_grad: maps: got dy in NHWC, u in NCHW, expected all in one layout"):
        library.sk_select_grad(dy=dy, u=u, attention=attention)
    weight = [np.zeros((4, 3, 3, 3), np.float32).transpose(0, 3, 1, 2)]
    rest = {name: [np.zeros(4, np.float32)] for name in ("gamma", "beta", "moving_mean", "moving_variance")}
    with pytest.raises(ValueError, match=r"sk_conv: weight\[0\]: got channels last, expected a contiguous tensor"):
        library.sk_conv(x=np.zeros((1, 3, 4, 4), np.float32), weight=weight, **rest, padding=[1], dilation=[1])


def test_dlpack(native: ModuleType) -> None:
    """Any framework's tensors come in by DLPack; strided ones are refused."""
    module = cuda_native()
    array = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    tensor = module.as_tensor("x", array)
    assert (tensor.pointer, tensor.shape, tensor.dtype) == (array.ctypes.data, (2, 3, 4), "float32")
    assert module.as_tensor("x", array.astype(np.float16)).dtype == "float16"
    with pytest.raises(ValueError, match="x: got a strided tensor"):
        module.as_tensor("x", array[:, ::2])
    with pytest.raises(TypeError, match="x: got list, expected a device tensor"):
        module.as_tensor("x", [1.0])


def test_cupys_arrays_wait_for_no_stream() -> None:
    """Asked without a stream, CuPy orders its own before the default one: an event a tensor, forbidden in a capture."""

    class Array:
        def __init__(self, array: np.ndarray) -> None:
            self.array, self.streams = array, []

        def __dlpack__(self, stream: int | None = None) -> Any:
            self.streams.append(stream)
            return self.array.__dlpack__()

    values, other = Array(np.ones(3, np.float32)), Array(np.ones(3, np.float32))
    assert cuda_native().as_tensor("x", other).shape == (3,)
    Array.__module__ = "cupy"
    assert cuda_native().as_tensor("x", values).pointer == values.array.ctypes.data
    assert (values.streams, other.streams) == ([-1], [None])


def test_scratch_has_to_be_aligned(library: Any) -> None:
    """Kernels read it 16 bytes at a time."""
    settings = 0, 0, 0, 0, 0
    for address, status in ((256, 0), (512 + 16, 1), (0, 0)):
        scratch = ctypes.c_void_p(address), ctypes.c_int64(64)
        assert library._library.sknet_ops_cuda_settings(*settings, *scratch) == status
    assert library._library.sknet_ops_cuda_error() == b"scratch: got an address that is no multiple of 256 bytes"
