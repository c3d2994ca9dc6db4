# SPDX-License-Identifier: Apache-2.0
"""PyTorch through torch.compile: either layout, inference with weights frozen into the graph or not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from benchmarks.harness.cases import Case
from benchmarks.peers.torch_common import call, to_numpy, versions, why_not

__all__ = ["to_numpy", "variants", "versions", "why_not"]


def variants(case: Case, threads: int) -> dict[str, Callable]:
    # Frozen weights are for inference only; a network takes minutes to compile, and frozen was always the better there.
    frozen = (False,) if case.mode != "forward" else (True,) if case.kind == "network" else (True, False)
    found = {}
    for layout, channels_last in (("contiguous", False), ("channels_last", True)):
        for freeze in frozen:
            name = layout + (", frozen" if freeze else "")
            found[name] = lambda last=channels_last, freeze=freeze: _compiled(case, threads, last, freeze)
    return found


def _compiled(case: Case, threads: int, channels_last: bool, freeze: bool) -> Callable[[], Any]:
    import torch
    import torch._inductor.config as config

    def compiler(net: torch.nn.Module) -> Callable:
        torch._dynamo.reset()  # else a process compiles one class so many times and then no more
        config.freezing = freeze
        return torch.compile(net, dynamic=False)

    run = call(case, threads, channels_last, compiler)
    for _ in range(2):  # compiles, with the setting that belongs to it
        run()
    return run
