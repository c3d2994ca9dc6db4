# SPDX-License-Identifier: Apache-2.0
"""The readable loops that define every op: slow, for comparison."""

from __future__ import annotations

from sknet_ops.backends._target import why_not_on_cpu

NAME = "reference"
ABOUT = "the readable scalar loops that define the ops; slow, for comparison"


def why_not() -> str | None:
    """None if it can run here, else the reason."""
    return why_not_on_cpu()
