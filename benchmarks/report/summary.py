# SPDX-License-Identifier: Apache-2.0
"""What the README shows of one or more runs: a table, and the rest in a line each.

Machines under a hypervisor are not the same from hour to hour, so several runs of the same code are shown as ranges.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from benchmarks.harness import stats
from benchmarks.report import results as r
from benchmarks.report.bars import Bar, bars, best_ratios, extreme
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


def summary(runs: Sequence[Run]) -> str:
    """Markdown; what the runs have not measured is left out."""
    rows = [_row(found) for case in _CASES if (found := _of(runs, case))]
    head = ("milliseconds", "sknet_ops", "best of PyTorch, ONNX Runtime, OpenVINO", "MindSpore, capped to AVX2")
    return "\n\n".join(part for part in (table(head, rows) if rows else "", "\n".join(_lines(runs))) if part) + "\n"


def _of(runs: Sequence[Run], case: str) -> list[r.Result]:
    """That case's result in each run that has compared it."""
    found = [x for run in runs for x in run["results"] if x["id"] == case]
    return [x for x in found if r.LAYER in x["times"] and r.best_peer(x, r.OTHERS)]


def _name(result: r.Result) -> str:
    shape, name = result["shape"], result["shape"]["name"]
    if result["kind"] == "sk_layer":
        name = f"SK layer, {shape['c_out']} channels, {shape['hw']} x {shape['hw']}"
    return f"{name}, batch {result['batch']}, {_MODES[result['mode']]}"


def _row(found: list[r.Result]) -> tuple[str, str, str, str]:
    own, kernel, capped = (_times(found, name) for name in (r.LAYER, r.KERNEL, r.CAPPED))
    best = [(name, x["times"][name]["median"]) for x in found if (name := r.best_peer(x, r.OTHERS))]
    peer = _range([seconds for _, seconds in best], milliseconds)
    names = ", ".join(dict(best))
    return _name(found[0]), own + (f" (kernel alone {kernel})" if kernel else ""), f"{peer} ({names})", capped or "-"


def _times(found: list[r.Result], name: str) -> str:
    seconds = [median for x in found if (median := r.median(x, name)) is not None]
    return _range(seconds, milliseconds) if seconds else ""


def _lines(runs: Sequence[Run]) -> Iterator[str]:
    yield from _limits(runs)
    layers = [list(r.select(run, "sk_layer", "forward")) for run in runs]
    grouped = [[x for x in found if r.is_grouped(x)] for found in layers]
    dense = [[x for x in found if not r.is_grouped(x)] for found in layers]
    trained = [list(r.select(run, "sk_layer", "train")) for run in runs]
    networks = [list(r.select(run, "network", "forward")) for run in runs]
    yield from _lead("SK layers, grouped, forward, kernel", grouped, r.KERNEL)
    yield from _lead("SK layers, dense, forward, kernel", dense, r.KERNEL)
    yield from _lead("SK layers, forward, in MindSpore", layers, r.LAYER)
    yield from _lead("SK layers, forward + backward, kernel", trained, r.KERNEL)
    yield from _lead("SK layers, forward + backward, in MindSpore", trained, r.LAYER)
    yield from _lead("networks, forward", networks, r.LAYER)
    yield from _lead("networks, training step", [list(r.select(run, "network", "step")) for run in runs], r.LAYER)
    yield from _memory(runs)
    flat = [x for found in networks for x in found]
    if vectors := [ratio.value for x in flat if (ratio := r.ratio(x, r.VECTORS, r.LAYER)) is not None]:
        yield f"- networks, forward, without AMX (`SKNET_OPS_ISA=avx512`): {_range(vectors)} times as long"
    for case in dict.fromkeys(x["id"] for x in flat if r.PLAIN in x["times"] and r.LAYER in x["times"]):
        found = [x for x in flat if x["id"] == case]
        yield (
            f"- {_name(found[0])}: MindSpore as it comes, not capped, takes {_times(found, r.PLAIN)} ms, sknet_ops "
            f"beside it {_times(found, r.LAYER)}"
        )


def _limits(runs: Sequence[Run]) -> Iterator[str]:
    roofs = [roof for run in runs if (roof := run["roofline"].get(str(run["threads"])))]
    if roofs:
        flops = _range([roof["flops"] / 1e9 for roof in roofs], "{:.0f}".format)
        bandwidth = _range([roof["bandwidth"] / 1e9 for roof in roofs], "{:.0f}".format)
        yield f"- this machine's limits: {flops} GFLOP/s, {bandwidth} GB/s"


def _memory(runs: Sequence[Run]) -> Iterator[str]:
    memory: dict[str, list[Bar]] = {}
    for bar in (bar for run in runs for bar in bars(run) if bar.number == "5"):
        memory.setdefault(bar.what, []).append(bar)
    for what, found in memory.items():
        if values := [bar.value for bar in found if bar.value is not None]:
            yield f"- {what}: {_range(values, found[0].number_text)}"


def _lead(what: str, runs: list[list[r.Result]], ours: str) -> Iterator[str]:
    """How many times as fast as the best of the others."""
    cases = [cases for found in runs if (cases := best_ratios(found, r.OTHERS, ours)[0])]
    if not cases:
        return
    means = [stats.geometric_mean([value for _, value in run]) for run in cases]
    count = _range([len(run) for run in cases], str)
    every = [pair for run in cases for pair in run]
    yield (
        f"- {what}: {_range(means)} times as fast as the best of the others (geometric mean of {count}; each "
        f"{_range([value for _, value in every])}, least in {extreme(every, min)[1]})"
    )


def _range(values: Sequence[float], text: Callable[[float], str] = "{:.2f}".format) -> str:
    least, most = text(min(values)), text(max(values))
    return least if least == most else f"{least} to {most}"
