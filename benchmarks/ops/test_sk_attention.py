# SPDX-License-Identifier: Apache-2.0
import pytest

from benchmarks.harness.cases import Case
from benchmarks.ops.timing import SK_SHAPES, name, normal, run, sk_attention_arguments
from benchmarks.peers.sknet_native import native


@pytest.mark.parametrize("training", [False, True], ids=["inference", "training"])
@pytest.mark.parametrize("case", SK_SHAPES, ids=name)
def test_forward(benchmark, case: Case, training: bool) -> None:
    run(benchmark, "sk_attention", **sk_attention_arguments(case), training=training)


@pytest.mark.parametrize("case", SK_SHAPES, ids=name)
def test_backward(benchmark, case: Case) -> None:
    tensors = sk_attention_arguments(case)
    saved = native().sk_attention(**tensors, training=True)
    dattention = normal(*saved["attention"].shape)
    run(benchmark, "sk_attention_grad", dattention=dattention, **tensors, **saved, training=True)
