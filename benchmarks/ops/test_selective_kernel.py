# SPDX-License-Identifier: Apache-2.0
import pytest

from benchmarks.harness.cases import Case
from benchmarks.ops.timing import SK_SHAPES, name, normal, run
from benchmarks.peers.sknet_native import native, selective_kernel_arguments


@pytest.mark.parametrize("training", [False, True], ids=["inference", "training"])
@pytest.mark.parametrize("case", SK_SHAPES, ids=name)
def test_forward(benchmark, case: Case, training: bool) -> None:
    tensors, attributes = selective_kernel_arguments(case)
    run(benchmark, "selective_kernel", **tensors, **attributes, training=training)


@pytest.mark.parametrize("case", SK_SHAPES, ids=name)
def test_backward(benchmark, case: Case) -> None:
    tensors, attributes = selective_kernel_arguments(case)
    saved = native().selective_kernel(**tensors, **attributes, training=True)
    dy = normal(*saved.pop("y").shape)
    run(benchmark, "selective_kernel_grad", dy=dy, **tensors, **saved, **attributes, training=True)
