# SPDX-License-Identifier: Apache-2.0
"""Kernels for NVIDIA GPUs, in a library of their own that is built where nvcc is found."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import mindspore as ms
from mindspore import nn

from sknet_ops import binary
from sknet_ops.backends import composed, cuda_native

NAME = "cuda"
ABOUT = "fused kernels for NVIDIA GPUs, float32 under MindSpore; plain convolutions are MindSpore's own"
LIBRARY = binary.LIBRARY.with_name("libsknet_ops_cuda.so")


def why_not() -> str | None:
    """None if the library is there, a device answers, and MindSpore computes on it; else the reason."""
    if not LIBRARY.is_file():
        return f"{LIBRARY} is missing: it is built with the package where nvcc is found"
    try:
        cuda_native.Library(LIBRARY).device()
    except OSError as error:
        return f"{LIBRARY} does not load: {error}"
    except AttributeError as error:  # what a rebuild without nvcc leaves behind
        return f"{LIBRARY} is of another version, build it anew or remove it: {error}"
    except cuda_native.CudaError as error:
        return str(error)
    target = ms.get_context("device_target")
    if target != "GPU":
        return f"MindSpore's device_target is {target}, expected GPU"
    return None


def primitive(op: str, attrs: Mapping[str, Any]) -> Callable | None:
    """``conv_bn_act`` and ``max_pool`` as MindSpore's own operators, cuDNN's; None for an op of the library."""
    return _mindspores(op, tuple(attrs.items())) if op in composed.MINDSPORES else None


@cache
def _mindspores(op: str, attrs: tuple[tuple[str, Any], ...]) -> nn.Cell:
    return composed.MINDSPORES[op](**dict(attrs))


def has(op: str) -> bool:
    """Whether the library has this C entry."""
    return op in cuda_native.OPS


def library_path() -> Path:
    """Path of ``libsknet_ops_cuda.so``."""
    return LIBRARY
