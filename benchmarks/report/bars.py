# SPDX-License-Identifier: Apache-2.0
"""The project's bars, each with its value in a run and whether that meets it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from benchmarks.harness import stats
from benchmarks.report import results as r

Run = dict[str, Any]
Values = list[tuple[str, float]]  # (case, value)

# The large shapes, on which threads must scale.
SCALING_SECONDS = 1e-3
# Per image, the largest batch may cost so much more than a quarter of it.
LINEAR = 1.15


@dataclass(frozen=True)
class Bar:
    """`value` is None if the run has not measured it; `note` says where the value comes from or what is missing."""

    number: str
    what: str
    target: float
    value: float | None
    at_least: bool = True
    unit: str = "x"
    note: str = ""

    @property
    def met(self) -> bool | None:
        if self.value is None:
            return None
        return self.value >= self.target if self.at_least else self.value <= self.target

    @property
    def verdict(self) -> str:
        return {None: "not measured", True: "met", False: "missed"}[self.met]

    def number_text(self, value: float | None) -> str:
        if value is None:
            return "-"
        return f"{value:.1%}" if self.unit == "%" else f"{value:.2f}"


def bars(run: Run) -> list[Bar]:
    """All of them, in their order."""
    found: list[Bar] = []
    for ours, label in ((r.KERNEL, "kernel"), (r.LAYER, "layer in MindSpore")):
        found += _layer_forward(run, ours, label)
    found.append(_roofline(run))
    for ours, label in ((r.KERNEL, "kernel"), (r.LAYER, "layer in MindSpore")):
        found += _layer_training(run, ours, label)
    found += [*_networks(run), *_steps(run), *_memory(run), *_scaling(run)]
    return found


def best_ratios(found: Iterable[r.Result], peers: Collection[str], ours: str) -> tuple[Values, str]:
    """Best peer over ours, by case; and which peers did not run everywhere."""
    values, absent = [], set()
    for result in found:
        absent |= {name for name in peers if name not in result["times"]}
        best = r.best_peer(result, peers)
        if best is not None and (ratio := r.ratio(result, best, ours)) is not None:
            values.append((result["id"], ratio.value))
    return values, f"; not everywhere: {', '.join(sorted(absent))}" if absent else ""


def _geometric(values: Values) -> float | None:
    return stats.geometric_mean([value for _, value in values]) if values else None


def extreme(values: Values, choose: Callable) -> tuple[float | None, str]:
    if not values:
        return None, "no such case in this run"
    case, value = choose(values, key=lambda pair: pair[1])
    return value, case


def _layer_forward(run: Run, ours: str, label: str) -> Iterator[Bar]:
    cases = [x for x in r.select(run, "sk_layer", "forward", (1, 8, 32)) if set(r.INFERENCE_PEERS) & set(x["times"])]
    values, absent = best_ratios(cases, r.INFERENCE_PEERS, ours)
    what = f"SK layer forward, {label}, over the best peer"
    yield Bar("1", f"{what}: geometric mean", 2.5, _geometric(values), note=f"{len(values)} cases{absent}")
    for grouped, name, target in ((True, "grouped", 1.5), (False, "dense", 1.1)):
        some, _ = best_ratios([x for x in cases if r.is_grouped(x) == grouped], r.INFERENCE_PEERS, ours)
        value, where = extreme(some, min)
        yield Bar("1", f"{what}: least of the {name}", target, value, note=where)


def _roofline(run: Run) -> Bar:
    shares = {x["id"]: r.share(run, x, r.KERNEL) for x in r.select(run, "sk_layer", "forward", (8,)) if r.is_grouped(x)}
    value, where = extreme([(case, share) for case, share in shares.items() if share is not None], min)
    return Bar(
        "1", "SK layer forward, kernel, grouped, batch 8: least share of the roofline", 0.45, value, True, "%", where
    )


def _layer_training(run: Run, ours: str, label: str) -> Iterator[Bar]:
    cases = [x for x in r.select(run, "sk_layer", "train") if set(r.TRAINING_PEERS) & set(x["times"])]
    values, absent = best_ratios(cases, r.TRAINING_PEERS, ours)
    what = f"SK layer forward + backward, {label}, over the best of torch"
    yield Bar("2", f"{what}: geometric mean", 2.5, _geometric(values), note=f"{len(values)} cases{absent}")
    value, where = extreme(values, min)
    yield Bar("2", f"{what}: least", 1.5, value, note=where)


def _networks(run: Run) -> Iterator[Bar]:
    for name in ("skresnet18", "skresnext50_32x4d.timm", "sknet50"):
        for batch in (1, 8):
            found = [x for x in r.select(run, "network", "forward", (batch,)) if x["shape"]["name"] == name]
            for peer in ("OpenVINO", "ONNX Runtime"):
                yield _against(f"{name}, batch {batch}, forward, over {peer}", "3", 1.2, found, peer)


def _steps(run: Run) -> Iterator[Bar]:
    for name in ("skresnet18", "skresnext50_32x4d.timm"):
        found = [x for x in r.select(run, "network", "step", (8,)) if x["shape"]["name"] == name]
        for peer, target in (("torch.compile", 1.5), (r.CAPPED, 5.0)):
            yield _against(f"{name}, batch 8, training step, over {peer}", "4", target, found, peer)


def _against(what: str, number: str, target: float, found: list[r.Result], peer: str) -> Bar:
    """Of the case that was run with this peer, if any was."""
    for result in found:
        if (ratio := r.ratio(result, peer, r.LAYER)) is not None:
            return Bar(number, what, target, ratio.value, note=f"{ratio.low:.2f} .. {ratio.high:.2f}")
    reasons = [x["missing"][peer] for x in found if peer in x["missing"]]
    return Bar(number, what, target, None, note=reasons[0] if reasons else "no such case in this run")


def _memory(run: Run) -> Iterator[Bar]:
    other = r.CAPPED
    values: Values = []
    for entry in run["memory"]["layers"]:
        if {r.LAYER, other} <= set(entry["kept"]):
            values.append((entry["id"], entry["kept"][r.LAYER] / entry["kept"][other]))
    value, where = extreme(values, max)
    yield Bar("5", "kept by a training SK layer for backward, of MindCV's", 0.4, value, False, "%", where)
    if not run["memory"]["steps"]:
        yield Bar("5", "peak memory of a training step, of MindCV's", 0.6, None, False, "%", "no such case in this run")
    for entry in run["memory"]["steps"]:
        peaks = entry["peaks"]
        if not {r.LAYER, other} <= set(peaks):
            note = "; ".join(entry["missing"].values())
            yield Bar("5", f"peak memory of a training step, {entry['id']}, of MindCV's", 0.6, None, False, "%", note)
            continue
        added = {name: peak["peak"] - peak["baseline"] for name, peak in peaks.items()}
        whole = {name: f"{peak['peak'] / 1024:.0f} MB" for name, peak in peaks.items()}
        note = f"with MindSpore itself: {whole[r.LAYER]} and {whole[other]}"
        value = added[r.LAYER] / added[other]
        yield Bar("5", f"peak memory of a training step, {entry['id']}, of MindCV's", 0.6, value, False, "%", note)


def _scaling(run: Run) -> Iterator[Bar]:
    values: Values = []
    per_image: dict[str, dict[int, float]] = {}
    for result in run["results"]:
        one, all_threads = r.median(result, r.ONE_THREAD), r.median(result, r.KERNEL)
        if one and all_threads and all_threads > SCALING_SECONDS:
            values.append((result["id"], one / all_threads))
        if (result["kind"], result["mode"], result["cache"]) == ("sk_layer", "forward", "warm") and all_threads:
            per_image.setdefault(result["shape"]["name"], {})[result["batch"]] = all_threads / result["batch"]
    value, where = extreme(values, min)
    yield Bar("6", f"{run['threads']} threads over one, SK layers above 1 ms: least", 1.85, value, note=where)
    growth = [(name, times[32] / times[8]) for name, times in per_image.items() if {8, 32} <= set(times)]
    value, where = extreme(growth, max)
    what = "linear in batch: time of an image in a batch of 32 over 8, most"
    yield Bar("6", what, LINEAR, value, at_least=False, note=where)
    outside = [
        (p["id"], p["outside"] / p["seconds"]) for p in run["profiles"] if "ops" in p and "/forward/b1/" in p["id"]
    ]
    value, where = extreme(outside, max)
    what = "batch-1 network forward: share outside of our ops (MindSpore and its own operators), most"
    yield Bar("6", what, 0.1, value, False, "%", where)
