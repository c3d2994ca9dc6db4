# SPDX-License-Identifier: Apache-2.0
"""What the files of this folder share."""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks.harness.cases import Case, cases
from benchmarks.peers.sknet_native import native, selective_kernel_arguments

BATCH = 8
SK_SHAPES = cases("sk_grouped", (BATCH,)) + cases("sk_dense", (BATCH,))
CONV_SHAPES = cases("conv_bn_act", (BATCH,))
_BRANCH = ("x", "weight", "gamma", "beta", "moving_mean", "moving_variance")


def name(case: Case) -> str:
    return case.shape["name"]


def normal(*shape: int) -> np.ndarray:
    return np.random.default_rng(1).standard_normal(shape, np.float32)


def sk_conv_arguments(case: Case) -> tuple[dict[str, Any], dict[str, Any]]:
    """(tensors, attributes) of the branches."""
    tensors, attributes = selective_kernel_arguments(case)
    return {key: tensors[key] for key in _BRANCH}, attributes


def sk_attention_arguments(case: Case) -> dict[str, Any]:
    """Tensors of the attention over the case's branches."""
    tensors, _ = selective_kernel_arguments(case)
    n, c, h, w = case.output_shape
    found = {"u": np.maximum(normal(n, 2, c, h, w), 0)}
    return found | {key.removeprefix("attn_"): tensors[key] for key in tensors if key.startswith(("attn_", "fc_"))}


def run(benchmark: Any, op: str, **arguments: Any) -> None:
    """Times one op of the NumPy module."""
    function = getattr(native(), op)
    benchmark.extra_info.update(isa=native().active_isa(), threads=native().num_threads())
    benchmark(lambda: function(**arguments))
