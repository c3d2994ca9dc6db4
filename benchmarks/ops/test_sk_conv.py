# SPDX-License-Identifier: Apache-2.0
import pytest

from benchmarks.harness.cases import Case
from benchmarks.ops.timing import SK_SHAPES, name, normal, run, sk_conv_arguments
from benchmarks.peers.sknet_native import native


@pytest.mark.parametrize("training", [False, True], ids=["inference", "training"])
@pytest.mark.parametrize("case", SK_SHAPES, ids=name)
def test_forward(benchmark, case: Case, training: bool) -> None:
    tensors, attributes = sk_conv_arguments(case)
    run(benchmark, "sk_conv", **tensors, **attributes, training=training)


@pytest.mark.parametrize("case", SK_SHAPES, ids=name)
def test_backward(benchmark, case: Case) -> None:
    tensors, attributes = sk_conv_arguments(case)
    saved = native().sk_conv(**tensors, **attributes, training=True)
    du = normal(*saved.pop("u").shape)
    run(benchmark, "sk_conv_grad", du=du, **tensors, **saved, **attributes, training=True)
