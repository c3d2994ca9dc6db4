# SPDX-License-Identifier: Apache-2.0
"""Kernels for NVIDIA GPUs, in a library of their own that is built where nvcc is found."""

from __future__ import annotations

from pathlib import Path

import mindspore as ms

from sknet_ops import binary
from sknet_ops.backends import cuda_native

NAME = "cuda"
ABOUT = "fused kernels for NVIDIA GPUs, float32 under MindSpore; plain convolutions stay cuDNN's"
LIBRARY = binary.LIBRARY.with_name("libsknet_ops_cuda.so")


def why_not() -> str | None:
    """None if the library is there, a device answers, and MindSpore computes on it; else the reason."""
    if not LIBRARY.is_file():
        return f"{LIBRARY} is missing: it is built with the package where nvcc is found"
    try:
        cuda_native.Library(LIBRARY).device()
    except OSError as error:
        return f"{LIBRARY} does not load: {error}"
    except cuda_native.CudaError as error:
        return str(error)
    target = ms.get_context("device_target")
    if target != "GPU":
        return f"MindSpore's device_target is {target}, expected GPU"
    return None


def has(op: str) -> bool:
    """Whether the library has this C entry."""
    return op in cuda_native.OPS


def library_path() -> Path:
    """Path of ``libsknet_ops_cuda.so``."""
    return LIBRARY
