# SPDX-License-Identifier: Apache-2.0
"""The judgement of a proof run: what the bars say of given times."""

from __future__ import annotations

import itertools
from types import ModuleType
from typing import Any

import pytest

from tests.cuda import build, proof
from tests.cuda.emulated import cuda_native


@pytest.fixture(scope="module")
def report() -> ModuleType:
    return proof.module("report")


def row(unit: str, ours: float, eager: float, compiled: float | None, last: float | None = None,
        turned: float | None = None, eager_nchw: float | None = 9.0) -> dict[str, Any]:  # fmt: skip
    times = {"nchw": ours, "turned": turned, "nhwc": last, "eager": eager, "eager_nchw": eager_nchw,
             "compile": compiled}  # fmt: skip
    measured = {name: {"median_us": value} for name, value in times.items() if value is not None}
    if compiled is not None:
        measured["compile"]["layout"] = "nhwc"
    return {
        "unit": unit,
        "channels a group": int(unit.split()[0]) // 32,
        "batch": 32,
        "precision": "float32",
        "pass": "inference",
        "bytes": 600,
        "operations": 6000,
        **measured,
    }


def result(rows: list[dict[str, Any]], ok: bool = True) -> dict[str, Any]:
    check = {"op": "sk_conv", "case": "odd", "training": True, "precision": "float32", "layout": "nhwc", "worst": 1.0,
             "ok": ok, "wrong": {} if ok else {"u": 1.0}}  # fmt: skip
    return {"versions": {"device": "none"}, "build seconds": 1, "check seconds": 1, "seconds": 2, "seed": 7,
            "checks": [check], "timings": rows, "copy bytes per second": 1e9,
            "preferred": {f"float32 {c}": ["nchw", "nhwc"] for c in (4, 8)}}  # fmt: skip


@pytest.mark.parametrize("ours, verdict", [((1.0, 1.0), "met"), ((0.5, 1.7), "missed"), ((1.3, 1.3), "missed")])
def test_bars(ours: tuple[float, float], verdict: str, report: ModuleType) -> None:
    """Against the best of PyTorch's ways: 2 in the mean, none below 1.3."""
    ways = {"eager": 9.0, "eager_nchw": 9.0, "compiled": 9.0}
    for best, other in itertools.permutations(ways, 2):
        found = zip(("128 x 56^2 / 1", "256 x 56^2 / 2"), ours, (best, other), strict=True)
        text = report.table(result([row(unit, us, **{**ways, fast: 2.0}) for unit, us, fast in found]), units=2)
        lines = [line for line in text.splitlines() if line.startswith("| inference | float32 | 32 |")]
        assert len(lines) == 1 and lines[0].endswith(f"| {verdict} |")


def test_what_is_missing_shows(report: ModuleType) -> None:
    text = report.table(result([row("128 x 56^2 / 1", 1.0, 3.0, None, eager_nchw=None)], ok=False))
    assert (
        "1 checks with seed 7, 1 failed." in text and "- sk_conv, odd, training True, float32, nhwc: {'u': 1.0}" in text
    )
    assert "| inference | float32 | 32 | 3.00 | 3.00 | incomplete, 0 of 7 units against all of PyTorch's ways |" in text
    assert "| 1 | - | - | 3 | - | - | 3.00 | 60% |" in text
    assert "| float32 | 1 | 60% | 60% | met |" in text


@pytest.mark.parametrize("name, channels, precision, operations, bound", [
    ("cores", 8, "float16", 21e9, True), ("cores", 8, "float16", 23e9, False),
    ("tensor cores", 16, "float16", 329e9, True), ("tensor cores", 16, "float16", 330e9, False),
    ("TF32", 16, "tf32", 164e9, True), ("TF32", 16, "tf32", 165e9, False), ("no TF32", 16, "float32", 23e9, False),
])  # fmt: skip
def test_where_memory_is_the_limit(
    name: str, channels: int, precision: str, operations: float, bound: bool, report: ModuleType
) -> None:
    """At 3 TB/s: 22 operations a byte without tensor cores, 330 with, 165 in TF32."""
    found = {"channels a group": channels, "precision": precision, "bytes": 1e9, "operations": operations}
    assert report.memory_bound(found, 3e12) is bound


