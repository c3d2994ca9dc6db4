# SPDX-License-Identifier: Apache-2.0
"""OpenVINO in float32, one request at a time, inputs shared."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.harness.cases import Case
from benchmarks.peers import onnx_export


def why_not() -> str | None:
    return onnx_export.why_not("openvino")


def versions() -> dict[str, str]:
    return {"openvino": importlib.metadata.version("openvino")}


def variants(case: Case, threads: int) -> dict[str, Callable]:
    graph, inputs = onnx_export.export(case)
    return {"": lambda: _request(threads, graph, inputs)}


def _request(threads: int, graph: bytes, inputs: dict[str, np.ndarray]) -> Callable[[], Any]:
    import openvino

    core = openvino.Core()
    settings = {"INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}
    compiled = core.compile_model(core.read_model(graph, b""), "CPU", settings)
    request = compiled.create_infer_request()
    for name, x in inputs.items():
        request.set_tensor(name, openvino.Tensor(x, shared_memory=True))

    def run() -> Any:
        request.infer()
        return request

    return run


def to_numpy(result: Any) -> np.ndarray:
    return result.get_output_tensor().data
