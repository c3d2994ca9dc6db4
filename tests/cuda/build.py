# SPDX-License-Identifier: Apache-2.0
"""Builds what these tests run, once; objects stay in the build folder."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

from tests.alone import alone

ROOT = Path(__file__).resolve().parents[2]


def nvcc() -> str | None:
    """The CUDA compiler that CMake would take."""
    return os.environ.get("CUDACXX") or shutil.which("nvcc")


def _cmake(*arguments: str | Path) -> str:
    done = subprocess.run([sys.executable, "-m", "cmake", *map(str, arguments)], capture_output=True, text=True)
    assert done.returncode == 0, f"cmake {' '.join(map(str, arguments))}\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
    return done.stdout


@cache
def folder() -> Path:
    """The configured build folder: that of the installed package if it serves, else one of our own.

    SKNET_OPS_CUDA_BUILD names another.
    """
    import ninja

    if named := os.environ.get("SKNET_OPS_CUDA_BUILD"):
        build = Path(named)
    else:
        build = ROOT / "build" / f"cmake-{sys.implementation.cache_tag}"
        if _serves(build):
            return build
        build = ROOT / "build" / "cuda-tests"
    if not _serves(build):
        _cmake("-S", ROOT, "-B", build, "-G", "Ninja", "-DCMAKE_BUILD_TYPE=Release", "-DSKNET_OPS_PYTHON=OFF",
               f"-DCMAKE_MAKE_PROGRAM={Path(ninja.BIN_DIR) / 'ninja'}")  # fmt: skip
    return build


def _serves(build: Path) -> bool:
    ninja_file = build / "build.ninja"
    if not (build / "CMakeCache.txt").is_file() or not ninja_file.is_file():
        return False
    text = ninja_file.read_text()
    has_device_library = "libsknet_ops_cuda.so" in text
    return "libsknet_ops_cuda_emulated.so" in text and (has_device_library or nvcc() is None)


@cache
def library(target: str) -> Path:
    """Path of ``sknet_ops_cuda`` or ``sknet_ops_cuda_emulated``, built if need be."""
    with alone(ROOT / "build"):
        _cmake("--build", folder(), "--target", target, "--parallel", len(os.sched_getaffinity(0)))
    place = "emulated" if target.endswith("emulated") else "sknet_ops/lib"
    return folder() / place / f"lib{target}.so"


def reports() -> dict[str, str]:
    """What the compiler reported of each kernel file."""
    library("sknet_ops_cuda")
    objects = folder() / "CMakeFiles" / "sknet_ops_cuda.dir" / "csrc" / "cuda"
    return {path.name.removesuffix(".cu.o.report"): path.read_text() for path in sorted(objects.glob("*.cu.o.report"))}
