# SPDX-License-Identifier: Apache-2.0
"""Peak memory, each figure from a fresh process: in a used one the peak is that of something else."""

from __future__ import annotations

from math import prod
from typing import Any

from benchmarks.harness.cases import Case
from benchmarks.harness.contestants import CAPPED, LAYER, Contestant, Process, WorkerError

TIMEOUT = 900


def kept_by_layer(case: Case, chain: tuple[int, int], threads: int) -> dict[str, Any]:
    """What a layer keeps for its backward pass: by how much a training chain's peak grows with each layer, less the
    layer's input, which any layer has to keep. In bytes, ours and MindCV's."""
    result: dict[str, Any] = {"id": case.id, "kept": {}, "missing": {}}
    short, long = chain
    for contestant in (LAYER, CAPPED):
        try:
            peaks = [_peak(contestant, case, layers, threads)["peak"] for layers in chain]
        except WorkerError as error:
            result["missing"][contestant.name] = str(error)
            continue
        growth = 1024 * (peaks[1] - peaks[0]) / (long - short)
        result["kept"][contestant.name] = growth - 4 * prod(case.input_shape)
    return result


def training_step(case: Case, threads: int) -> dict[str, Any]:
    """Peak of a network's training step, with what framework and interpreter take alone as `baseline`. In kilobytes."""
    result: dict[str, Any] = {"id": case.id, "peaks": {}, "missing": {}}
    for contestant in (LAYER, CAPPED):
        try:
            result["peaks"][contestant.name] = _peak(contestant, case, 1, threads)
        except WorkerError as error:
            result["missing"][contestant.name] = str(error)
    return result


def _peak(contestant: Contestant, case: Case, layers: int, threads: int) -> dict[str, Any]:
    process = Process(contestant, threads)
    try:
        return process.ask("ask", TIMEOUT, question="memory", case=case.to_json(), layers=layers)
    finally:
        process.close()
