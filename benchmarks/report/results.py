# SPDX-License-Identifier: Apache-2.0
"""Questions to the results of one run."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from benchmarks.harness import stats

KERNEL, LAYER = "sknet_ops kernel", "sknet_ops"
ONE_THREAD, VECTORS = "sknet_ops kernel, 1 thread", "sknet_ops, AVX-512"
CAPPED, PLAIN = "MindSpore capped", "MindSpore as it comes"
OTHERS = ("torch eager", "torch.compile", "ONNX Runtime", "OpenVINO")  # than MindSpore
INFERENCE_PEERS = (*OTHERS, CAPPED)
TRAINING_PEERS = ("torch eager", "torch.compile")

Result = dict[str, Any]


def load(path: Path) -> dict[str, Any]:
    """Raises ValueError if the file is none of ours."""
    content = json.loads(path.read_text())
    if not isinstance(content, dict) or content.get("schema") != 1:
        raise ValueError(f"{path}: got other JSON, expected results of `python -m benchmarks`")
    return content


def select(
    run: dict[str, Any], kind: str, mode: str, batches: Collection[int] = (), cache: str = "warm"
) -> Iterator[Result]:
    """Results of a kind, in the order in which they ran."""
    for result in run["results"]:
        same = (result["kind"], result["mode"], result["cache"]) == (kind, mode, cache)
        if same and (not batches or result["batch"] in batches):
            yield result


def is_grouped(result: Result) -> bool:
    return result["family"] == "sk_grouped"


def median(result: Result, name: str) -> float | None:
    """Seconds; None if that contestant has not run the case."""
    found = result["times"].get(name)
    return found["median"] if found else None


def best_peer(result: Result, peers: Collection[str]) -> str | None:
    """The fastest of these, None if none has run."""
    present = [name for name in peers if name in result["times"]]
    return min(present, key=lambda name: result["times"][name]["median"], default=None)


def ratio(result: Result, other: str, ours: str) -> stats.Ratio | None:
    """How many times longer `other` takes."""
    if other not in result["times"] or ours not in result["times"]:
        return None
    return stats.ratio(result["times"][other], result["times"][ours])


def limit(run: dict[str, Any], result: Result, threads: int | None = None) -> float | None:
    """Seconds that the roofline allows; None if the run has not measured it for so many threads."""
    roof = run["roofline"].get(str(threads or run["threads"]))
    return max(result["flops"] / roof["flops"], result["bytes"] / roof["bandwidth"]) if roof else None


def share(run: dict[str, Any], result: Result, name: str) -> float | None:
    """Share of the roofline that a contestant reaches."""
    seconds, least = median(result, name), limit(run, result)
    return least / seconds if seconds and least else None
