# SPDX-License-Identifier: Apache-2.0
"""The series of timings: which are taken, in which order, and how one that was interrupted goes on."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import torch
from report import JUDGED, OURS, TORCH
from shapes import PAPER, Unit
from timing import PASSES, Bench, CaptureError

BATCHES = (32, 256)
ONLY_JUDGED = ("turned", "eager_nchw", "compile")  # timed in the passes alone that bars are about
Rows = list[dict[str, Any]]


def configurations() -> Iterator[tuple[Unit, int, str]]:
    for precision in ("float16", "tf32", "float32", "bfloat16"):
        for batch in BATCHES:
            for unit in PAPER:
                yield unit, batch, precision


def _row(rows: Rows, bench: Bench, which: str) -> dict[str, Any]:
    key = {"unit": str(bench.unit), "batch": bench.batch, "precision": bench.precision, "pass": which}
    for row in rows:
        if all(row[name] == value for name, value in key.items()):
            return row
    rows.append({**key, "channels a group": bench.unit.channels // bench.unit.groups,
                 "bytes": bench.bytes_moved(which), "operations": bench.operations(which)})  # fmt: skip
    return rows[-1]


def timings(rows: Rows, module: Any, library: Any, deadline: float, save: Callable[[], None],
            progress: Callable[[str], None]) -> None:  # fmt: skip
    """Appends a row a configuration and pass, or adds to it; what `rows` have already, or say that it failed, is not
    done again. What there is no time for is left out, the pass last that no bar is about.

    Raises:
        CaptureError: The process can time nothing more. The row says what failed.
    """
    torch.backends.cudnn.benchmark = True
    for passes in (JUDGED, [which for which in PASSES if which not in JUDGED]):
        for unit, batch, precision in configurations():
            bench = Bench(unit, batch, precision)
            for which in passes:
                row = _row(rows, bench, which)
                for variant in (*OURS, *TORCH):
                    if variant in row or variant in row.get("failed", {}):
                        continue
                    if variant in ONLY_JUDGED and which not in JUDGED:
                        continue
                    if time.monotonic() > deadline:
                        return
                    progress(f"{unit}, {batch}, {precision}, {which}: {variant}")
                    try:
                        row[variant] = bench.variant(variant, which, library, module, faster_layout(row))
                    except Exception as error:  # out of memory, or a compiler that is missing: the others go on
                        row.setdefault("failed", {})[variant] = f"{type(error).__name__}: {error}"[:500]
                        save()
                        if isinstance(error, CaptureError):
                            raise
                        torch.cuda.synchronize()  # raises if the device is lost, which ends the run
            del bench
            torch.cuda.empty_cache()
            save()


def faster_layout(row: dict[str, Any]) -> str:
    """Of PyTorch's maps, as its eager mode has it, for torch.compile."""
    if "eager" in row and "eager_nchw" in row and row["eager_nchw"]["median_us"] < row["eager"]["median_us"]:
        return "nchw"
    return "nhwc"
