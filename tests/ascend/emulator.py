# SPDX-License-Identifier: Apache-2.0
"""The Ascend C kernels on the emulated cores: compiled with the host's compiler, called with NumPy arrays.

The library is built once for a state of its sources and kept in SKNET_OPS_EMULATOR_DIR (build/ascend by default).
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import platform
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tests.alone import alone

ROOT = Path(__file__).resolve().parents[2]
ASCEND = ROOT / "csrc" / "ascend"
COUNTERS = ("gm_to_ub", "ub_to_gm", "gm_to_l1", "l1_to_l0a", "l1_to_l0b", "l0c_to_gm", "mmad", "cube_macs", "vector",
            "vector_repeats")  # fmt: skip
FLAGS = [
    "-std=c++17", "-O2", "-fPIC", "-Wall", "-Wextra", "-Werror", "-Wno-unused-parameter", "-ffp-contract=off",
    "-fno-math-errno", "-fexcess-precision=16",
    *(f"-I{ASCEND / folder}" for folder in ("emu", "op_host", "op_kernel")),
    f"-I{ROOT / 'csrc' / 'include'}",
]  # fmt: skip


class KernelFault(Exception):
    """The emulator found the kernel at fault."""


class Refused(ValueError):
    """The tiling refused the call."""


def compiler() -> str:
    return os.environ.get("CXX") or shutil.which("g++") or shutil.which("c++") or "g++"


def flags() -> list[str]:
    # Conversions of half in hardware where x86 has them; the results are the same.
    return [*FLAGS, "-mf16c"] if platform.machine() == "x86_64" else FLAGS


def build_folder() -> Path:
    return Path(os.environ.get("SKNET_OPS_EMULATOR_DIR") or ROOT / "build" / "ascend")


def compile_all(sources: Sequence[Path], target: Path, extra: Sequence[str] = (), jobs: int = 2) -> None:
    """Objects side by side, then a shared library; raises with the compiler's words."""
    objects = [target.with_name(f"{target.stem}-{source.stem}.o") for source in sources]
    pending = list(zip(sources, objects, strict=True))
    running: list[tuple[Path, subprocess.Popen[str]]] = []
    while pending or running:
        while pending and len(running) < jobs:
            source, output = pending.pop(0)
            command = [compiler(), *flags(), *extra, "-c", str(source), "-o", str(output)]
            running.append((source, subprocess.Popen(command, stderr=subprocess.PIPE, text=True)))
        source, process = running.pop(0)
        message = process.communicate()[1]
        if process.returncode:
            raise RuntimeError(f"{source}: does not compile:\n{message}")
    temporary = target.with_suffix(f".{os.getpid()}")
    subprocess.run([compiler(), "-shared", "-o", str(temporary), *map(str, objects)], check=True)
    for output in objects:
        output.unlink()
    temporary.replace(target)


def build(stem: str, sources: Sequence[Path]) -> ctypes.CDLL:
    """The library of these sources, compiled unless one of just this state of all inputs is there."""
    inputs = [*ASCEND.rglob("*"), *(ROOT / "csrc" / "include").rglob("*.h"), *sources]
    state = hashlib.sha256(repr((flags(), compiler())).encode())
    for path in sorted(p for p in inputs if p.is_file()):
        state.update(path.read_bytes())
    folder = build_folder()
    target = folder / f"{stem}-{state.hexdigest()[:16]}.so"
    with alone(folder):
        if not target.exists():
            for old in folder.glob(f"{stem}-*.so"):
                old.unlink(missing_ok=True)
            compile_all(sources, target)
    return ctypes.CDLL(str(target))


@functools.cache
def library() -> ctypes.CDLL:
    """Every kernel, the machine and the host's tiling."""
    return build("libemu", sorted([*(ASCEND / "emu").glob("*.cc"), *(ASCEND / "op_host").glob("*.cc")]))


@functools.cache
def broken_kernels() -> ctypes.CDLL:
    """The kernels of broken_kernels.cc."""
    return build("libbroken", [ASCEND / "emu" / "machine.cc", Path(__file__).with_name("broken_kernels.cc")])


