# SPDX-License-Identifier: Apache-2.0
"""ONNX Runtime, all graph optimisations, inputs and outputs bound."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.harness.cases import Case
from benchmarks.peers import onnx_export


def why_not() -> str | None:
    return onnx_export.why_not("onnxruntime")


def versions() -> dict[str, str]:
    return {name: importlib.metadata.version(name) for name in ("onnxruntime", "onnx")}


def variants(case: Case, threads: int) -> dict[str, Callable]:
    graph, inputs = onnx_export.export(case)
    return {"": lambda: _session(case, threads, graph, inputs)}


def _session(case: Case, threads: int, graph: bytes, inputs: dict[str, np.ndarray]) -> Callable[[], Any]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    binding = session.io_binding()
    for name, x in inputs.items():
        binding.bind_cpu_input(name, x)
    y = np.zeros(case.output_shape, np.float32)
    binding.bind_output("y", "cpu", 0, np.float32, y.shape, y.ctypes.data)

    def run() -> np.ndarray:
        session.run_with_iobinding(binding)
        return y

    return run


def to_numpy(result: np.ndarray) -> np.ndarray:
    return result
