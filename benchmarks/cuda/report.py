# SPDX-License-Identifier: Apache-2.0
"""The table of a run of prove.py, and whether the bars are met."""

from __future__ import annotations

import math
from typing import Any

# SK unit, forward and step, against the better of eager and torch.compile: geometric mean, least.
MEAN_BAR, LEAST_BAR = 2.0, 1.3
# Share of the copy bandwidth that the maps moved amount to, where memory is the limit.
BANDWIDTH_BAR = 0.6
JUDGED = ("inference", "training step")


def best_of_torch(row: dict[str, Any]) -> float | None:
    times = [row[v]["median_us"] for v in ("eager", "compile") if v in row]
    return min(times) if times else None


def speedup(row: dict[str, Any]) -> float | None:
    best = best_of_torch(row)
    return best / row["ours"]["median_us"] if best and "ours" in row else None


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


def table(result: dict[str, Any]) -> str:
    """Markdown."""
    checks = result["checks"]
    wrong = [row for row in checks if not row["ok"]]
    text = ["# CUDA: checks and times", ""]
    text += [f"- {name}: {value}" for name, value in result["versions"].items()]
    text += [f"- build {result['build seconds']} s, checks {result['check seconds']} s, all {result['seconds']} s", ""]
    text += [f"{len(checks)} checks with seed {result['seed']}, {len(wrong)} failed."]
    text += [f"- {r['op']}, {r['case']}, training {r['training']}, {r['precision']}: {r['wrong']}" for r in wrong]
    rows = result.get("timings")
    if not rows:
        return "\n".join(text) + "\n"
    copy = result["copy bytes per second"]
    text += ["", f"Copy bandwidth {copy / 1e9:.0f} GB/s. Times are medians in microseconds.", ""]
    text += ["| unit | batch | precision | pass | ours | eager | compile | against the best | share of copy |",
             "|---|---|---|---|---|---|---|---|---|"]  # fmt: skip
    for row in rows:
        share = row["bytes"] / row["ours"]["median_us"] * 1e6 / copy if "ours" in row else math.nan
        ratio = speedup(row)
        text.append(
            f"| {row['unit']} | {row['batch']} | {row['precision']} | {row['pass']} | {_time(row, 'ours')} | "
            f"{_time(row, 'eager')} | {_time(row, 'compile')} | {f'{ratio:.2f}' if ratio else '-'} | {share:.0%} |"
        )
    text += ["", f"Bar: mean {MEAN_BAR}, least {LEAST_BAR}.", ""]
    text += ["| pass | precision | batch | mean | least | bar |", "|---|---|---|---|---|---|", *judgement(rows)]
    largest = max(row["batch"] for row in rows)
    judged = [r for r in rows if "ours" in r and memory_bound(r) and r["pass"] == "inference" and r["batch"] == largest]
    shares = [row["bytes"] / row["ours"]["median_us"] * 1e6 / copy for row in judged]
    if shares:
        met = "met" if min(shares) >= BANDWIDTH_BAR else "missed"
        text += ["", f"Memory-bound units, inference: {min(shares):.0%} to {max(shares):.0%} of the copy bandwidth; "
                     f"bar {BANDWIDTH_BAR:.0%} {met}."]  # fmt: skip
    return "\n".join(text) + "\n"