def _pointer(array: np.ndarray | None) -> int | None:
    return None if array is None else array.ctypes.data


def _attributes(op: str, soc: str, dtype: str, ints: Sequence[int], numbers: Sequence[float]) -> tuple:
    return (op.encode(), soc.encode(), dtype.encode(), (ctypes.c_int64 * len(ints))(*ints), ctypes.c_int64(len(ints)),
            (ctypes.c_double * max(1, len(numbers)))(*numbers), ctypes.c_int64(len(numbers)))  # fmt: skip


def _check(status: int, error: ctypes.Array) -> None:
    if status:
        raise (Refused if status == 2 else KernelFault)(error.value.decode())


def output_shapes(
    op: str, ints: Sequence[int], numbers: Sequence[float] = (), dtype: str = "float32", soc: str = "Ascend910B1"
) -> list[tuple[int, ...]]:
    """What the operator's shape inference says."""
    shapes: list[tuple[int, ...]] = []
    error, dims, ndim = ctypes.create_string_buffer(2048), (ctypes.c_int64 * 8)(), ctypes.c_int()
    while True:
        attributes = _attributes(op, soc, dtype, ints, numbers)
        _check(library().emu_shape(*attributes, len(shapes), dims, ctypes.byref(ndim), error, len(error)), error)
        if ndim.value < 0:
            return shapes
        shapes.append(tuple(dims[: ndim.value]))


def tiling(
    op: str, ints: Sequence[int], numbers: Sequence[float] = (), dtype: str = "float32", soc: str = "Ascend910B1"
) -> tuple[bytes, int]:
    """The bytes of a launch's tiling structure, and its blocks."""
    error, data = ctypes.create_string_buffer(2048), ctypes.create_string_buffer(4096)
    used, blocks = ctypes.c_int(), ctypes.c_int()
    attributes = _attributes(op, soc, dtype, ints, numbers)
    _check(library().emu_tiling(*attributes, data, len(data), ctypes.byref(used), ctypes.byref(blocks), error,
                                len(error)), error)  # fmt: skip
    return data.raw[: used.value], blocks.value


def ops() -> dict[str, tuple[list[str], list[str]]]:
    """Every op: names of its inputs and of its outputs."""
    library().emu_op.restype = ctypes.c_char_p
    found, tensors = {}, ctypes.c_char_p()
    while (name := library().emu_op(len(found), ctypes.byref(tensors))) is not None:
        inputs, outputs, _ = tensors.value.decode().split(";")
        found[name.decode()] = (inputs.split(",")[:-1], outputs.split(",")[:-1])
    return found


def run(
    op: str,
    tensors: dict[str, np.ndarray | None],
    ints: Sequence[int],
    numbers: Sequence[float] = (),
    *,
    dtype: str = "float32",
    soc: str = "Ascend910B1",
    seed: int = 0,
    check_hazards: bool = True,
) -> dict[str, int]:
    """Runs one op on C-contiguous arrays, outputs among them, in the kernel's order; returns counters and blocks."""
    for name, array in tensors.items():
        assert array is None or array.flags.c_contiguous, f"{op}: {name} is not contiguous"
    count = len(tensors)
    arrays = list(tensors.values())
    pointers = (ctypes.c_void_p * count)(*(_pointer(a) for a in arrays))
    sizes = (ctypes.c_int64 * count)(*(0 if a is None else a.nbytes for a in arrays))
    names = (ctypes.c_char_p * count)(*(name.encode() for name in tensors))
    counters = (ctypes.c_int64 * len(COUNTERS))()
    blocks = ctypes.c_int()
    error = ctypes.create_string_buffer(2048)
    status = library().emu_run(
        *_attributes(op, soc, dtype, ints, numbers), pointers, sizes, names, count, ctypes.c_uint64(seed),
        int(check_hazards), counters, ctypes.byref(blocks), error, len(error),
    )  # fmt: skip
    _check(status, error)
    return {**dict(zip(COUNTERS, counters, strict=True)), "blocks": blocks.value}
