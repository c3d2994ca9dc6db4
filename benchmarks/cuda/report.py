# SPDX-License-Identifier: Apache-2.0
"""The table of a run of prove.py, and whether the bars are met."""

from __future__ import annotations

import math
import re
import statistics
from typing import Any

# SK unit, forward and step, against the better of eager and torch.compile: geometric mean, least.
MEAN_BAR, LEAST_BAR = 2.0, 1.3
# Share of the copy bandwidth that the maps moved amount to, where memory is the limit.
BANDWIDTH_BAR = 0.6
JUDGED = ("inference", "training step")


OURS = ("nchw", "turned", "nhwc")  # turned: maps in NCHW, channels last inside the unit


def _best(row: dict[str, Any], variants: tuple[str, ...]) -> float | None:
    return min((row[v]["median_us"] for v in variants if v in row), default=None)


def best_of_torch(row: dict[str, Any]) -> float | None:
    return _best(row, ("eager", "compile"))


def best_of_ours(row: dict[str, Any]) -> float | None:
    return _best(row, OURS)


def share_of_copy(row: dict[str, Any], copy: float) -> float:
    ours = best_of_ours(row)
    return row["bytes"] / ours * 1e6 / copy if ours else math.nan


def speedup(row: dict[str, Any]) -> float | None:
    best, ours = best_of_torch(row), best_of_ours(row)
    return best / ours if best and ours else None


def memory_bound(row: dict[str, Any]) -> bool:
    """4 and 8 channels a group: the units with 128 and 256 channels."""
    return int(row["unit"].split()[0]) <= 256


def _time(row: dict[str, Any], variant: str) -> str:
    if variant not in row:
        return "-"
    return f"{row[variant]['median_us']:.0f}" + ("" if row[variant]["graph"] else " (no graph)")


def judgement(rows: list[dict[str, Any]]) -> list[str]:
    lines = []
    groups = sorted({(r["pass"], r["precision"], r["batch"]) for r in rows if r["pass"] in JUDGED})
    for which, precision, batch in groups:
        ratios = [(speedup(r), r) for r in rows if (r["pass"], r["precision"], r["batch"]) == (which, precision, batch)]
        known = [ratio for ratio, _ in ratios if ratio]
        if not known:
            continue
        mean, least = math.exp(sum(map(math.log, known)) / len(known)), min(known)
        met = "met" if mean >= MEAN_BAR and least >= LEAST_BAR else "missed"
        without = sum("compile" not in r for _, r in ratios)
        note = f", {without} of {len(ratios)} without torch.compile" if without else ""
        lines.append(f"| {which} | {precision} | {batch} | {mean:.2f} | {least:.2f} | {met}{note} |")
    return lines


def layouts(rows: list[dict[str, Any]]) -> dict[tuple[str, int], tuple[float, float]]:
    """By precision and channels a group, two ratios of time, geometric means of everything judged: maps in NCHW, inside
    as the second ratio says, over maps in NHWC; and NCHW throughout over NCHW with channels last inside."""
    groups: dict[tuple[str, int], list[dict[str, Any]]] = {}
    for row in rows:
        if row["pass"] in JUDGED and all(way in row for way in OURS):
            groups.setdefault((row["precision"], row["channels a group"]), []).append(row)

    def ratio(rows: list[dict[str, Any]], over: str, under: str) -> float:
        return statistics.geometric_mean(row[over]["median_us"] / row[under]["median_us"] for row in rows)

    found = {}
    for key, of_key in sorted(groups.items()):
        inside = ratio(of_key, "nchw", "turned")
        found[key] = ratio(of_key, "turned" if inside > 1 else "nchw", "nhwc"), inside
    return found


_ROW = re.compile(r"^    \{\"(\w+)\", \d+, \w+, \w+\},.*$", re.MULTILINE)


