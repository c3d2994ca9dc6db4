# SPDX-License-Identifier: Apache-2.0
"""What the two CPU backends have in common."""

from __future__ import annotations

import mindspore as ms

from sknet_ops import binary


def why_not_on_cpu() -> str | None:
    """None if MindSpore computes on the CPU and the native library is there."""
    target = ms.get_context("device_target")
    if target != "CPU":
        return f"MindSpore's device_target is {target}, expected CPU: call mindspore.set_device('CPU') first"
    return binary.why_not()
