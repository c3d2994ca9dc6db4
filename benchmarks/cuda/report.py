# SPDX-License-Identifier: Apache-2.0
"""The table of a run of prove.py, and whether the bars are met."""

from __future__ import annotations

import math
import re
import statistics
from typing import Any

from shapes import PAPER

# SK unit, forward and step, against the best of eager, in both layouts, and torch.compile: geometric mean, least.
MEAN_BAR, LEAST_BAR = 2.0, 1.3
# Share of the copy bandwidth that the maps moved amount to, where memory is the limit.
BANDWIDTH_BAR = 0.6
JUDGED = ("inference", "training step")
OURS = ("nchw", "turned", "nhwc")  # turned: maps in NCHW, channels last inside the unit
TORCH = ("eager", "eager_nchw", "compile")  # in NHWC; in NCHW; in the faster of the two
# Operations a second that an H100 (SXM) is rated at, without sparsity: its cores, and its tensor cores.
CORES_RATED = 67e12
TENSOR_RATED = {"tf32": 494e12, "float16": 989e12, "bfloat16": 989e12}


def _best(row: dict[str, Any], variants: tuple[str, ...]) -> float | None:
    return min((row[v]["median_us"] for v in variants if v in row), default=None)


def best_of_torch(row: dict[str, Any]) -> float | None:
    return _best(row, TORCH)


def best_of_ours(row: dict[str, Any]) -> float | None:
    return _best(row, OURS)


def share_of_copy(row: dict[str, Any], copy: float) -> float:
    ours = best_of_ours(row)
    return row["bytes"] / ours * 1e6 / copy if ours else math.nan


def speedup(row: dict[str, Any]) -> float | None:
    best, ours = best_of_torch(row), best_of_ours(row)
    return best / ours if best and ours else None


def memory_bound(row: dict[str, Any], copy: float) -> bool:
    """By the roofline of an H100: what takes longer to move than to compute at the rated speed."""
    on_tensor_cores = row["channels a group"] >= 16 and row["precision"] in TENSOR_RATED
    rated = TENSOR_RATED[row["precision"]] if on_tensor_cores else CORES_RATED
    return row["operations"] / rated < row["bytes"] / copy


def _time(row: dict[str, Any], variant: str) -> str:
    if variant not in row:
        return "failed" if variant in row.get("failed", {}) else "-"
    layout = f" ({row[variant]['layout'].upper()})" if variant == "compile" else ""
    return f"{row[variant]['median_us']:.0f}{layout}"


def judgement(rows: list[dict[str, Any]], units: int) -> list[str]:
    """A line a pass, precision and batch. Of fewer units than `units`, or without all of PyTorch's times, a bar may be
    missed but not be met."""
    lines = []
    groups = sorted({(r["pass"], r["precision"], r["batch"]) for r in rows if r["pass"] in JUDGED})
    for which, precision, batch in groups:
        ratios = [(speedup(r), r) for r in rows if (r["pass"], r["precision"], r["batch"]) == (which, precision, batch)]
        known = [ratio for ratio, _ in ratios if ratio]
        if not known:
            continue
        mean, least = math.exp(sum(map(math.log, known)) / len(known)), min(known)
        whole = sum(ratio is not None and set(TORCH) <= set(r) for ratio, r in ratios)
        met = "missed" if mean < MEAN_BAR or least < LEAST_BAR else "met" if whole == units else "incomplete"
        note = "" if whole == units else f", {whole} of {units} units against all of PyTorch's ways"
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


def _described(row: dict[str, Any]) -> str:
    return f"{row['op']}, {row['case']}, training {row['training']}, {row['precision']}, {row['layout']}"


