# SPDX-License-Identifier: Apache-2.0
"""The PyTorch module as an ONNX graph, for the runtimes that take those."""

from __future__ import annotations

import io
import warnings

import numpy as np

from benchmarks.harness.cases import Case, Unsupported


def export(case: Case) -> tuple[bytes, dict[str, np.ndarray]]:
    """(the graph, its inputs by name); the output is called "y".

    Raises:
        Unsupported: Training.
    """
    if case.mode != "forward":
        raise Unsupported("inference only")
    import torch

    from benchmarks.peers import torch_models

    torch.set_num_threads(1)
    net, inputs = torch_models.build(case)
    names = ["x", "residual"][: len(inputs)]
    file = io.BytesIO()
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # that this exporter is the older one; it needs no further package
        torch.onnx.export(
            net, tuple(inputs), file, dynamo=False, input_names=names, output_names=["y"], opset_version=17
        )
    return file.getvalue(), {name: x.numpy() for name, x in zip(names, inputs, strict=True)}


def why_not(*packages: str) -> str | None:
    """What is missing of these, PyTorch and onnx."""
    for package in (*packages, "torch", "onnx"):
        try:
            __import__(package)
        except ImportError as error:
            return f"{package} is missing ({error}): make bench sets it up"
    return None
