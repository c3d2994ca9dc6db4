# SPDX-License-Identifier: Apache-2.0
"""kernels for NVIDIA GPUs."""

from __future__ import annotations

NAME = "cuda"
ABOUT = "kernels for NVIDIA GPUs"


def why_not() -> str | None:
    """None if it can run here, else the reason."""
    return "the CUDA kernels are not part of this version of sknet_ops"
