# SPDX-License-Identifier: Apache-2.0
"""Whole networks in MindSpore, inference and training step: ``python -m pytest benchmarks/test_network.py``."""

import pytest

from benchmarks.harness.cases import Case, cases
from benchmarks.peers import sknet_mindspore

CASES = cases("networks", (1, 8)) + cases("networks", (8,), "step")


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id.replace("/", "-"))
def test_network(benchmark, case: Case) -> None:
    call = sknet_mindspore.variants(case, 0)["graph"]()
    benchmark.pedantic(lambda: sknet_mindspore.to_numpy(call()), rounds=10, warmup_rounds=2)
