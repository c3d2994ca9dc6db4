# SPDX-License-Identifier: Apache-2.0
"""A small run with round numbers, as ``python -m benchmarks`` writes it."""

from __future__ import annotations

from typing import Any

from benchmarks.harness.cases import Case, cases


def times(milliseconds: float, spread: float = 0.02) -> dict[str, Any]:
    """An entry of that median; p20 and p80 lie `spread` of it to either side."""
    seconds = milliseconds / 1e3
    return {
        "variant": "",
        "variants": {"": seconds},
        "failed": {},
        "rounds": [seconds * (1 - spread), seconds, seconds * (1 + spread)],
        "median": seconds,
        "p20": seconds * (1 - spread),
        "p80": seconds * (1 + spread),
        "count": 30,
    }


def result(case: Case, milliseconds: dict[str, float], flops: int = 10**9, moved: int = 10**6) -> dict[str, Any]:
    return {
        "id": case.id,
        **case.to_json(),
        "flops": flops,
        "bytes": moved,
        "times": {name: times(value) for name, value in milliseconds.items()},
        "missing": {},
        "prepare_seconds": 1.0,
        "measure_seconds": 1.0,
        "foreign_cpu": 0.01,
    }


def contestant(ours: bool, why_not: str | None = None) -> dict[str, Any]:
    return {"why_not": why_not, "versions": {} if why_not else {"thing": "1.0"}, "ours": ours, "threads": 2}


def run() -> dict[str, Any]:
    """Limits of 100 GFLOP/s and 10 GB/s: the 10^9 operations of each case take 10 ms at the least."""
    grouped = cases("sk_grouped", (8,), names=("c128_56", "c256_28"))
    grouped_32 = cases("sk_grouped", (32,), names=("c128_56",))
    dense = cases("sk_dense", (8,), names=("c64_64_56",))
    train = cases("sk_grouped", (8,), "train", names=("c128_56",))
    network = cases("networks", (1,), names=("skresnet18",))
    found = [
        result(grouped[0], {"sknet_ops kernel": 20, "sknet_ops": 21, "torch eager": 90, "OpenVINO": 80}),
        result(grouped[1], {"sknet_ops kernel": 25, "sknet_ops": 26, "torch eager": 50, "OpenVINO": 60}),
        result(grouped_32[0], {"sknet_ops kernel": 84, "sknet_ops kernel, 1 thread": 160}),
        result(dense[0], {"sknet_ops kernel": 10, "sknet_ops": 12, "torch eager": 30, "OpenVINO": 12}),
        result(train[0], {"sknet_ops kernel": 60, "sknet_ops": 62, "torch eager": 240, "torch.compile": 180}),
        result(network[0], {"sknet_ops": 10, "OpenVINO": 13}),
    ]
    found[-1]["missing"] = {"ONNX Runtime": "onnxruntime is missing"}
    machine = {
        "cpu": "A processor",
        "cpus": 2,
        "instruction_sets": ["avx2"],
        "caches": {"L1": "32K"},
        "memory": "8 GB",
        "system": "Linux",
        "python": "3.11.7",
        "commit": "0123456789abcdef",
        "changed": False,
        "load": 0.1,
    }
    op = {"op": "selective_kernel", "about": "1x64x56x56", "calls": 2, "flops": 10**8, "bytes": 10**6, "limit": 0.001}
    op["seconds"] = 0.0095
    return {
        "schema": 1,
        "suite": "quick",
        "date": "2026-01-01T00:00:00+00:00",
        "machine": machine,
        "threads": 2,
        "environment": {},
        "roofline": {"1": {"flops": 5e10, "bandwidth": 8e9}, "2": {"flops": 1e11, "bandwidth": 1e10}},
        "results": found,
        "memory": {
            "layers": [{"id": train[0].id, "kept": {"sknet_ops": 30e6, "MindSpore capped": 100e6}, "missing": {}}],
            "steps": [
                {
                    "id": network[0].id,
                    "peaks": {
                        "sknet_ops": {"baseline": 1000, "peak": 8000, "seconds": 1.0},
                        "MindSpore capped": {"baseline": 1000, "peak": 11000, "seconds": 2.0},
                    },
                    "missing": {},
                }
            ],
        },
        "profiles": [
            {
                "id": network[0].id,
                "seconds": 0.01,
                "outside": 0.0005,
                "ops": [{**op, "seconds": 0.0095, "limit": 0.001}],
            }
        ],
        "contestants": {
            "sknet_ops kernel": contestant(True),
            "sknet_ops kernel, 1 thread": contestant(True),
            "sknet_ops": contestant(True),
            "torch eager": contestant(False),
            "torch.compile": contestant(False),
            "OpenVINO": contestant(False),
            "ONNX Runtime": contestant(False, "onnxruntime is missing"),
        },
        "seconds": 120.0,
        "foreign_cpu": 0.01,
    }
