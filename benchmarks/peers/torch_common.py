# SPDX-License-Identifier: Apache-2.0
"""How a PyTorch module is timed, eager or compiled."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.harness.cases import Case

NO_LEARNING = 1e-4


def why_not() -> str | None:
    try:
        import torch  # noqa: F401
    except ImportError as error:
        return f"PyTorch is missing ({error}): make bench sets it up"
    return None


def versions() -> dict[str, str]:
    import torch

    return {"torch": torch.__version__, "threads": str(torch.get_num_threads())}


def call(case: Case, threads: int, channels_last: bool, compiler: Callable | None = None) -> Callable[[], Any]:
    """The call to be timed. `compiler` turns a module into a compiled one."""
    import torch
    from torch.nn.functional import cross_entropy

    from benchmarks.peers import torch_models

    torch.set_num_threads(threads)
    net, inputs = torch_models.build(case)
    if channels_last:
        net = net.to(memory_format=torch.channels_last)
        inputs = [x.contiguous(memory_format=torch.channels_last) for x in inputs]
    run = compiler(net) if compiler else net
    if case.mode == "forward":

        def forward() -> torch.Tensor:
            # Not inference_mode: compiled graphs with frozen weights do not take it.
            with torch.no_grad():
                return run(*inputs)

        return forward
    parameters = list(net.parameters())
    if case.mode == "train":
        inputs[0].requires_grad_()
        dy = torch.randn(case.output_shape)
        if channels_last:
            dy = dy.contiguous(memory_format=torch.channels_last)

        def train() -> torch.Tensor:
            return torch.autograd.grad(run(*inputs), [inputs[0], *parameters], dy)[0]

        return train
    optimizer = torch.optim.SGD(parameters, NO_LEARNING, momentum=0.9, fused=True)
    labels = torch.arange(case.batch)

    def step() -> torch.Tensor:
        loss = cross_entropy(run(*inputs), labels)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return loss.detach()

    return step


def to_numpy(result: Any) -> np.ndarray:
    return result.detach().numpy()
