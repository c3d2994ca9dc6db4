# SPDX-License-Identifier: Apache-2.0
"""Fused selective-kernel (SKNet) operators and layers for MindSpore."""

from sknet_ops import functional
from sknet_ops.backends import active_backend, available_backends
from sknet_ops.binary import active_isa, num_threads, set_num_threads
from sknet_ops.freezing import freeze, unfreeze
from sknet_ops.fusion import fuse
from sknet_ops.layers import SelectiveKernel
from sknet_ops.mixed import set_map_dtype
from sknet_ops.profiling import profile

__all__ = [
    "SelectiveKernel",
    "active_backend",
    "active_isa",
    "available_backends",
    "describe",
    "freeze",
    "functional",
    "fuse",
    "num_threads",
    "profile",
    "set_map_dtype",
    "set_num_threads",
    "unfreeze",
]


def describe() -> list[tuple[str, str]]:
    """What `python -m sknet_ops.info` prints, as (what, value)."""
    from sknet_ops import info  # not above: `python -m` would find it imported already, and warn

    return info.lines()
