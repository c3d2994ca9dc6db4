# SPDX-License-Identifier: Apache-2.0
"""PyTorch, operator by operator, in the better of the two layouts."""

from __future__ import annotations

from collections.abc import Callable

from benchmarks.harness.cases import Case
from benchmarks.peers.torch_common import call, to_numpy, versions, why_not

__all__ = ["to_numpy", "variants", "versions", "why_not"]


def variants(case: Case, threads: int) -> dict[str, Callable]:
    return {
        "contiguous": lambda: call(case, threads, channels_last=False),
        "channels_last": lambda: call(case, threads, channels_last=True),
    }
