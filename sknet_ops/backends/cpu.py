# SPDX-License-Identifier: Apache-2.0
"""Vector kernels for x86-64, with a portable form for other processors."""

from __future__ import annotations

from sknet_ops import binary
from sknet_ops.backends._target import why_not_on_cpu

NAME = "cpu"
ABOUT = "vector kernels, the instruction set chosen at run time (SKNET_OPS_ISA forces one)"


def why_not() -> str | None:
    """None if it can run here, else the reason."""
    reason = why_not_on_cpu()
    if reason is not None:
        return reason
    try:
        binary.active_isa()
    except ValueError as error:
        return str(error)
    return None


def isa() -> str:
    """Instruction set of the kernels that the next call takes."""
    return binary.active_isa()
