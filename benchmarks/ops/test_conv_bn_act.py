# SPDX-License-Identifier: Apache-2.0
import pytest

from benchmarks.harness.cases import Case
from benchmarks.ops.timing import CONV_SHAPES, name, normal, run
from benchmarks.peers.sknet_native import conv_bn_act_arguments, native


@pytest.mark.parametrize("training", [False, True], ids=["inference", "training"])
@pytest.mark.parametrize("case", CONV_SHAPES, ids=name)
def test_forward(benchmark, case: Case, training: bool) -> None:
    tensors, attributes = conv_bn_act_arguments(case)
    run(benchmark, "conv_bn_act", **tensors, **attributes, training=training)


@pytest.mark.parametrize("case", CONV_SHAPES, ids=name)
def test_backward(benchmark, case: Case) -> None:
    tensors, attributes = conv_bn_act_arguments(case)
    saved = native().conv_bn_act(**tensors, **attributes, training=True)
    residual = tensors.pop("residual", None) is not None
    dy = normal(*case.output_shape)
    run(benchmark, "conv_bn_act_grad", dy=dy, **tensors, **saved, **attributes, residual=residual, training=True)