def preferred_header(header: str, result: dict[str, Any]) -> str:
    """csrc/cuda/preferred_layout.h with measured rows in place of what it has for the same precisions."""
    versions = result["versions"]
    ratios = layouts(result["timings"])
    if not ratios:
        return header
    least = {precision: min(c for p, c in ratios if p == precision) for precision, _ in ratios}
    entries = {
        f'{{"{p}", {1 if c == least[p] else c}, {", ".join("true" if r > 1 else "false" for r in both)}}},':
        f"// {c}: {both[0]:.2f}, {both[1]:.2f}"
        for (p, c), both in ratios.items()
    }  # fmt: skip
    width = max(map(len, entries))
    lines = [f"    {entry.ljust(width)}  {ratio}" for entry, ratio in entries.items()]
    left = [row.group() for row in _ROW.finditer(header) if row.group(1) not in least]
    measured = (
        f"// MEASURED on {versions['device']}, nvcc {versions.get('nvcc', 'unknown')}: ratios of time beside a row."
    )
    if left:
        measured += "\n// Rows without are what stood here before."
    header = re.sub(r"// (ESTIMATE|MEASURED).*?(?=\nstruct)", lambda _: measured, header, flags=re.DOTALL)
    rows = "\n".join(lines + left)
    return re.sub(r"(?<=kPreferredLayouts\[\] = \{\n).*?(?=\n\};)", lambda _: rows, header, flags=re.DOTALL)


def table(result: dict[str, Any]) -> str:
    """Markdown."""
    checks = result["checks"]
    wrong = [row for row in checks if not row["ok"]]
    text = ["# CUDA: checks and times", ""]
    text += [f"- {name}: {value}" for name, value in result["versions"].items()]
    text += [f"- build {result['build seconds']} s, checks {result['check seconds']} s, all {result['seconds']} s", ""]
    text += [f"{len(checks)} checks with seed {result['seed']}, {len(wrong)} failed."]
    text += [
        f"- {r['op']}, {r['case']}, training {r['training']}, {r['precision']}, {r['layout']}: {r['wrong']}"
        for r in wrong
    ]
    rows = result.get("timings")
    if not rows:
        return "\n".join(text) + "\n"
    copy = result["copy bytes per second"]
    text += ["", f"Copy bandwidth {copy / 1e9:.0f} GB/s. Times are medians in microseconds.", ""]
    text += ["| unit | batch | precision | pass | ours, NCHW | NCHW, NHWC inside | NHWC | eager | compile | "
             "against the best | share of copy |",
             "|---|---|---|---|---|---|---|---|---|---|---|"]  # fmt: skip
    for row in rows:
        ratio, times = speedup(row), " | ".join(_time(row, variant) for variant in (*OURS, "eager", "compile"))
        text.append(
            f"| {row['unit']} | {row['batch']} | {row['precision']} | {row['pass']} | {times} | "
            f"{f'{ratio:.2f}' if ratio else '-'} | {share_of_copy(row, copy):.0%} |"
        )
    text += ["", "Ours is the best of the three, as a share of the copy bandwidth and against PyTorch.", ""]
    text += ["| precision | channels a group | time in NCHW / NHWC | faster | the library prefers | "
             "NCHW throughout / NHWC inside | faster inside | the library takes |",
             "|---|---|---|---|---|---|---|---|"]  # fmt: skip
    for (precision, channels), ratios in layouts(rows).items():
        preferred = result["preferred"][f"{precision} {channels}"]
        cells = [f"{ratio:.2f} | {'NHWC' if ratio > 1 else 'NCHW'} | {taken.upper()}"
                 for ratio, taken in zip(ratios, preferred, strict=True)]  # fmt: skip
        text.append(f"| {precision} | {channels} | {' | '.join(cells)} |")
    text += ["", f"Bar: mean {MEAN_BAR}, least {LEAST_BAR}.", ""]
    text += ["| pass | precision | batch | mean | least | bar |", "|---|---|---|---|---|---|", *judgement(rows)]
    largest = max(row["batch"] for row in rows)
    judged = [r for r in rows if memory_bound(r) and r["pass"] == "inference" and r["batch"] == largest]
    shares = [share_of_copy(row, copy) for row in judged if best_of_ours(row)]
    if shares:
        met = "met" if min(shares) >= BANDWIDTH_BAR else "missed"
        text += ["", f"Memory-bound units, inference: {min(shares):.0%} to {max(shares):.0%} of the copy bandwidth; "
                     f"bar {BANDWIDTH_BAR:.0%} {met}."]  # fmt: skip
    return "\n".join(text) + "\n"
