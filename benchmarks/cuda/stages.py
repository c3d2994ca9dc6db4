# SPDX-License-Identifier: Apache-2.0
"""What is checked on a device, in which order."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator
from typing import Any

from check import Checker, named, odd_cases
from shapes import dense_cases, paper_cases
from timing import PRECISIONS, allow_tf32

from tests.cases import AttentionCase
from tests.cuda.units import LONG, UNITS, WALKS

Rows = list[dict[str, Any]]


def check(rows: Rows, checker: Checker, module: Any, few: bool, deadline: float, save: Callable[[], Any]) -> str:
    """Appends a row a check; says what there was no time for, or nothing."""
    allow_tf32(False)  # PyTorch's convolutions have it on otherwise, and are the yardstick
    odd, paper, every = odd_cases(), paper_cases(3), list(PRECISIONS)
    whole = [case for case in paper if case.op == "selective_kernel"]
    # Where tensor cores and 16-bit maps differ most: in these, all precisions.
    attention = [case for case in odd if isinstance(case, AttentionCase)]
    stages: list[tuple[str, Iterator[dict[str, Any]]]] = [
        ("odd shapes", checker.all(odd[::4] if few else odd, ["float32"])),
        ("units", checker.all(UNITS, ["float32"])),
        ("tensor cores", checker.all([case for case in odd if "channels a group" in case.why], every)),
        ("attention in 16 bits", checker.all(attention[::4] if few else attention, ["float16", "bfloat16"])),
        ("blocks of many images", checker.all(WALKS[:1], ["float16"], (True,)) if few
         else checker.all(WALKS, ["tf32", "float16", "bfloat16"], (True,))),
    ]  # fmt: skip
    if not few:
        stages += [
            ("the paper's units", checker.all(paper, ["float32"])),
            ("the paper's units in training", checker.all(whole, ["tf32", "float16", "bfloat16"], (True,))),
            ("50 repeats", _repeats(checker, module, whole)),
            ("the paper's units in inference", checker.all(whole, ["float16"], (False,))),
            ("many images", checker.all([LONG], ["float32"], (True,))),
            ("dense units", checker.all(dense_cases(2), ["float32"], (True,))),
        ]
    for index, (name, found) in enumerate(stages):
        before, started = len(rows), time.monotonic()
        for row in found:
            rows.append(row)
            if time.monotonic() > deadline:
                left = [f"the rest of {name}", *(name for name, _ in stages[index + 1 :])]
                return "; ".join(left)
        failed = sum(not row["ok"] for row in rows[before:])
        print(f"{name}: {len(rows) - before} checks, {failed} failed, {time.monotonic() - started:.0f} s", flush=True)
        save()
    return ""


def _repeats(checker: Checker, module: Any, cases: list[Any]) -> Iterator[dict[str, Any]]:
    every = itertools.product(cases, ("float32", "float16"), module.ARRANGEMENTS.values())
    for case, precision, (layout, inside) in every:
        wrong = checker.repeats(case, precision, layout, inside)
        yield {"op": case.op, "case": f"{case}, 50 times the same bits", "training": True, "precision": precision,
               "layout": named(layout, inside), "wrong": wrong, "ok": not wrong}  # fmt: skip
