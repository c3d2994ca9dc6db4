# SPDX-License-Identifier: Apache-2.0
"""What the README shows of a run: a table, and the rest in a line each."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from benchmarks.harness import stats
from benchmarks.report import results as r
from benchmarks.report.bars import bars
from benchmarks.report.tables import milliseconds, table

Run = dict[str, Any]

CAPPED, PLAIN, VECTORS = "MindSpore capped", "MindSpore as it comes", "sknet_ops, AVX-512"
OTHERS = ("torch eager", "torch.compile", "ONNX Runtime", "OpenVINO")

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
    compared = [x for x in run["results"] if r.LAYER in x["times"] and r.best_peer(x, OTHERS)]
    rows = [_row(x) for case in _CASES for x in compared if x["id"] == case]
    head = ("milliseconds", "sknet_ops", "best of PyTorch, ONNX Runtime, OpenVINO", "MindSpore, capped to AVX2")
    return "\n\n".join(part for part in (table(head, rows) if rows else "", "\n".join(_lines(run))) if part) + "\n"


def _row(result: r.Result) -> tuple[str, str, str, str]:
    shape, own = result["shape"], milliseconds(r.median(result, r.LAYER))
    if result["kind"] == "sk_layer":
        name = f"SK layer, {shape['c_out']} channels, {shape['hw']} x {shape['hw']}"
        if (kernel := r.median(result, r.KERNEL)) is not None:
            own += f" (kernel alone {milliseconds(kernel)})"
    else:
        name = shape["name"]
    best, capped = r.best_peer(result, OTHERS), r.median(result, CAPPED)
    return (
        f"{name}, batch {result['batch']}, {_MODES[result['mode']]}",
        own,
        f"{milliseconds(r.median(result, best))} ({best})" if best else "-",
        milliseconds(capped) if capped else "-",
    )


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
    if vectors := [ratio.value for x in networks if (ratio := r.ratio(x, VECTORS, r.LAYER)) is not None]:
        yield f"- networks, forward, without AMX (`SKNET_OPS_ISA=avx512`): {_range(vectors)} times as long"
    for x in networks:
        if PLAIN in x["times"] and r.LAYER in x["times"]:
            plain, own = milliseconds(r.median(x, PLAIN)), milliseconds(r.median(x, r.LAYER))
            yield f"- {_row(x)[0]}: MindSpore as it comes, not capped, takes {plain} ms, sknet_ops {own}"


def _lead(what: str, found: list[r.Result], ours: str) -> Iterator[str]:
    """How many times as fast as the best of the others."""
    ratios = {}
    for x in found:
        best = r.best_peer(x, OTHERS)
        if best is not None and (ratio := r.ratio(x, best, ours)) is not None:
            ratios[x["id"]] = ratio.value
    if not ratios:
        return
    mean, least = stats.geometric_mean(list(ratios.values())), min(ratios, key=ratios.__getitem__)
    yield (
        f"- {what}: {mean:.2f} times as fast as the best of the others (geometric mean of {len(ratios)}; "
        f"{_range(list(ratios.values()))}, least in {least})"
    )


def _range(values: list[float]) -> str:
    return f"{min(values):.2f} to {max(values):.2f}"