def test_a_bar_is_met_by_all_units_alone(report: ModuleType) -> None:
    """What is below it already is missed all the same."""
    good, bad = row("128 x 56^2 / 1", 1.0, 9.0, 3.0), row("256 x 56^2 / 2", 3.0, 2.0, 9.0)
    assert "| met |" in report.table(result([good]), units=1)
    assert "| incomplete, 1 of 2 units" in report.table(result([good]), units=2)
    assert "| missed, 1 of 2 units" in report.table(result([bad]), units=2)


def test_what_went_wrong_shows(report: ModuleType) -> None:
    rows = [{**row("128 x 56^2 / 1", 1.0, 3.0, None), "failed": {"compile": "OutOfMemoryError: no"}}]
    found = result(rows) | {"unfinished": "dense units", "broke off": "RuntimeError: lost"}
    found["checks"][0]["draws"] = 9
    text = report.table(found)
    assert "| 3 | 9 | failed | 3.00 |" in text
    assert "- 128 x 56^2 / 1, 32, float32, inference: compile failed: OutOfMemoryError: no" in text
    assert "**Not checked**, for want of time or because the run broke off: dense units." in text
    assert "**The run broke off**: RuntimeError: lost" in text
    assert (
        "1 were judged over several draws" in text and text.count("- sk_conv, odd, training True, float32, nhwc") == 1
    )
    early = {"checks": [], "seconds": 1, "seed": 7, "unfinished": "everything", "timings": []}
    assert "0 checks with seed 7" in report.table(early)


LAYOUT_ROWS = [
    row("128 x 56^2 / 1", 4.0, 3.0, 6.0, last=1.0, turned=2.0),
    row("256 x 56^2 / 2", 3.0, 4.0, 3.0, last=2.0, turned=1.0),
]


def test_the_better_layout_counts(report: ModuleType) -> None:
    text = report.table(result(LAYOUT_ROWS))
    assert "| 4 | 2 | 1 | 3 | 9 | 6 (NHWC) | 3.00 | 60% |" in text
    assert "| 3 | 1 | 2 | 4 | 9 | 3 (NHWC) | 3.00 | 60% |" in text
    assert "| float32 | 4 | 2.00 | NHWC | NCHW | 2.00 | NHWC | NHWC |" in text
    assert "| float32 | 8 | 0.50 | NCHW | NCHW | 3.00 | NHWC | NHWC |" in text


def test_the_ways_are_those_of_the_library(report: ModuleType) -> None:
    assert tuple(cuda_native().ARRANGEMENTS) == report.OURS


def test_measured_layouts_replace_the_estimate(report: ModuleType) -> None:
    """What a run writes is the committed file with other rows, and can be measured anew."""
    committed = (build.ROOT / "csrc" / "cuda" / "preferred_layout.h").read_text()
    rows = [*LAYOUT_ROWS[:1], row("256 x 56^2 / 2", 1.0, 4.0, 3.0, last=2.0, turned=2.0)]
    assert len(report._ROW.findall(committed)) == committed.count('    {"')
    once = report.preferred_header(committed, result(rows))
    assert '{"float32", 1, true, true},    // 4: 2.00, 2.00\n' in once
    assert '{"float32", 8, false, false},  // 8: 0.50, 0.50\n' in once
    assert "// MEASURED on none" in once and "ESTIMATE" not in once
    before, after = report._ROW.findall(committed), report._ROW.findall(once)
    assert [p for p in after if p != "float32"] == [p for p in before if p != "float32"], "what was not measured stays"
    assert once.splitlines()[0] == committed.splitlines()[0] and once.splitlines()[-3:] == committed.splitlines()[-3:]
    assert report.preferred_header(once, result(rows)) == once
