# SPDX-License-Identifier: Apache-2.0
"""The layer in MindSpore, inference and training: ``python -m pytest benchmarks/test_layer.py``."""

import dataclasses

import pytest

from benchmarks.harness.cases import Case, cases
from benchmarks.peers import sknet_mindspore

CASES = cases("sk_grouped", (8,)) + cases("sk_dense", (8,))


@pytest.mark.parametrize("execution", ["graph", "pynative"])
@pytest.mark.parametrize("mode", ["forward", "train"])
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.shape["name"])
def test_layer(benchmark, case: Case, mode: str, execution: str) -> None:
    call = sknet_mindspore.variants(dataclasses.replace(case, mode=mode), 0)[execution]()
    benchmark(lambda: sknet_mindspore.to_numpy(call()))
