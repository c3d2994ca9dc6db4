# SPDX-License-Identifier: Apache-2.0
"""kernels in AKG's hybrid DSL."""

from __future__ import annotations

NAME = "akg"
ABOUT = "kernels in AKG's hybrid DSL"


def why_not() -> str | None:
    """None if it can run here, else the reason."""
    return "the AKG kernels are not part of this version of sknet_ops"
