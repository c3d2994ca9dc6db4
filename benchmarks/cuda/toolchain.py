# SPDX-License-Identifier: Apache-2.0
"""What builds and names the build: nvcc, CMake, versions."""

from __future__ import annotations

import importlib.util
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch

from tests.cuda.build import nvcc


def cmake() -> list[str] | None:
    if shutil.which("cmake"):
        return ["cmake"]
    found = importlib.util.find_spec("cmake")  # without origin: this project's folder of that name
    return [sys.executable, "-m", "cmake"] if found and found.origin else None


def need(tool: Any, name: str, how: str) -> None:
    if not tool:
        sys.exit(f"{name} was not found: {how}")


def build(root: Path, lines: bool = False) -> Path:
    """The library for this device alone; quick, and what a user's build for it would contain. `lines`: with the lines
    of the sources, for compute-sanitizer."""
    need(nvcc(), "nvcc", "put it into PATH or name it in CUDACXX, or pass --library")
    need(cmake(), "CMake", "pip install cmake, or pass --library")
    major, minor = torch.cuda.get_device_capability()
    folder = root / "build" / ("cuda-proof-lines" if lines else "cuda-proof")
    generator = ["-G", "Ninja"] if shutil.which("ninja") else []
    for step in (
        [*cmake(), "-S", str(root), "-B", str(folder), *generator, "-DCMAKE_BUILD_TYPE=Release",
         "-DSKNET_OPS_PYTHON=OFF", f"-DCMAKE_CUDA_ARCHITECTURES={major}{minor}",
         f"-DCMAKE_CUDA_FLAGS={'-lineinfo' if lines else ''}"],
        [*cmake(), "--build", str(folder), "--target", "sknet_ops_cuda", "--parallel", str(os.cpu_count())],
    ):  # fmt: skip
        done = subprocess.run(step, capture_output=True, text=True)
        if done.returncode:
            sys.exit(f"{' '.join(step)}\n{done.stdout[-6000:]}\n{done.stderr[-6000:]}")
    return folder / "sknet_ops" / "lib" / "libsknet_ops_cuda.so"


def versions() -> dict[str, str]:
    path = nvcc()
    text = subprocess.run([path, "--version"], capture_output=True, text=True).stdout.strip() if path else ""
    return {
        "device": torch.cuda.get_device_name(),
        "capability": ".".join(map(str, torch.cuda.get_device_capability())),
        "torch": torch.__version__,
        "cuda of torch": str(torch.version.cuda),
        "cudnn": str(torch.backends.cudnn.version()),
        "nvcc": text.splitlines()[-1] if text else "not found",
        "python": platform.python_version(),
    }
