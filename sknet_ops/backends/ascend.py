# SPDX-License-Identifier: Apache-2.0
"""Ascend C kernels for Ascend 910B class NPUs."""

from __future__ import annotations

NAME = "ascend"
ABOUT = "Ascend C kernels for Ascend 910B class NPUs"


def why_not() -> str | None:
    """None if it can run here, else the reason."""
    return "the Ascend C kernels are not part of this version of sknet_ops"