def table(result: dict[str, Any], units: int = len(PAPER)) -> str:
    """Markdown. `units` is how many a bar is about."""
    checks = result["checks"]
    wrong = [row for row in checks if not row["ok"]]
    again = [row for row in checks if row.get("draws", 1) > 1]
    text = ["# CUDA: checks and times", ""]
    text += [f"- {name}: {value}" for name, value in result.get("versions", {}).items()]
    took = ((what, f"{what} seconds") for what in ("build", "check"))
    text += [f"- {what}: {result[key]} s" for what, key in took if key in result]
    text += [f"- all: {result['seconds']} s", ""]
    text += [f"{len(checks)} checks with seed {result['seed']}, {len(wrong)} failed."]
    text += [f"- {_described(row)}: {row['wrong']}" for row in wrong]
    if again:
        text += ["", f"{len(again)} were judged over several draws, since the first was above what is allowed:"]
        text += [f"- {_described(row)}" for row in again]
    if "unfinished" in result:
        text += ["", f"**Not checked**, for want of time or because the run broke off: {result['unfinished']}."]
    if "broke off" in result:
        text += ["", f"**The run broke off**: {result['broke off']}"]
    rows = result.get("timings")
    if not rows:
        return "\n".join(text) + "\n"
    copy = result["copy bytes per second"]
    text += ["", f"Copy bandwidth {copy / 1e9:.0f} GB/s. Times are medians in microseconds.", ""]
    text += ["| unit | batch | precision | pass | ours, NCHW | NCHW, NHWC inside | NHWC | eager, NHWC | eager, NCHW | "
             "compile | against the best | share of copy |",
             "|---|---|---|---|---|---|---|---|---|---|---|---|"]  # fmt: skip
    for row in rows:
        ratio, times = speedup(row), " | ".join(_time(row, variant) for variant in (*OURS, *TORCH))
        text.append(
            f"| {row['unit']} | {row['batch']} | {row['precision']} | {row['pass']} | {times} | "
            f"{f'{ratio:.2f}' if ratio else '-'} | {share_of_copy(row, copy):.0%} |"
        )
    text += ["", "Ours is the best of the three, as a share of the copy bandwidth and against the best of PyTorch's."]
    text += ["torch.compile has the faster of eager's layouts.", ""]
    text += ["| precision | channels a group | time in NCHW / NHWC | faster | the library prefers | "
             "NCHW throughout / NHWC inside | faster inside | the library takes |",
             "|---|---|---|---|---|---|---|---|"]  # fmt: skip
    for (precision, channels), ratios in layouts(rows).items():
        preferred = result["preferred"][f"{precision} {channels}"]
        cells = [f"{ratio:.2f} | {'NHWC' if ratio > 1 else 'NCHW'} | {taken.upper()}"
                 for ratio, taken in zip(ratios, preferred, strict=True)]  # fmt: skip
        text.append(f"| {precision} | {channels} | {' | '.join(cells)} |")
    text += ["", f"Bar: mean {MEAN_BAR}, least {LEAST_BAR}.", ""]
    text += ["| pass | precision | batch | mean | least | bar |", "|---|---|---|---|---|---|", *judgement(rows, units)]
    failed = [(row, name, reason) for row in rows for name, reason in row.get("failed", {}).items()]
    text += [""] * bool(failed)
    text += [f"- {row['unit']}, {row['batch']}, {row['precision']}, {row['pass']}: {name} failed: {reason}"
             for row, name, reason in failed]  # fmt: skip
    text += bandwidth_judgement(rows, copy)
    return "\n".join(text) + "\n"


def bandwidth_judgement(rows: list[dict[str, Any]], copy: float) -> list[str]:
    """A line a precision, of inference at the largest batch."""
    largest = max(row["batch"] for row in rows)
    shares: dict[str, list[float]] = {}
    for row in rows:
        if row["pass"] == "inference" and row["batch"] == largest and memory_bound(row, copy) and best_of_ours(row):
            shares.setdefault(row["precision"], []).append(share_of_copy(row, copy))
    if not shares:
        return []
    limit = "where memory is the limit by an H100's rated arithmetic"
    lines = ["", f"Bar: {BANDWIDTH_BAR:.0%} of the copy bandwidth {limit}; inference, batch {largest}.", ""]
    lines += ["| precision | units | least | most | bar |", "|---|---|---|---|---|"]
    for precision, found in sorted(shares.items()):
        met = "met" if min(found) >= BANDWIDTH_BAR else "missed"
        lines.append(f"| {precision} | {len(found)} | {min(found):.0%} | {max(found):.0%} | {met} |")
    return lines
