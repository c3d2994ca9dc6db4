# SPDX-License-Identifier: Apache-2.0
"""What `make bench` and `make bench-full` measure."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.harness.cases import Case, cases
from benchmarks.harness.contestants import (
    CAPPED,
    COMPILE,
    KERNEL,
    KERNEL_1,
    LAYER,
    ONNX,
    OPENVINO,
    PLAIN,
    TORCH,
    VECTORS,
    Contestant,
)
from benchmarks.harness.runner import Effort, Entry

FORWARD = (KERNEL, LAYER, TORCH, COMPILE, ONNX, OPENVINO, CAPPED)
TRAIN = (KERNEL, LAYER, TORCH, COMPILE, CAPPED)
NETWORK = (LAYER, TORCH, COMPILE, ONNX, OPENVINO, CAPPED, VECTORS)
QUICK_NETWORK = (LAYER, TORCH, ONNX, OPENVINO, CAPPED)  # torch.compile takes a minute for a network
STEP = (LAYER, TORCH, COMPILE, CAPPED)
SCALING = (KERNEL, KERNEL_1)
OPS = (KERNEL, LAYER, TORCH, ONNX, OPENVINO, CAPPED)

FEW = ("c128_56", "c256_28", "c512_14", "c1024_7")  # one shape of each stage

CONVOLUTIONS = (  # what the networks are made of besides SK units
    "c3_64_224_k7_s2",
    "c64_64_56_k3_residual",
    "c128_128_28_k3_residual",
    "c256_256_14_k3_residual",
    "c512_512_7_k3_residual",
    "c256_512_28_k1_residual",
    "c1024_512_14_k1",
    "c2048_1024_7_k1",
)

EFFORTS = {"quick": Effort(rounds=3, turn=0.1, most=30), "full": Effort()}


def entries(suite: str) -> list[Entry]:
    """The cases of a suite, in the order in which they run.

    A shape's batch of 8 comes first: there a contestant chooses among its settings, and keeps the choice.
    """
    return {"quick": _quick, "full": _full, "smoke": _smoke}[suite]()


def _with(found: list[Case], contestants: Sequence[Contestant]) -> list[Entry]:
    return [Entry(case, contestants) for case in found]


def _smoke() -> list[Entry]:
    """A minute, to see that everything runs."""
    return [
        *_with(cases("sk_grouped", (1,), names=("c1024_7",)), (*FORWARD, PLAIN)),
        *_with(cases("sk_grouped", (2,), "train", names=("c1024_7",)), TRAIN),
    ]


def _quick() -> list[Entry]:
    return [
        *_with(cases("sk_grouped", (8,), names=FEW), FORWARD),
        *_with(cases("sk_grouped", (1,), names=FEW[1:3]), FORWARD),
        *_with(cases("sk_grouped", (8,), cache="cold", names=FEW[1:2]), FORWARD),
        *_with(cases("sk_dense", (8,), names=("c64_64_56", "c256_256_14")), FORWARD),
        *_with(cases("sk_grouped", (1,), names=FEW[1:2]), (KERNEL, PLAIN)),
        *_with(cases("sk_grouped", (8,), "train", names=FEW[1:3]), TRAIN),
        *_with(cases("conv_bn_act", (8,), names=("c64_64_56_k3_residual", "c256_512_28_k1_residual")), OPS),
        *_with(cases("sk_grouped", (32,), names=FEW[:2]), SCALING),
        *_with(cases("networks", (1,), names=("skresnet18",)), QUICK_NETWORK),
        *_with(cases("networks", (8,), "step", names=("skresnet18",)), (LAYER, TORCH, CAPPED)),
    ]


def _full() -> list[Entry]:
    layers = ("sk_grouped", "sk_dense")
    found = []
    for family in layers:
        for case in cases(family, (8, 1, 32)):
            found.append(Entry(case, (*FORWARD, KERNEL_1) if case.batch == 32 else FORWARD))
    for family in layers:
        found += _with(cases(family, (8,), "train"), (*TRAIN, KERNEL_1))
    found += _with(cases("networks", (8, 1)), NETWORK)
    found += _with(cases("networks", (8,), "step", names=("skresnet18", "skresnext50_32x4d.timm")), STEP)
    found += _with(cases("networks", (1,), names=("skresnet18",)), (LAYER, PLAIN))
    found += _with(cases("sk_grouped", (8,), cache="cold", names=FEW), FORWARD)
    found += _with(cases("sk_grouped", (1,), names=("c256_28", "c1024_7")), (KERNEL, PLAIN))
    found += _with(cases("conv_bn_act", (8,), names=CONVOLUTIONS), OPS)
    return found


# Layers whose kept memory is measured: large ones, beside which parameters and the allocator's steps are small.
MEMORY_LAYERS = ("c128_56", "c256_28")
CHAIN = (1, 5)  # lengths of the chains of layers


def memory_cases(suite: str) -> tuple[list[Case], list[Case]]:
    """(layers whose kept memory is measured, networks whose training step's is)."""
    if suite != "full":
        return [], []
    names = ("skresnet18", "skresnext50_32x4d.timm")
    return cases("sk_grouped", (8,), "train", names=MEMORY_LAYERS), cases("networks", (8,), "step", names=names)


def profile_cases(suite: str) -> list[Case]:
    """Networks that are profiled, op by op."""
    if suite == "smoke":
        return []
    found = cases("networks", (1,)) if suite == "full" else cases("networks", (1,), names=("skresnet18",))
    if suite == "full":
        found += cases("networks", (8,), names=("skresnet18", "sknet50"))
        found += cases("networks", (8,), "step", names=("skresnet18",))
    return found
