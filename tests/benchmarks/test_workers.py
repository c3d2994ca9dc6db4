# SPDX-License-Identifier: Apache-2.0
"""The processes of the contestants, with our kernels alone as the contestant."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.harness.cases import Case, cases
from benchmarks.harness.contestants import KERNEL, Contestant, Process, UnsupportedCase, WorkerError, environment
from benchmarks.harness.runner import Effort, Entry, Runner

SMALL = Case("conv_bn_act", "conv_bn_act", {"name": "small", "c_in": 8, "c_out": 8, "hw": 9, "kernel": 3, "stride": 1,
                                            "relu": True, "residual": False}, 2)  # fmt: skip


@pytest.fixture
def process(native) -> Iterator[Process]:
    process = Process(KERNEL, 1)
    yield process
    process.close()


def state(process: Process) -> str:
    """T: stopped."""
    return Path(f"/proc/{process.process.pid}/stat").read_text().rpartition(")")[2].split()[0]


def settled(process: Process, wanted: str) -> bool:
    end = time.monotonic() + 5
    while state(process) != wanted and time.monotonic() < end:
        time.sleep(0.01)
    return state(process) == wanted


def test_a_worker_sleeps_between_requests(process: Process) -> None:
    assert process.ask("hello")["why_not"] is None
    assert settled(process, "T")
    prepared = process.ask("prepare", case=SMALL.to_json())
    assert prepared["output"]["shape"] == list(SMALL.output_shape)
    assert prepared["output"]["nonzero"] > 0.1
    measured = process.ask("measure", repetitions=4, warm_up=1, cold=False)["times"]
    assert len(measured) == 4 and min(measured) > 0
    assert settled(process, "T")


def test_cold_caches(process: Process) -> None:
    process.ask("prepare", case=SMALL.to_json())
    assert len(process.ask("measure", repetitions=2, warm_up=0, cold=True)["times"]) == 2


def test_what_a_worker_cannot_do_is_said(process: Process) -> None:
    (network,) = cases("networks", (1,), names=("skresnet18",))
    with pytest.raises(UnsupportedCase, match="needs MindSpore"):
        process.ask("prepare", case=network.to_json())
    with pytest.raises(WorkerError, match="unheard_of"):
        process.ask("ask", question="unheard_of")
    assert process.ask("hello")["why_not"] is None  # it goes on


def test_a_dead_worker_is_started_anew(process: Process) -> None:
    process.ask("hello")
    first = process.process.pid
    os.kill(first, 9)
    with pytest.raises(WorkerError, match="died"):
        process.ask("hello")
    assert process.ask("hello")["why_not"] is None
    assert process.process.pid != first


def test_a_hanging_worker_is_given_up(process: Process) -> None:
    process.ask("hello")
    process.ask("prepare", case=SMALL.to_json())
    with pytest.raises(WorkerError, match="no answer in 0 s"):
        process.ask("measure", timeout=0.2, repetitions=10**9, warm_up=0, cold=False)
    assert process.process is None


def test_a_missing_peer_is_reported(native) -> None:
    said: list[str] = []
    nobody = Contestant("nobody", "no_such_plugin")
    runner = Runner(1, Effort(rounds=2, turn=0.01, most=3), said.append)
    try:
        result = runner.run(Entry(SMALL, (KERNEL, nobody)))
    finally:
        runner.close()
    assert "no_such_plugin" in result["missing"]["nobody"]
    assert "without nobody" in said[0]
    found = result["times"][KERNEL.name]
    assert len(found["rounds"]) == 2 and found["count"] <= 6
    assert 0 < found["p20"] <= found["median"] <= found["p80"]
    assert result["flops"] == 2 * 2 * 8 * 81 * 8 * 9


def test_every_process_gets_the_same_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX2")
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    monkeypatch.setenv("MALLOC_ARENA_MAX", "1")
    found = environment({"EXTRA": "1"})
    assert not {"ONEDNN_MAX_CPU_ISA", "OMP_NUM_THREADS", "MALLOC_ARENA_MAX"} & set(found)
    assert found["MALLOC_TRIM_THRESHOLD_"] == "8589934592" and found["EXTRA"] == "1"
