# SPDX-License-Identifier: Apache-2.0
"""Results as pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks.report import results as r

Run = dict[str, Any]
_OURS = "#c0392b"
_PEERS = ("#2c3e50", "#7f8c8d", "#2980b9", "#16a085", "#8e44ad", "#d35400")


def why_not() -> str | None:
    """None if plots can be drawn here."""
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        return f"matplotlib is missing ({error})"
    return None


def draw(run: Run, folder: Path) -> list[str]:
    """Writes the pictures that the run has data for; returns their names."""
    import matplotlib

    matplotlib.use("Agg")
    folder.mkdir(parents=True, exist_ok=True)
    pictures = {
        "roofline.png": lambda path: _roofline(run, path),
        "sk_layer_forward.png": lambda path: _bars(run, "sk_layer", "forward", path),
        "sk_layer_train.png": lambda path: _bars(run, "sk_layer", "train", path),
        "networks.png": lambda path: _bars(run, "network", "forward", path),
        "steps.png": lambda path: _bars(run, "network", "step", path),
    }
    return [name for name, picture in pictures.items() if picture(folder / name)]


def _roofline(run: Run, path: Path) -> bool:
    """Our kernels below the roof: arithmetic intensity against arithmetic done a second."""
    from matplotlib import pyplot

    kinds = {("sk_layer", "forward"): "o", ("sk_layer", "train"): "s", ("conv_bn_act", "forward"): "^"}
    points = {key: [x for x in r.select(run, *key) if r.KERNEL in x["times"]] for key in kinds}
    if not any(points.values()):
        return False
    figure, axes = pyplot.subplots(figsize=(8, 5), layout="constrained")
    roof = run["roofline"][str(run["threads"])]
    intensities = [x["flops"] / x["bytes"] for found in points.values() for x in found]
    edge = roof["flops"] / roof["bandwidth"]
    ends = [min(*intensities, edge) / 2, edge, max(*intensities, edge) * 2]
    axes.plot(
        ends, [min(i * roof["bandwidth"], roof["flops"]) / 1e9 for i in ends], color="black", label="measured limit"
    )
    for (kind, mode), found in points.items():
        if found:
            xs = [x["flops"] / x["bytes"] for x in found]
            ys = [x["flops"] / r.median(x, r.KERNEL) / 1e9 for x in found]
            axes.scatter(xs, ys, marker=kinds[kind, mode], label=f"{kind}, {mode}", alpha=0.7)
    axes.set(xscale="log", yscale="log", xlabel="FLOP a byte", ylabel="GFLOP/s",
             title=f"{r.KERNEL}, {run['threads']} threads")  # fmt: skip
    axes.legend()
    axes.grid(alpha=0.3)
    figure.savefig(path, dpi=120)
    pyplot.close(figure)
    return True


def _bars(run: Run, kind: str, mode: str, path: Path) -> bool:
    """Every contestant's speed relative to ours, by case."""
    from matplotlib import pyplot

    found = [x for x in r.select(run, kind, mode) if len(x["times"]) > 2 or kind == "network" and len(x["times"]) > 1]
    own = r.LAYER if kind == "network" else r.KERNEL
    found = [x for x in found if own in x["times"]]
    if not found:
        return False
    names = [name for name in run["contestants"] if any(name in x["times"] for x in found)]
    figure, axes = pyplot.subplots(figsize=(max(7, 0.28 * len(found) * len(names)), 5), layout="constrained")
    width = 0.85 / len(names)
    colours = iter(_PEERS * len(names))
    for index, name in enumerate(names):
        ours = run["contestants"][name]["ours"]
        offsets, heights = [], []
        for place, x in enumerate(found):
            if name in x["times"]:
                offsets.append(place + (index - (len(names) - 1) / 2) * width)
                heights.append(r.median(x, own) / r.median(x, name))
        colour = _OURS if name == own else "#e59866" if ours else next(colours)
        axes.bar(offsets, heights, width, label=name, color=colour)
    axes.axhline(1, color="black", linewidth=0.5)
    axes.set_xticks(
        range(len(found)), [f"{x['shape']['name']}\nbatch {x['batch']}" for x in found], rotation=90, fontsize=7
    )
    axes.set(ylabel=f"speed, {own} = 1", title=f"{kind.replace('_', ' ')}, {mode}")
    axes.legend(fontsize=8, ncols=2)
    figure.savefig(path, dpi=120)
    pyplot.close(figure)
    return True
