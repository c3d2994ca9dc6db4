# SPDX-License-Identifier: Apache-2.0
"""What the README shows of a run: a table, and the rest in a line each."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from benchmarks.harness import stats
from benchmarks.report import results as r
from benchmarks.report.bars import bars, best_ratios, extreme
from benchmarks.report.tables import milliseconds, table

Run = dict[str, Any]

_CASES = (
    "sk_grouped/c128_56/forward/b8/warm",
    "sk_grouped/c256_28/forward/b8/warm",
    "sk_grouped/c512_14/forward/b8/warm",
    "sk_grouped/c1024_7/forward/b8/warm",
    "sk_grouped/c256_28/forward/b1/warm",
    "sk_grouped/c256_28/train/b8/warm",
    "sk_grouped/c1024_7/train/b8/warm",
    "networks/skresnet18/forward/b8/warm",
    "networks/skresnet18/forward/b1/warm",
    "networks/skresnext50_32x4d.timm/forward/b8/warm",
    "networks/skresnext50_32x4d.timm/forward/b1/warm",
    "networks/sknet50/forward/b8/warm",
    "networks/sknet50/forward/b1/warm",
    "networks/skresnet18/step/b8/warm",
    "networks/skresnext50_32x4d.timm/step/b8/warm",
)
_MODES = {"forward": "forward", "train": "forward + backward", "step": "training step"}


def summary(run: Run) -> str:
    """Markdown; what the run has not measured is left out."""
    compared = [x for x in run["results"] if r.LAYER in x["times"] and r.best_peer(x, r.OTHERS)]
    rows = [_row(x) for case in _CASES for x in compared if x["id"] == case]
    head = ("milliseconds", "sknet_ops", "best of PyTorch, ONNX Runtime, OpenVINO", "MindSpore, capped to AVX2")
    return "\n\n".join(part for part in (table(head, rows) if rows else "", "\n".join(_lines(run))) if part) + "\n"


def _name(result: r.Result) -> str:
    shape, name = result["shape"], result["shape"]["name"]
    if result["kind"] == "sk_layer":
        name = f"SK layer, {shape['c_out']} channels, {shape['hw']} x {shape['hw']}"
    return f"{name}, batch {result['batch']}, {_MODES[result['mode']]}"


def _row(result: r.Result) -> tuple[str, str, str, str]:
    own = milliseconds(r.median(result, r.LAYER))
    if (kernel := r.median(result, r.KERNEL)) is not None:
        own += f" (kernel alone {milliseconds(kernel)})"
    best, capped = r.best_peer(result, r.OTHERS), r.median(result, r.CAPPED)
    peer = f"{milliseconds(r.median(result, best))} ({best})"
    return _name(result), own, peer, milliseconds(capped) if capped else "-"


def _lines(run: Run) -> Iterator[str]:
    layers = list(r.select(run, "sk_layer", "forward"))
    networks = list(r.select(run, "network", "forward"))
    yield from _lead("SK layers, grouped, forward, kernel", [x for x in layers if r.is_grouped(x)], r.KERNEL)
    yield from _lead("SK layers, dense, forward, kernel", [x for x in layers if not r.is_grouped(x)], r.KERNEL)
    yield from _lead("SK layers, forward, in MindSpore", layers, r.LAYER)
    trained = list(r.select(run, "sk_layer", "train"))
    yield from _lead("SK layers, forward + backward, kernel", trained, r.KERNEL)
    yield from _lead("SK layers, forward + backward, in MindSpore", trained, r.LAYER)
    yield from _lead("networks, forward", networks, r.LAYER)
    yield from _lead("networks, training step", list(r.select(run, "network", "step")), r.LAYER)
    for bar in bars(run):
        if bar.number == "5" and bar.value is not None:
            yield f"- {bar.what}: {bar.number_text(bar.value)}"
    if vectors := [ratio.value for x in networks if (ratio := r.ratio(x, r.VECTORS, r.LAYER)) is not None]:
        yield f"- networks, forward, without AMX (`SKNET_OPS_ISA=avx512`): {_range(vectors)} times as long"
    for x in networks:
        if r.PLAIN in x["times"] and r.LAYER in x["times"]:
            plain, own = milliseconds(r.median(x, r.PLAIN)), milliseconds(r.median(x, r.LAYER))
            yield f"- {_name(x)}: MindSpore as it comes, not capped, takes {plain} ms, sknet_ops beside it {own}"


def _lead(what: str, found: list[r.Result], ours: str) -> Iterator[str]:
    """How many times as fast as the best of the others."""
    cases, _ = best_ratios(found, r.OTHERS, ours)
    if not cases:
        return
    ratios = [value for _, value in cases]
    yield (
        f"- {what}: {stats.geometric_mean(ratios):.2f} times as fast as the best of the others (geometric mean of "
        f"{len(ratios)}; {_range(ratios)}, least in {extreme(cases, min)[1]})"
    )


def _range(values: list[float]) -> str:
    return f"{min(values):.2f} to {max(values):.2f}"
